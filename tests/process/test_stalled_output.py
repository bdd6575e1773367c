"""A log that is not read: standard output and error that accept nothing."""

import fcntl
import os
import re
import select
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.clients import exchange, tcp, visit
from tests.process import thirdparty
from tests.process.starts import SERVE, TWIST, TWISTD, Start, each_start, located
from tests.timeouts import TIMEOUT

pytestmark = pytest.mark.version_independent

WAITING = rb"Waiting for connections on tcp 127\.0\.0\.1:(\d+) \(\w+\)\r?\n"
LOST = rb"(\d+) lines? of the log (?:was|were) lost before this one"

LOGGER = Start(("twistd", "-n", "--pidfile=", "--logger=acme_log.observer", "netsrv"))
"""twistd with an observer of the user's own."""


class StalledServer:
    """A server whose standard output and error are the writing end of *pipe*."""

    def __init__(self, command: list[str], cwd: Path, pipe: tuple[int, int], **popen) -> None:
        self.reader, self.writer = pipe
        self.process = subprocess.Popen(
            located(command),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            **{"stdout": self.writer, "stderr": self.writer, **popen},
        )
        self.output = b""

    def read_until(self, pattern: bytes) -> re.Match[bytes]:
        """Read output until it matches, and no further."""
        deadline = time.monotonic() + TIMEOUT
        while (match := re.search(pattern, self.output)) is None:
            ready, _, _ = select.select([self.reader], [], [], deadline - time.monotonic())
            assert ready, self.output
            self.output += os.read(self.reader, 1)
        return match

    def read_rest(self) -> None:
        """Read what has been written so far."""
        while select.select([self.reader], [], [], 0)[0]:
            self.output += os.read(self.reader, 65536)


@contextmanager
def stalled(command: list[str], cwd: Path, terminal: bool = False, **popen) -> Iterator:
    """Start a server with a full pipe, or a terminal that is not read, as its output."""
    pipe = os.openpty() if terminal else os.pipe()
    if not terminal:
        fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, 4096)
    server = StalledServer(command, cwd, pipe, **popen)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait(TIMEOUT)
        for descriptor in pipe:
            os.close(descriptor)


@pytest.mark.parametrize("start", [SERVE, TWISTD, TWIST, LOGGER], ids=lambda s: " ".join(s.command))
def test_f114_a_full_pipe_keeps_no_peer_from_being_served(start, tmp_path):
    """Peers are served while the log is not read; then it has the number of lost lines."""
    (tmp_path / "acme_log.py").write_text(
        "import sys\n"
        "from twisted.logger import textFileLogObserver\n"
        "def observer():\n"
        "    return textFileLogObserver(sys.stdout)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [*start.command, "--tcp", "echo=127.0.0.1:0", "--udp", "127.0.0.1:0"]
    command += ["--log-rate", "10000"]
    with stalled(command, tmp_path, env=env) as server:
        port = int(server.read_until(WAITING)[1])
        for _ in range(200):
            assert visit(port, b"x") == b"x"
        server.read_rest()
        assert visit(port, b"x") == b"x"
        assert int(server.read_until(LOST)[1]) > 100
        server.process.terminate()
        assert server.process.wait(TIMEOUT) == start.drained


@pytest.mark.parametrize("start", [SERVE, TWISTD], ids=str)
@pytest.mark.parametrize("stopped", [True, False], ids=["stopped", "not read"])
def test_f114_a_terminal_that_accepts_nothing(start, stopped, tmp_path):
    """Peers are served although the terminal was stopped by Ctrl-S, or its program hangs."""
    command = [*start.command, "--log-rate", "100000", "--tcp", "echo=127.0.0.1:0"]
    with stalled(command, tmp_path, terminal=True) as server:
        port = int(server.read_until(WAITING)[1])
        if stopped:
            termios.tcflow(server.writer, termios.TCOOFF)
        for _ in range(50 if stopped else 1500):
            assert visit(port, b"x") == b"x"
        if stopped:
            termios.tcflow(server.writer, termios.TCOON)
        server.read_rest()
        assert visit(port, b"x") == b"x"
        assert int(server.read_until(LOST)[1]) > 0
        server.process.terminate()
        assert server.process.wait(TIMEOUT) == start.drained


@each_start
def test_f114_signals_end_a_server_whose_log_is_not_read(start, tmp_path):
    """A first SIGTERM drains, and a second one aborts the connections that are left."""
    options = ["--shutdown-timeout", "3600", "--tcp", "echo=127.0.0.1:0"]
    with stalled([*start.command, *options], tmp_path) as server:
        port = int(server.read_until(WAITING)[1])
        for _ in range(100):
            assert visit(port, b"x") == b"x"
        with tcp(port) as client:
            assert exchange(client, b"hello") == b"hello"
            server.process.terminate()
            while refused(port) is None:
                pass
            server.process.terminate()
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        status = 3 if start is SERVE else -signal.SIGTERM
        assert server.process.wait(TIMEOUT) == status


def refused(port: int) -> bool | None:
    """Return True if a connection is refused."""
    with suppress(OSError), tcp(port):
        return None
    return True


@each_start
def test_f114_a_traceback_that_a_service_prints(start, tmp_path):
    """A service that prints to standard error, which is not read, blocks nothing."""
    body = """
    import traceback
    class Printing(Protocol):
        def connectionMade(self):
            try:
                raise RuntimeError("no luck today")
            except RuntimeError:
                traceback.print_exc()
            self.transport.loseConnection()
    printing = Service("printing", Printing)
    """
    thirdparty.services(tmp_path, body)
    env = {**os.environ, **thirdparty.on_path(tmp_path)}
    command = [*start.command, "--tcp", "printing=127.0.0.1:0"]
    with stalled(command, tmp_path, env=env) as server:
        port = int(server.read_until(WAITING)[1])
        for _ in range(100):
            assert visit(port) == b""
        server.process.terminate()
        assert server.process.wait(TIMEOUT) == start.drained


def test_f114_the_access_log_on_standard_output(tmp_path):
    """The access log on a pipe that is not read loses lines too, and blocks nothing."""
    options = ["--access-log", "-", "--tcp", "echo=127.0.0.1:0"]
    with stalled([*SERVE.command, *options], tmp_path) as server:
        port = int(server.read_until(WAITING)[1])
        for _ in range(200):
            assert visit(port, b"x") == b"x"
        server.process.terminate()
        assert server.process.wait(TIMEOUT) == 0
