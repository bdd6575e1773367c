"""Faults of the pytest fixture beside what tests do to their process: F144."""

import os
import re
import sys
import tempfile
import time
from pathlib import Path

import pytest

from netsrv.fixture import start_server
from netsrv.fixture.process import ServerError
from tests.clients import exchange, unix
from tests.process.starts import finish
from tests.timeouts import SESSION_TIMEOUT, TIMEOUT

pytestmark = pytest.mark.version_independent

PYTEST = [sys.executable, "-m", "pytest", "-q", *"-p no:cacheprovider -p no:twisted".split()]
PYTEST += "-p no:asyncio -p no:anyio -p no:hypothesispytest".split()
"""pytest without other plugins; the last two import trio, which eventlet's sockets break."""

TESTS = """
import socket
import threading

from netsrv.fixture import start_server


def test_tcp(netsrv_server):
    server = netsrv_server("echo")
    with socket.create_connection(server.address, 30) as client:
        client.sendall(b"hello")
        assert client.recv(5) == b"hello"
        assert server.received == [b"hello"]
        waiting = threading.Thread(target=server.wait_for_connections, args=(1, 30))
        waiting.start()
        waiting.join()
    assert server.connections[0].close_reason == "peer"
    assert "Got connection" in server.log


def test_end(netsrv_server):
    server = netsrv_server("discard", transport="udp")
    server.stop()
    assert server.process.returncode == 0
    assert server.received == []
"""

WITHOUT_CURRENT_DIRECTORY = [
    sys.executable,
    "-c",
    "import sys, pytest; sys.path.remove(''); sys.exit(pytest.main(sys.argv[1:]))",
    *PYTEST[3:],
]
"""pytest without the current directory on sys.path."""

SERVICE = """
import socket

from twisted.internet.protocol import Protocol

from netsrv.fixture import start_server


class Upper(Protocol):
    def dataReceived(self, data):
        self.transport.write(data.upper())


def check(server):
    with socket.create_connection(server.address, 30) as client:
        client.sendall(b"hello")
        assert client.recv(5) == b"HELLO"
"""

TEST_OF_SERVICE = """
import pytest


@pytest.mark.parametrize("given", ["service", "config"])
def test_upper(given, netsrv_server):
    name = f"{__name__}:Upper"
    config = f"[[listener]]\\nservice = '{name}'"
    check(netsrv_server(name) if given == "service" else netsrv_server(config=config))
"""

SCRIPT = """
if __name__ == "__main__":
    with start_server(f"{__name__}:Upper") as server:
        check(server)
    print("served")
"""


def run(command: list[str], project: Path, **environment: str) -> tuple[int, str]:
    """Run a command in a folder, and return the exit status and the output."""
    done = finish(command, project, environment, SESSION_TIMEOUT)
    return done.returncode, done.stdout + done.stderr


# Changes of the process


@pytest.mark.parametrize("timeout", ["0", "0.2", "60"])
def test_f144_default_timeout_of_sockets(timeout, tmp_path):
    """The fixture works with any default timeout of sockets, set before or by a test module."""
    (tmp_path / "conftest.py").write_text(f"import socket\nsocket.setdefaulttimeout({timeout})\n")
    (tmp_path / "test_it.py").write_text(TESTS)
    status, output = run(PYTEST, tmp_path)
    assert (status, "2 passed" in output) == (0, True), output


PATCHES = {
    "gevent": "from gevent import monkey; monkey.patch_all()",
    "gevent-without-threads": "from gevent import monkey; monkey.patch_all(thread=False)",
    "gevent-sockets": "from gevent import monkey; monkey.patch_socket()",
    "eventlet": "import eventlet; eventlet.monkey_patch()",
    "eventlet-without-threads": "import eventlet; eventlet.monkey_patch(thread=False)",
}


@pytest.mark.parametrize("patch", PATCHES)
@pytest.mark.parametrize("when", ["before", "after"])
def test_f144_monkey_patching(patch, when, tmp_path):
    """The fixture works with gevent and eventlet, imported before the plugin or after it."""
    pytest.importorskip(patch.partition("-")[0])
    (tmp_path / "patching.py").write_text(PATCHES[patch])
    (tmp_path / "test_it.py").write_text(f"import patching\n{TESTS}")
    command = PYTEST
    if when == "before":
        program = "import sys, patching, pytest; sys.exit(pytest.main(sys.argv[1:]))"
        command = [sys.executable, "-c", program, *PYTEST[3:]]
    status, output = run(command, tmp_path)
    assert (status, "2 passed" in output) == (0, True), output


def test_f144_a_test_module_that_patches_and_has_a_service(tmp_path):
    """A service works in a module that patches the server's process too when it is imported."""
    pytest.importorskip("gevent")
    patch = PATCHES["gevent"]
    (tmp_path / "test_it.py").write_text(f"{patch}\n{SERVICE}{TEST_OF_SERVICE}")
    status, output = run(PYTEST, tmp_path)
    assert (status, "2 passed" in output) == (0, True), output


REPLACED = """
import queue
import select
import socket
import subprocess
import threading


def fail(*arguments, **keywords):
    raise AssertionError("replaced by the test")


def test_replaced(netsrv_server, monkeypatch):
    for place, name in [
        (socket, "socket"),
        (socket, "socketpair"),
        (threading, "Thread"),
        (threading, "Event"),
        (queue, "SimpleQueue"),
        (select, "select"),
        (select, "poll"),
        (subprocess, "Popen"),
    ]:
        monkeypatch.setattr(place, name, fail)
    server = netsrv_server("echo")
    assert server.received == []
    server.stop()
"""


def test_f144_replaced_functions(tmp_path):
    """A test may replace functions of socket, threading, queue, select and subprocess."""
    (tmp_path / "test_it.py").write_text(REPLACED)
    status, output = run(PYTEST, tmp_path)
    assert (status, "1 passed" in output) == (0, True), output


# Old versions of pytest

OLD_PYTEST = """
import sys
import pytest

hookimpl = pytest.hookimpl
modern = dict(vars(pytest))

def old_hookimpl(function=None, hookwrapper=False, optionalhook=False, tryfirst=False,
                 trylast=False, specname=None):
    return hookimpl(function, hookwrapper, optionalhook, tryfirst, trylast, specname)

pytest.hookimpl = old_hookimpl
for name in ("Item", "StashKey", "TestReport"):
    delattr(pytest, name)
import netsrv.fixture.plugin
vars(pytest).update(modern)
sys.exit(pytest.main(sys.argv[1:]))
"""


def test_f144_old_pytest(tmp_path):
    """The plugin needs nothing that pytest 6 and pluggy 1.0 lack."""
    (tmp_path / "test_it.py").write_text(TESTS + "    raise AssertionError('at the end')\n")
    status, output = run([sys.executable, "-c", OLD_PYTEST, *PYTEST[3:]], tmp_path)
    assert (status, "1 failed, 1 passed" in output) == (1, True), output
    assert "Log of netsrv server discard" in output


# Services in modules that are not on sys.path


@pytest.mark.parametrize("mode", ["prepend", "append", "importlib"])
@pytest.mark.parametrize("name", ["test_it.py", "tests/test_it.py", "tests/unit/test_it.py"])
def test_f144_service_in_the_tests_own_module(name, mode, tmp_path):
    """The server's process finds the module of a test in each import mode and layout."""
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SERVICE + TEST_OF_SERVICE)
    status, output = run([*WITHOUT_CURRENT_DIRECTORY, f"--import-mode={mode}"], tmp_path)
    assert (status, "2 passed" in output) == (0, True), output


def test_f144_service_in_packages_with_relative_imports(tmp_path):
    """With importlib mode a test module in packages may import from its own package."""
    folder = tmp_path / "tests" / "unit"
    folder.mkdir(parents=True)
    for package in (folder, folder.parent):
        (package / "__init__.py").touch()
    (folder / "services.py").write_text(SERVICE)
    (folder / "test_it.py").write_text("from .services import *\n" + TEST_OF_SERVICE)
    status, output = run([*WITHOUT_CURRENT_DIRECTORY, "--import-mode=importlib"], tmp_path)
    assert (status, "2 passed" in output) == (0, True), output


def test_f144_the_module_of_the_test_comes_before_others_of_its_name(tmp_path):
    """The file that the test has imported is served, although sys.path has another one."""
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "test_it.py").write_text("Upper = None\n")
    (tmp_path / "test_it.py").write_text(SERVICE + TEST_OF_SERVICE)
    command = [*WITHOUT_CURRENT_DIRECTORY, "--import-mode=importlib", "test_it.py"]
    status, output = run(command, tmp_path, PYTHONPATH=str(tmp_path / "installed"))
    assert (status, "2 passed" in output) == (0, True), output


@pytest.mark.parametrize("command", [["script.py"], ["-m", "script"]], ids=["file", "module"])
def test_f144_service_in_a_script(command, tmp_path):
    """A script serves a class of its own, as ``__main__``."""
    (tmp_path / "script.py").write_text(SERVICE + SCRIPT)
    assert run([sys.executable, *command], tmp_path) == (0, "served\n")


def test_f144_service_in_a_script_beside_multiprocessing(tmp_path):
    """It is served too where Python imports multiprocessing at its start."""
    (tmp_path / "sitecustomize.py").write_text("import multiprocessing")
    (tmp_path / "script.py").write_text(SERVICE + SCRIPT)
    status = run([sys.executable, "script.py"], tmp_path, PYTHONPATH=str(tmp_path))
    assert status == (0, "served\n")


def test_f144_a_script_that_starts_a_server_when_it_is_imported(tmp_path):
    """A script without a guard fails with an error instead of starting servers for ever."""
    (tmp_path / "script.py").write_text(SERVICE + SCRIPT.replace("if __name__", "if 1 or __name__"))
    status, output = run([sys.executable, "script.py"], tmp_path)
    assert status == 1
    assert "start it only if __name__ == '__main__'" in output.splitlines()[-1]


def test_f144_service_in_a_module_without_a_file(tmp_path):
    """A class that was typed in cannot be served; the error says what can."""
    program = SERVICE + SCRIPT
    status, output = run([sys.executable, "-c", program], tmp_path)
    assert status == 1
    assert output.splitlines()[-1].endswith(
        "'__main__:Upper' cannot be used: __main__ has no file that the server's process can "
        "import: move the service to a module with a file"
    )


# Folders, processes and descriptors


def set_temporary_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the folder of temporary files of this process and its children."""
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))


def test_f144_unix_socket_with_a_long_temporary_folder(tmp_path, monkeypatch):
    """The path of a unix socket is short enough in any TMPDIR, and its folder is removed."""
    folder = tmp_path / ("x" * 128)
    folder.mkdir()
    set_temporary_folder(folder, monkeypatch)
    with start_server("echo", transport="unix") as server:
        with unix(Path(server.address)) as client:
            assert exchange(client, b"hello") == b"hello"
        assert server.received == [b"hello"]
    assert not os.path.exists(os.path.dirname(server.address))


@pytest.mark.parametrize(
    "failing",
    [
        {"max_connections": 0},
        {"service": "nix"},
        {"service": "nix:Nix"},
        {"socket_options": {"SO_NIX": 1}},
        {"backlog": "many"},
    ],
    ids=str,
)
def test_f144_a_start_that_fails_leaves_no_folder(failing, tmp_path, monkeypatch):
    """The folder of a unix socket is removed if the server does not start."""
    set_temporary_folder(tmp_path, monkeypatch)
    with pytest.raises(ServerError):
        start_server(**{"service": "echo", "transport": "unix", **failing})
    assert os.listdir(tmp_path) == []


def test_f144_a_process_that_cannot_be_started_leaves_nothing(tmp_path, monkeypatch):
    """Descriptors, threads and folders are released if no process can be started."""
    set_temporary_folder(tmp_path, monkeypatch)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nix"))
    descriptors, threads = os.listdir("/proc/self/fd"), os.listdir("/proc/self/task")
    with pytest.raises(FileNotFoundError):
        start_server("echo", transport="unix")
    assert os.listdir("/proc/self/fd") == descriptors
    assert os.listdir(tmp_path) == []
    deadline = time.monotonic() + TIMEOUT
    while os.listdir("/proc/self/task") != threads:  # the kernel removes a thread after its end
        assert time.monotonic() < deadline, "a thread is still running"
        os.sched_yield()


# The cost for other tests

SESSION = """
import socket
import time

import pytest
from twisted.internet.protocol import Protocol

from netsrv.fixture import start_server
from netsrv.fixture.{module} import {channel}


class Blocks(Protocol):
    def connectionMade(self):
        self.transport.getHandle().send(b"blocked")
        time.sleep(1000)


@pytest.fixture(scope="session", autouse=True)
def servers():
    with start_server(f"{{__name__}}:Blocks") as blocked, start_server("echo") as server:
        with socket.create_connection(blocked.address) as client:
            assert client.recv(7) == b"blocked"
            yield server


@pytest.fixture(scope="session", autouse=True)
def questions(servers):
    questions = []
    method = {channel}.{method}

    def noting(self, *arguments, **keywords):
        questions.append((arguments, keywords))
        return method(self, *arguments, **keywords)

    {channel}.{method} = noting
    return questions


@pytest.mark.parametrize("number", range(20))
def test_sends(number, servers, questions):
    with socket.create_connection(servers.address) as client:
        client.sendall(b"hello")
        assert client.recv(5) == b"hello"
    assert questions == []


def test_fails(servers):
    with socket.create_connection(servers.address):
        servers.wait_for_connections(21)
        assert 1 == 2


def test_fails_again():
    assert 1 == 2


def test_questions(questions):
    print(len(questions), "questions:", questions)
"""


def test_f144_a_session_wide_server_costs_other_tests_nothing(tmp_path):
    """Only a failing test asks the servers for their logs, and a blocked one only once."""
    names = {"module": "channel", "channel": "Channel", "method": "send"}
    (tmp_path / "test_it.py").write_text(SESSION.format(**names))
    status, output = run([*PYTEST, "-s"], tmp_path)
    assert (status, "2 failed, 21 passed" in output) == (1, True), output
    # wait_for_connections, two logs for the first failing test, and one for the second
    questions = re.search(r"^.*?(\d+) questions: (.*)", output, re.M)
    assert questions is not None
    assert questions[1] == "4", questions[2]
    assert "listener" not in questions[2].partition("count")[2]
    assert output.count("Got connection from") == 1


def test_f144_a_long_log_is_shown_from_the_beginning_of_the_test(tmp_path):
    """The report has the lines of the failing test only, also if the log is longer than a MiB."""
    (tmp_path / "noisy.py").write_text(
        "from twisted.internet.protocol import Protocol\n"
        "class Noisy(Protocol):\n"
        "    def dataReceived(self, data):\n"
        "        print('x' * 2_000_000 if data == b'long' else 'short')\n"
        "        self.transport.write(b'done')\n"
    )
    (tmp_path / "test_it.py").write_text(
        "import socket, pytest\n"
        "from netsrv.fixture import start_server\n"
        "@pytest.fixture(scope='session')\n"
        "def server():\n"
        "    with start_server('noisy:Noisy') as server:\n"
        "        yield server\n"
        "@pytest.mark.parametrize('data', [b'long', b'text'])\n"
        "def test_it(data, server):\n"
        "    with socket.create_connection(server.address) as client:\n"
        "        client.sendall(data)\n"
        "        assert client.recv(4) == b'done'\n"
        "    assert data == b'long'\n"
    )
    status, output = run(PYTEST, tmp_path)
    assert (status, "1 failed, 1 passed" in output) == (1, True), output
    assert "\nshort\n" in output
    assert "xxx" not in output
