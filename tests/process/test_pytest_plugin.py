"""The pytest plugin in test runs of its own: reports, and the end of the servers."""

import os
import re
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.process.running import Running
from tests.process.starts import finish
from tests.timeouts import SESSION_TIMEOUT, TIMEOUT

PYTEST = [
    *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:twisted"),
    *("-pno:anyio", "-pno:asyncio", "-pno:hypothesispytest"),
]

HEAD = """
import os
import signal
import socket
import threading

import netsrv.fixture.process
import pytest

from netsrv.fixture.plugin import start_server


def talk(server):
    with socket.create_connection(server.address) as sock:
        sock.sendall(b"hello")
        assert sock.recv(5) == b"hello"


def note(server):
    print("server", server.process.pid, flush=True)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a folder with a user's test project."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


def write(project: Path, source: str) -> None:
    """Write the module of tests."""
    (project / "test_client.py").write_text(HEAD + source)


def run(project: Path, *options: str) -> tuple[int, str]:
    """Run the project's tests, and return the exit status and the output."""
    done = finish([*PYTEST, *options], project, timeout=SESSION_TIMEOUT)
    return done.returncode, done.stdout + done.stderr


@contextmanager
def ending(shown: str) -> Iterator[None]:
    """Check that the servers whose ids *shown* has are gone after the block."""
    pids = [int(pid) for pid in re.findall(r"server (\d+)", shown)]
    assert pids
    handles = [os.pidfd_open(pid) for pid in pids]
    try:
        yield
        for handle in handles:
            assert select.select([handle], [], [], TIMEOUT)[0], "a server is still running"
    finally:
        for handle in handles:
            os.close(handle)


# Reports


def test_a_failing_test_shows_the_servers_log(project):
    """The report has the log of each server of the test, and of no other."""
    write(
        project,
        """
def test_good(netsrv_server):
    talk(netsrv_server("echo"))

def test_bad(netsrv_server):
    server = netsrv_server("echo")
    talk(server)
    server.stop()
    netsrv_server("daytime")
    assert 1 == 2
""",
    )
    status, shown = run(project)
    assert status == 1
    assert "1 failed, 1 passed" in shown
    assert "Log of netsrv server echo" in shown
    assert "Log of netsrv server daytime" in shown
    assert shown.count("Got connection from 127.0.0.1:") == 1
    assert shown.count("Waiting for connections on tcp 127.0.0.1:") == 2


def test_a_run_without_failures_shows_no_log(project):
    """Logs of servers are neither shown nor kept if all tests pass."""
    write(
        project,
        """
def test_good(netsrv_server):
    talk(netsrv_server("echo"))

def test_forgotten():
    assert netsrv.fixture.process.servers == []
""",
    )
    status, shown = run(project)
    assert status == 0
    assert "Got connection" not in shown


def test_a_mistake_is_shown_in_one_line_at_the_place_of_the_call(project):
    """The report shows the test's own line and the message, and no frame of netsrv."""
    write(project, "def test_bad(netsrv_server):\n    netsrv_server('nix')\n")
    status, shown = run(project)
    assert status == 1
    errors = [line for line in shown.splitlines() if line.startswith("E ")]
    assert len(errors) == 1
    assert (
        "netsrv.fixture.ServerError: netsrv_server: there is no service 'nix'; there" in errors[0]
    )
    assert ">       netsrv_server('nix')" in shown or ">   netsrv_server('nix')" in shown
    assert "/netsrv/fixture/" not in shown


def test_a_server_for_a_whole_session(project):
    """One server serves many tests; a failing one shows the log of its own time."""
    write(
        project,
        """
@pytest.fixture(scope="session")
def echo():
    with start_server("echo") as server:
        yield server

def test_first(echo):
    talk(echo)

def test_second(echo):
    talk(echo)
    assert len(echo.connections) == 2
    assert 1 == 2
""",
    )
    status, shown = run(project)
    assert status == 1
    assert "1 failed, 1 passed" in shown
    assert shown.count("Got connection from") == 1
    assert "Waiting for connections" not in shown


def test_asynchronous_tests_and_the_report_of_a_mismatch(project):
    """``async def`` tests work with pytest-asyncio; a script's mismatch is in the report."""
    write(
        project,
        """
import asyncio
from netsrv.fixture import expect, reply

@pytest.mark.asyncio
async def test_good(netsrv_server):
    server = netsrv_server("echo")
    reader, writer = await asyncio.open_connection(server.host, server.port)
    await server.async_wait_for_connections(1)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    writer.close()

@pytest.mark.asyncio
async def test_bad(netsrv_server):
    server = netsrv_server.script(expect(b"PING"), reply(b"PONG"))
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(b"PONG")
    try:
        assert await reader.read() == b"PONG"
    finally:
        writer.close()

def test_worse(netsrv_server):
    netsrv_server.script(expect("PING"))
""",
    )
    with_asyncio = [option for option in PYTEST if option != "-pno:asyncio"]
    done = finish([*with_asyncio, "-p", "no:xdist"], project, timeout=SESSION_TIMEOUT)
    assert done.returncode == 1
    assert "2 failed, 1 passed" in done.stdout
    [mismatch] = re.findall("script: connection 1 from 127.0.0.1.*", done.stdout)
    assert mismatch.endswith("step 1: expected b'PING', got b'PONG'")
    assert "E       TypeError: expect('PING'): b'PING' would be right, bytes" in done.stdout
    assert "/netsrv/fixture/" not in done.stdout


def test_with_xdist(project):
    """Four worker processes have a server each, at the same time."""
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    write(
        project,
        """
@pytest.mark.parametrize("number", range(8))
def test_many(number, netsrv_server):
    server = netsrv_server("echo")
    talk(server)
    assert server.received == [b"hello"]
    assert number != 5
""",
    )
    status, shown = run(project, "-n", "4")
    assert status == 1
    assert "1 failed, 7 passed" in shown
    assert shown.count("Got connection from") == 1


def test_it_can_be_left_out(project):
    """``-p no:netsrv`` disables the plugin."""
    write(project, "def test_none(netsrv_server):\n    pass\n")
    status, shown = run(project, "-p", "no:netsrv")
    assert status == 1
    assert "fixture 'netsrv_server' not found" in shown


# The end of a server

BODY = """
def test_some(netsrv_server):
    server = netsrv_server("echo")
    note(server)
    talk(server)
    {}
"""


def gone(pid: int) -> bool:
    """Return whether a process has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize(
    ("last", "status"), [("", 0), ("assert 1 == 2", 1), ("pytest.exit('enough')", 2)]
)
def test_a_server_is_gone_when_the_run_is_over(last, status, project):
    """A test that passes, fails or exits leaves no server behind."""
    write(project, BODY.format(last))
    ended, shown = run(project, "-s")
    assert ended == status
    [pid] = re.findall(r"server (\d+)", shown)
    assert gone(int(pid))


WAITS = "print('here', flush=True); threading.Event().wait()"


def test_an_interrupted_run_ends_its_servers(project):
    """Servers ignore Control-C, which the terminal sends to them too; the fixture ends them."""
    write(
        project,
        """
@pytest.fixture
def echo(netsrv_server):
    server = netsrv_server("echo")
    yield server
    talk(server)
    print("talked\\n" + server.log, flush=True)

def test_some(echo):
    note(echo)
    print("here", flush=True)
    threading.Event().wait()
""",
    )
    with Running([*PYTEST, "-s"], project, start_new_session=True) as running:
        running.wait_for("^here")
        with ending(running.output):
            os.killpg(running.process.pid, signal.SIGINT)
            assert running.wait() == 2
    running.wait_for("^talked")
    assert running.output.count("Got connection from") == 1
    assert "Unexpected error" not in running.output


@pytest.mark.parametrize("kind", ["SIGKILL", "SIGSEGV", "SIGTERM"])
def test_a_run_that_is_killed_ends_its_servers(kind, project):
    """A server notices that pytest is gone, whatever ended it."""
    write(project, BODY.format(WAITS))
    with Running([*PYTEST, "-s", "-p", "no:faulthandler"], project) as running:
        running.wait_for("^here")
        with ending(running.output):
            assert running.stop(signal.Signals[kind]) == -signal.Signals[kind]


def test_a_run_that_is_killed_during_a_start(project):
    """A server that is not ready yet ends as well."""
    os.mkfifo(project / "fifo")
    (project / "slow.py").write_text(
        "import os, threading\n"
        "with open('fifo', 'w') as fifo:\n"
        "    print('server', os.getpid(), file=fifo)\n"
        "threading.Event().wait()\n"
    )
    write(project, "def test_some(netsrv_server):\n    netsrv_server('slow:service')\n")
    with Running(PYTEST, project) as running, ending((project / "fifo").read_text()):
        assert running.stop(signal.SIGKILL) == -signal.SIGKILL


# Faults


def test_a_fault_ends_with_its_test_and_the_report_has_its_seed(project):
    """That of a test ends with it, also at a shared server; that of a fixture stays."""
    write(
        project,
        """
@pytest.fixture(scope="module")
def echo():
    with start_server("echo") as server:
        server.noop(name="kept")
        yield server

def test_first(echo):
    echo.limit_data(2, probability=0)
    echo.noop()

def test_second(echo):
    talk(echo)
    assert echo.hits("kept") == 1, "the fault of the fixture has not seen the connection"
    echo.noop(seed=4711)
    echo.reset_all()
    echo.noop(seed=4712, name="kept")
    assert 1 == 2

def test_third(echo):
    echo.noop(name="kept")
""",
    )
    status, shown = run(project)
    assert status == 1
    assert "1 failed, 2 passed" in shown
    assert "assert 1 == 2" in shown
    assert re.findall(r"is active .*,seed=(\d+)", shown) == ["4711", "4712"]
