"""The load generator of ``bench/`` counts correctly and reports wrong answers."""

import os
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
from bench.turns import KINDS, Loaded, Paced, pace
from tests.checkout import TOP
from tests.process.needs import tool
from tests.process.running import Running
from tests.timeouts import TIMEOUT

pytestmark = pytest.mark.version_independent


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Return the folder with the compiled programs."""
    tool("cc")
    folder = tmp_path_factory.mktemp("programs")
    assert compile_programs(folder) is None
    return folder


@contextmanager
def served(server: socketserver.BaseServer):
    """Run a server in a thread; yield its port."""
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
    """Return a row by its name."""
    return next(row for row in ROWS if row.name == name)


@pytest.mark.parametrize("name", [row.name for row in ROWS if row.kind == "load"])
def test_every_mode_moves_what_it_says(programs, name):
    """The loop in C does work under each load, loses nothing, and each turn has its figures."""
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


def test_times_of_planned_messages_count_from_the_plan(programs):
    """Of messages that are due at about the same time, most wait for the others before them."""

    class Echo(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while data := self.request.recv(64):
                self.request.sendall(data)

    with (
        served(socketserver.TCPServer(("127.0.0.1", 0), Echo)) as port,
        load(programs, "exchange", port, 1, 64, 1, 64) as running,
    ):
        done = running.run(2**-10, 2**20)
    assert done["operations"] == 1024
    assert done["p50"] / 1e6 > 0.05 * done["seconds"]
    assert done["p999"] / 1e6 > 0.5 * done["seconds"]


def test_half_of_what_the_slowest_sustains_is_planned(programs):
    """All contenders get the same rate, and keep to it."""
    contenders = [Paced(C, row("latency"), "127.0.0.1", programs) for _ in range(2)]
    try:
        rates = [one.turn(0.02)["rate"] for one in contenders]
        pace(contenders)
        figures = [one.turn(0.02) for one in contenders]
    finally:
        for one in contenders:
            one.close()
    assert [one.rate for one in contenders] == [min(rates) / 2] * 2
    for turn in figures:
        assert turn["amount"] == int(0.02 * min(rates) / 2)
        assert 0 < turn["p50"] <= turn["p99"] <= turn["p999"] == turn["value"]


def test_lost_datagrams_are_counted_and_not_waited_for(programs):
    """Of nine datagrams every third is dropped, the last one too: three are counted as lost."""

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
    ("answer", "message"),
    [
        (lambda data: data[:-1] + b"?", "what came back is not what was sent"),
        (lambda data: b"", "the server has closed a connection"),
    ],
)
def test_a_wrong_echo_ends_the_load(programs, answer, message):
    """A wrong answer is an error, not a figure."""

    class Wrong(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(answer(self.request.recv(64)))

    with (
        served(socketserver.TCPServer(("127.0.0.1", 0), Wrong)) as port,
        load(programs, "exchange", port, 1, 64, 1, 64) as running,
        pytest.raises(LoadError, match=message),
    ):
        running.run(0)


def test_a_refused_connection_is_an_error(programs):
    """The error has the system's words."""
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


def test_a_killed_measurement_leaves_no_process(programs):
    """The server and the load end with the measurement."""
    with Running([sys.executable, "-c", MEASURING, str(programs)], TOP) as run:
        match = run.wait_for(r"children (\d+) (\d+)")
        descriptors = [os.pidfd_open(int(pid)) for pid in match.groups()]
        assert run.stop(signal.SIGKILL) == -signal.SIGKILL
    for descriptor in descriptors:
        ended, _, _ = select([descriptor], [], [], TIMEOUT)
        os.close(descriptor)
        assert ended
