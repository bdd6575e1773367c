"""Third-party services."""

import re
import signal
from pathlib import Path

import pytest

from tests.clients import exchange, talk, tcp, udp
from tests.process import needs, thirdparty
from tests.process.running import Running
from tests.process.starts import SERVE, TWISTD, each_start, finish, only_line

pytestmark = pytest.mark.version_independent

GREETING = b"hello from Acme\n"

GREET = 'greet = Service("greet", Greeting)\n'
"""A module with one service that works."""


def listed(cwd: Path, env: dict[str, str]) -> dict[str, str]:
    """Return the text of ``--list-services`` for each service, by name."""
    done = finish([*SERVE.command, "--list-services"], cwd, env)
    assert done.returncode == 0
    return dict(line.split(maxsplit=1) for line in done.stdout.splitlines())


# What works


@each_start
def test_is_served(start, tmp_path, serve):
    """A third-party service on PYTHONPATH is served like a built-in one."""
    thirdparty.services(tmp_path, GREET)
    env = thirdparty.on_path(tmp_path)
    server = serve("--tcp", "greet=0", "--udp", "echo=0", start=start, env=env)
    server.wait_for(r"Waiting for connections on tcp 0\.0\.0\.0:\d+ \(greet\)$")
    assert talk(tcp(server.port("tcp")), b"") == GREETING
    with udp(server.port("udp")) as client:
        assert exchange(client, b"hello") == b"hello"


def test_is_listed(tmp_path):
    """A third-party service is listed with its transports and its description."""
    thirdparty.services(tmp_path, GREET)
    services = listed(tmp_path, thirdparty.on_path(tmp_path))
    assert re.fullmatch(r"tcp udp +greet by Acme", services["greet"])
    assert "echo" in services


def test_a_changed_module_is_read_again(tmp_path):
    """A service added to a module that is in the plugin cache is found."""
    env = thirdparty.on_path(tmp_path)
    thirdparty.services(tmp_path, GREET)
    assert "greet" in listed(tmp_path, env)
    thirdparty.services(tmp_path, 'part = Service("part", Greeting)\n')
    services = listed(tmp_path, env)
    assert "part" in services
    assert "greet" not in services


# What does not


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ('raise RuntimeError("no luck today")', "RuntimeError: no luck today"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def broken(:", "SyntaxError: "),
        ('raise SystemExit("stop here")', "SystemExit: stop here"),
    ],
)
def test_f109_module_that_fails_to_import(fault, words, tmp_path, serve):
    """A line has its path and the exception, at level debug a traceback; the rest works."""
    thirdparty.services(tmp_path, GREET)
    path = thirdparty.module(tmp_path, "acme_broken", fault)
    env = thirdparty.on_path(tmp_path)
    server = serve("--tcp", "greet=0", "--log-level", "debug", env=env)
    server.wait_for("debug: Unhandled Error$")
    assert talk(tcp(server.port("tcp")), b"") == GREETING
    server.wait_for(rf"plugin module {path} cannot be imported: {words}")


def test_f109_module_that_fails_to_import_under_twistd(tmp_path, serve):
    """Under twistd, which imports plugins itself, the line stands in the log as well."""
    path = thirdparty.module(tmp_path, "acme_broken", 'raise RuntimeError("no luck today")')
    env = thirdparty.on_path(tmp_path)
    server = serve("--tcp", "echo=0", start=TWISTD, env=env)
    assert talk(tcp(server.port("tcp")), b"hello") == b"hello"
    line = rf"plugin module {path} cannot be imported: RuntimeError: no luck today$"
    server.wait_for(line)


@each_start
@pytest.mark.parametrize("surprise", ["KeyboardInterrupt", "GeneratorExit", "BaseException('x')"])
def test_f134_module_that_raises_no_exception(surprise, start, tmp_path, serve):
    """Whatever a module raises, at the start and at a reload: one line names it, the rest works."""
    (tmp_path / "n.toml").write_text('[[listener]]\nservice = "echo"\ntcp = "127.0.0.1:0"\n')
    path = thirdparty.module(tmp_path, "acme_broken", f"raise {surprise}")
    server = serve("-c", "n.toml", start=start, env=thirdparty.on_path(tmp_path))
    port = server.port("tcp")
    line = rf"(?:\]|warn:) plugin module {path} cannot be imported: {surprise.split('(')[0]}: "
    server.wait_for(line)
    server.process.send_signal(signal.SIGHUP)
    server.wait_for("Reloaded: 1 listener as before, 0 changed")
    server.wait_for(line, 2)
    assert talk(tcp(port), b"hello") == b"hello"
    assert server.stop() == start.drained


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def broken(:", "cannot be imported: SyntaxError: invalid syntax (acme.py, line 1)"),
        (
            "import no_such_module",
            "cannot be imported: ModuleNotFoundError: No module named 'no_such_module'",
        ),
        ("class Hello: pass", "has no service in it"),
    ],
    ids=["syntax", "import", "empty"],
)
def test_a_missing_service_has_its_reason_at_every_start(source, reason, tmp_path):
    """One line names the module that may be the reason, also once Twisted has a cache of it."""
    path = thirdparty.module(tmp_path, "acme", source)
    for _ in range(2):
        done = finish([*SERVE.command, "--tcp", "hello=0"], tmp_path, thirdparty.on_path(tmp_path))
        assert done.returncode == SERVE.misconfigured
        assert only_line(done) == (
            "netsrv: tcp 0.0.0.0:0: there is no service 'hello'; there are accept, agent, chargen, "
            f"daytime, discard, echo, forward, info, qotd, time; plugin module {path} {reason}"
        )


def test_what_a_plugin_says_is_one_line(tmp_path, serve):
    """Line breaks in an exception do not break the line about its module."""
    path = thirdparty.module(tmp_path, "acme_broken", r'raise RuntimeError("one\ntwo")')
    env = thirdparty.on_path(tmp_path)
    server = serve("--tcp", "echo=0", env=env)
    server.port("tcp")
    server.wait_for(rf"plugin module {path} cannot be imported: RuntimeError: one.*two")


def test_f109_two_services_of_one_name(tmp_path, serve):
    """Two services of one name are both logged, and one of them is served."""
    thirdparty.services(tmp_path, GREET, "acme_one")
    thirdparty.services(tmp_path, GREET, "acme_two")
    env = thirdparty.on_path(tmp_path)
    server = serve("--tcp", "greet=0", env=env)
    assert talk(tcp(server.port("tcp")), b"") == GREETING
    line = server.wait_for(r"(?:\]|warn:) two services are named 'greet': (.*)$")[1]
    assert "twisted.plugins.acme_one" in line
    assert "twisted.plugins.acme_two" in line


def test_a_service_of_ours_is_not_replaced_in_silence(tmp_path, serve):
    """A third-party service named ``echo`` is logged, beside the built-in one."""
    thirdparty.services(tmp_path, 'echo = Service("echo", Greeting)\n')
    env = thirdparty.on_path(tmp_path)
    server = serve("--tcp", "echo=0", env=env)
    line = server.wait_for(r"(?:\]|warn:) two services are named 'echo': (.*)$")[1]
    assert "twisted.plugins.acme_services" in line
    assert "twisted.plugins.netsrv_services" in line


@pytest.mark.parametrize(
    "fault",
    [
        "Service(None)",
        "Service(7)",
        "Service(['list'])",
        "Service('without description'); del odd.description",
        "Service('two\\nlines')",
    ],
)
def test_odd_service(fault, tmp_path):
    """A service without a proper name or description does not hide the others in the list."""
    thirdparty.services(tmp_path, f"{GREET}odd = {fault}\n")
    env = thirdparty.on_path(tmp_path)
    assert {"echo", "greet"} <= listed(tmp_path, env).keys()
    done = finish([*SERVE.command, "--tcp", "nosuch=0"], tmp_path, env)
    assert done.returncode == SERVE.misconfigured
    assert "there is no service 'nosuch'; there are accept, " in only_line(done)


# Services that fail to start


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        ('raise ValueError("no luck today")', "ValueError: no luck today"),
        ("return None", "greet"),
    ],
)
def test_service_without_a_factory(stream, words, tmp_path):
    """A service that returns no factory fails the start with one line."""
    body = f"""
    class Faulty(Service):
        def stream(self, settings):
            {stream}
    greet = Faulty("greet")
    """
    thirdparty.services(tmp_path, body)
    options = ["--unix", "echo=echo.sock", "--tcp", "greet=0"]
    done = finish([*SERVE.command, *options], tmp_path, thirdparty.on_path(tmp_path))
    assert done.returncode == SERVE.misconfigured
    line = only_line(done)
    assert line.startswith("netsrv: tcp 0.0.0.0:0: ")
    assert words in line
    assert not (tmp_path / "echo.sock").exists()


@pytest.mark.parametrize(("start", "status"), [(SERVE, 70), (TWISTD, 1)])
def test_factory_that_does_not_start(start, status, tmp_path):
    """A factory that raises in startFactory fails the start, and no socket file is left."""
    body = """
    class Faulty(Service):
        def stream(self, settings):
            factory = super().stream(settings)
            factory.startFactory = self.fail
            return factory
        def fail(self):
            raise RuntimeError("no luck today")
    greet = Faulty("greet", Greeting)
    """
    thirdparty.services(tmp_path, body)
    options = ["--unix", "echo=echo.sock", "--tcp", "greet=0"]
    done = finish([*start.command, *options], tmp_path, thirdparty.on_path(tmp_path))
    assert done.returncode == status
    assert "RuntimeError: no luck today" in done.stdout + done.stderr
    assert not (tmp_path / "echo.sock").exists()


# Where plugins are found


@pytest.mark.parametrize("start", [SERVE, TWISTD], ids=str)
def test_f110_the_current_directory_is_no_place_for_plugins(start, tmp_path):
    """A plugin in the current directory is neither imported nor served."""
    marker = tmp_path / "imported"
    body = f"open({str(marker)!r}, 'w').close()\n{GREET}"
    thirdparty.services(tmp_path, body)
    done = finish([*start.command, "--tcp", "greet=0"], tmp_path, {"PYTHONPATH": ""})
    assert done.returncode == start.misconfigured
    assert "there is no service 'greet'" in only_line(done)
    assert not marker.exists()


def test_f109_cache_that_cannot_be_written(tmp_path):
    """A read-only plugin directory is logged, and everything is served."""
    path = thirdparty.services(tmp_path, GREET)
    path.parent.chmod(0o555)
    command = [*needs.powerless(), *SERVE.located, "--tcp", "greet=0"]
    with Running(command, tmp_path, thirdparty.on_path(tmp_path)) as server:
        assert talk(tcp(server.port("tcp")), b"") == GREETING
        server.wait_for(rf"Unable to write to plugin cache {path.parent}/dropin\.cache")
        assert server.stop() == 0
        assert "Traceback" not in server.output
    assert not (path.parent / "dropin.cache").exists()


def test_cache_that_is_damaged(tmp_path, serve):
    """A damaged plugin cache is ignored."""
    path = thirdparty.services(tmp_path, GREET)
    (path.parent / "dropin.cache").write_bytes(b"\x80garbage")
    server = serve("--tcp", "greet=0", env=thirdparty.on_path(tmp_path))
    assert talk(tcp(server.port("tcp")), b"") == GREETING
    assert "Traceback" not in server.output


@pytest.mark.parametrize("options", [["--list-services"], ["--tcp", "127.0.0.1:0", "--check"]])
def test_list_services_and_check_report_a_broken_module(options, tmp_path):
    """--list-services and --check report a module that does not import."""
    path = thirdparty.module(tmp_path, "acme_broken", 'raise RuntimeError("no luck today")')
    done = finish([*SERVE.command, *options], tmp_path, thirdparty.on_path(tmp_path))
    assert done.returncode == 0
    line = f"netsrv: plugin module {path} cannot be imported: RuntimeError: no luck today\n"
    assert line in done.stderr
    assert "echo" in done.stdout or "SO_REUSEADDR" in done.stdout


def test_a_service_of_ours_keeps_its_name(tmp_path, serve):
    """A third-party service named ``echo`` does not replace the built-in one."""
    thirdparty.services(tmp_path, 'echo = Service("echo", Greeting)\n')
    env = thirdparty.on_path(tmp_path)
    server = serve("--tcp", "echo=0", env=env)
    assert talk(tcp(server.port("tcp")), b"hello") == b"hello"
