"""Count how often a drain under load delivers every byte and ends with the right status.

Usage: python -m bench.drain [--runs N]

When SIGTERM comes, 1,000 connections are idle, 10 more are in the middle of an echo of 8 MB,
and a service has written 8 MB to each of another 10.  These peers read on, and the idle ones
close; in every other run some idle ones stay and have to be aborted.
"""

import argparse
import random
import signal
import socket
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

from bench.measure import machine
from tests import timeouts
from tests.clients import exchange, tcp
from tests.process import thirdparty
from tests.process.running import Running

IDLE = 1000
BUSY = 10
STAYING = 100
SIZE = 8_000_000
DATA = random.Random(7).randbytes(SIZE)

DRAIN_TIMEOUT = 4
"""Seconds of a drain in which idle peers stay: enough for the peers that read."""

SERVICE = f"""
import random

class Burst(Protocol):
    def connectionMade(self):
        self.transport.write(random.Random(7).randbytes({SIZE}))
        self.transport.loseConnection()

burst = Service("burst", Burst)
"""


class Reader:
    """A peer that reads a little at first, and the rest once the drain has begun."""

    def __init__(self, port: int, begin: Callable[[socket.socket], None]) -> None:
        self.sock = tcp(port)
        begin(self.sock)
        self.got = bytearray(self.sock.recv(1000))

    def read_the_rest(self) -> bool:
        """Read to the end; return True if all data has arrived."""
        with self.sock:
            while piece := self.sock.recv(1 << 20):
                self.got += piece
        return self.got == DATA


def send_all(sock: socket.socket) -> None:
    """Send the data and FIN in a thread, since the server stops reading if the peer does."""

    def send() -> None:
        with suppress(OSError):  # the reading side fails too
            sock.sendall(DATA)
            sock.shutdown(socket.SHUT_WR)

    threading.Thread(target=send, daemon=True).start()


def drain(folder: Path, staying: int) -> None:
    """Drain once, in *folder*; *staying* idle peers stay until they are aborted.

    Raises AssertionError or OSError if a byte, the status or a line of the log is missing.
    """
    thirdparty.services(folder, SERVICE)
    options = ["--tcp", "echo=127.0.0.1:0", "--tcp", "burst=127.0.0.1:0", "--log-rate", "0"]
    limit = ["--shutdown-timeout", str(DRAIN_TIMEOUT if staying else timeouts.TIMEOUT)]
    command = ["netsrv", "serve", *options, *limit]
    with Running(command, folder, thirdparty.on_path(folder)) as server, ExitStack() as stack:
        echo, burst = server.port("tcp", 1), server.port("tcp", 2)
        idle = [stack.enter_context(tcp(echo)) for _ in range(IDLE)]
        assert all(exchange(sock, b"hello") == b"hello" for sock in idle)
        readers = [Reader(echo, send_all) for _ in range(BUSY)]
        readers += [Reader(burst, lambda sock: None) for _ in range(BUSY)]
        server.process.send_signal(signal.SIGTERM)
        server.wait_for(rf"Draining: {IDLE + 2 * BUSY} connections")
        with ThreadPoolExecutor(2 * BUSY) as pool:
            for complete in pool.map(Reader.read_the_rest, readers):
                assert complete
        for sock in idle[staying:]:
            sock.close()
        assert server.wait() == (3 if staying else 0)
        ended = IDLE + 2 * BUSY - staying
        server.wait_for(rf"Drained: {ended} connections ended, {staying} aborted$")
        assert "Traceback" not in server.output


def main() -> None:
    """Repeat the drain, and count."""
    parser = argparse.ArgumentParser(prog="bench.drain", description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=100, help="number of drains, default 100")
    runs = parser.parse_args().runs
    print(machine())
    succeeded = 0
    for number in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            try:
                drain(Path(folder), STAYING * (number % 2))
            except (AssertionError, OSError) as error:
                print(f"run {number + 1}: {type(error).__name__}: {error}", flush=True)
            else:
                succeeded += 1
    print(f"{succeeded} of {runs} drains: every byte arrived, and the status was right")


if __name__ == "__main__":
    main()
