"""Signals in the first and the last moments of a server, and under nohup."""

import os
import signal

import pytest

from tests.clients import talk, tcp
from tests.process import needs
from tests.process.running import Running
from tests.process.starts import SERVE, TWISTD

pytestmark = pytest.mark.version_independent

ENDING = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
EVERY = [*ENDING, signal.SIGUSR1]

MODULES = ["twisted.python.usage", "netsrv.config.model", "uvloop", "netsrv.server.server"]
"""Modules that a start imports, early and late."""

AT_IMPORT = """
import os, sys

class SendsSignal:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), {number})

sys.meta_path.insert(0, SendsSignal())
"""

AT_EXIT = """
import atexit, os
atexit.register(os.kill, os.getpid(), {number})
"""

AT_TEARDOWN = """
import os

class SendsSignal:
    def __del__(self, kill=os.kill, pid=os.getpid()):
        kill(pid, {number})

last = SendsSignal()
"""


def customized(folder, source: str, **values) -> dict[str, str]:
    """Return the environment in which Python runs *source* before anything else."""
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(source.format(**values))
    return {"PYTHONPATH": str(folder / "site")}


@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize("module", MODULES)
def test_f126_a_signal_during_the_imports_ends_it(module, number, tmp_path, serve):
    """The server ends with status 0, as with a signal that comes later."""
    env = customized(tmp_path, AT_IMPORT, module=module, number=int(number))
    with serve("--unix", "echo=echo.sock", env=env) as server:
        assert server.wait() == 0
    assert "Traceback" not in server.output
    assert not (tmp_path / "echo.sock").exists()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
@pytest.mark.parametrize("module", MODULES)
def test_f126_a_reload_or_a_rotation_during_the_imports(module, number, tmp_path, serve):
    """The server starts, and acts on the signal then."""
    (tmp_path / "n.toml").write_text('[[listener]]\nservice = "echo"\ntcp = "127.0.0.1:0"\n')
    env = customized(tmp_path, AT_IMPORT, module=module, number=int(number))
    server = serve("-c", "n.toml", "--access-log", "log", env=env)
    assert talk(tcp(server.port("tcp")), b"hello") == b"hello"
    if number == signal.SIGHUP:
        server.wait_for("Reloaded: 1 listener as before")
    assert server.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
@pytest.mark.parametrize("module", ["netsrv.config.toml", "netsrv.uvreactor.reactor"])
def test_f126_a_reload_or_a_rotation_while_twistd_starts(module, number, tmp_path, serve):
    """twistd goes on as soon as netsrv has its options."""
    (tmp_path / "n.toml").write_text('[[listener]]\nservice = "echo"\ntcp = "127.0.0.1:0"\n')
    env = customized(tmp_path, AT_IMPORT, module=module, number=int(number))
    server = serve("-c", "n.toml", "--access-log", "log", start=TWISTD, env=env)
    assert talk(tcp(server.port("tcp")), b"hello") == b"hello"
    if number == signal.SIGHUP:
        server.wait_for("Reloaded: 1 listener as before")
    assert server.stop() == -signal.SIGTERM


@pytest.mark.parametrize("number", EVERY)
@pytest.mark.parametrize("source", [AT_EXIT, AT_TEARDOWN], ids=["at exit", "at teardown"])
def test_f126_a_signal_in_the_last_moments(source, number, tmp_path, serve):
    """A signal after the end of the loop does not change the exit status."""
    env = customized(tmp_path, source, number=int(number))
    server = serve("--tcp", "echo=0", env=env)
    server.port("tcp")
    assert server.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_f126_a_signal_while_twistd_ends(number, tmp_path, serve):
    """twistd still ends by the signal that has stopped it."""
    env = customized(tmp_path, AT_IMPORT, module="netsrv.acme_not_there", number=int(number))
    (tmp_path / "site" / "acme_log.py").write_text(
        "import sys\n"
        "from twisted.logger import textFileLogObserver\n"
        "def observer():\n"
        "    log = textFileLogObserver(sys.stdout)\n"
        "    def observe(event):\n"
        "        log(event)\n"
        "        if event.get('log_format') in ('Server Shut Down.', 'Main loop terminated.'):\n"
        "            import importlib.util\n"
        "            importlib.util.find_spec('netsrv.acme_not_there')\n"
        "    return observe\n"
    )
    with Running(
        ["twistd", "-n", "--pidfile=", "--logger=acme_log.observer", "netsrv", "--tcp", "0"],
        tmp_path,
        env,
    ) as server:
        server.port("tcp")
        assert server.stop() == -signal.SIGTERM


@pytest.mark.parametrize("start", [SERVE, TWISTD], ids=str)
def test_f126_nohup_keeps_no_configuration_from_being_reloaded(start, tmp_path):
    """With --config SIGHUP reloads, also where the parent process had it ignored."""
    (tmp_path / "n.toml").write_text('[[listener]]\nservice = "echo"\ntcp = "127.0.0.1:0"\n')
    command = [needs.tool("nohup"), *start.located, "--config", "n.toml"]
    with Running(command, tmp_path) as server:
        server.port("tcp")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("Reloaded: 1 listener as before")
        assert server.stop() == start.drained


def test_f126_a_signal_ends_what_is_printed(tmp_path):
    """A command that prints ends by the signal, without a traceback."""
    reader, writer = os.pipe()
    env = customized(tmp_path, AT_IMPORT, module="uvloop", number=int(signal.SIGINT))
    command = [*SERVE.command, "--list-services"]
    with Running(command, tmp_path, env, stderr=writer) as server:
        os.close(writer)
        assert server.wait() in (0, -signal.SIGINT)
    with open(reader) as errors:
        assert errors.read() == ""
