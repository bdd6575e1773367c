"""The load generator of ``bench/`` counts right, and notices what is wrong."""

import os
import re
import signal
import socket
import socketserver
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from select import select

import pytest

from bench.processes import Load, LoadError, compile_programs
from bench.rows import ROWS, C, Row
from bench.turns import KINDS, Loaded
from tests.checkout import TOP
from tests.process.needs import tool
from tests.process.running import Running
from tests.process.starts import finish
from tests.timeouts import TIMEOUT


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Give the folder with the compiled programs."""
    tool("cc")
    folder = tmp_path_factory.mktemp("programs")
    assert compile_programs(folder) is None
    return folder


@contextmanager
def served(server: socketserver.BaseServer):
    """Give the port of a server that runs in a thread."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join(TIMEOUT)
        server.server_close()


def load(programs: Path, mode: str, port: int, *words: int) -> Load:
    """Start the load generator."""
    return Load(programs / "load", [mode, "127.0.0.1", str(port), *map(str, words)])


def row(name: str) -> Row:
    """Give a row by its name."""
    return next(each for each in ROWS if each.name == name)


@pytest.mark.parametrize("name", [each.name for each in ROWS if each.kind == "load"])
def test_every_mode_moves_what_it_says(programs, name):
    """Under each load the loop in C has work, loses nothing, and each turn has its figures."""
    one = KINDS["load"](C, row(name), "127.0.0.1", programs)
    assert isinstance(one, Loaded)
    try:
        first, second = one.turn(0.02), one.turn(0.02)
    finally:
        one.close()
    for figures in (first, second):
        assert figures["amount"] > 0
        assert figures["lost"] == 0
        assert 0 < figures["server_busy"] <= 1


def test_lost_datagrams_are_counted_and_not_waited_for(programs):
    """Of nine datagrams every third is dropped, the last one too: three are lost."""

    class Lossy(socketserver.BaseRequestHandler):
        seen = 0

        def handle(self) -> None:
            data, sock = self.request
            Lossy.seen += 1
            if Lossy.seen % 3:
                sock.sendto(data, self.client_address)

    with (
        served(socketserver.UDPServer(("127.0.0.1", 0), Lossy)) as port,
        load(programs, "datagrams", port, 1, 64, 9, 64) as running,
    ):
        done = running.run(0)
    assert (done["operations"], done["lost"]) == (6, 3)


@pytest.mark.parametrize(
    ("answer", "error_text_of"),
    [
        (lambda data: data[:-1] + b"?", "what came back is not what was sent"),
        (lambda data: b"", "the server has closed a connection"),
    ],
)
def test_a_wrong_echo_ends_the_load(programs, answer, error_text_of):
    """An echo that is none is no figure but an error."""

    class Wrong(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(answer(self.request.recv(64)))

    with (
        served(socketserver.TCPServer(("127.0.0.1", 0), Wrong)) as port,
        load(programs, "exchange", port, 1, 64, 1, 64) as running,
        pytest.raises(LoadError, match=error_text_of),
    ):
        running.run(0)


def test_nobody_there_is_an_error(programs):
    """A port that refuses is told with the system's words."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        with pytest.raises(LoadError, match="connect: Connection refused"):
            load(programs, "exchange", port, 1, 64, 1, 64)


MEASURING = """
import signal, sys
from pathlib import Path
from bench.rows import OURS, ROWS
from bench.turns import Loaded

one = Loaded(OURS, ROWS[0], "127.0.0.1", Path(sys.argv[1]))
print("children", one.server.process.pid, one.load.pid, flush=True)
signal.pause()
"""


def test_who_is_killed_leaves_no_process(programs):
    """The server and the load end with the measurement, though it cannot say goodbye."""
    with Running([sys.executable, "-c", MEASURING, str(programs)], TOP) as run:
        found = run.wait_for(r"children (\d+) (\d+)")
        descriptors = [os.pidfd_open(int(each)) for each in found.groups()]
        assert run.stop(signal.SIGKILL) == -signal.SIGKILL
    for each in descriptors:
        ended, _, _ = select([each], [], [], TIMEOUT)
        os.close(each)
        assert ended


def test_a_profile_counts_calls_and_shares():
    """The loop in C receives once and sends once for each message, and most of it is the kernel."""
    tool("perf")
    tool("cc")
    command = "bench.profile echo --of C --seconds 0.05 --top 3"
    done = finish([sys.executable, "-m", *command.split()], TOP)
    assert done.returncode == 0, done.stderr
    if "C: perf: " in done.stdout:
        pytest.skip(f"perf may not watch here: {done.stdout.splitlines()[-1]}")
    assert re.search(r"system calls each: .*\brecvfrom 1\.0", done.stdout)
    assert re.search(r"µs +\d+\.\d% kernel$", done.stdout, re.MULTILINE)
