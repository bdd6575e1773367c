"""How often a drain under load brings every byte to every peer that reads, and ends as it should.

Usage: python -m bench.drain [--runs N]

In each run 1,000 connections are open, 10 of them more are in the middle of an echo of 8 MB,
and to 10 more a service has written 8 MB at once, when SIGTERM comes.  The peers read on, and
the idle ones go; in every other run some of them stay, and have to be aborted.
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

TIMEOUT = 4
"""Seconds of a drain in which some stay: enough for those who read."""

SERVICE = f"""
import random

class Burst(Protocol):
    def connectionMade(self):
        self.transport.write(random.Random(7).randbytes({SIZE}))
        self.transport.loseConnection()

burst = Service("burst", Burst)
"""


class Reader:
    """A peer that reads a little, and the rest once the drain has begun."""

    def __init__(self, port: int, begin: Callable[[socket.socket], None]) -> None:
        self.sock = tcp(port)
        begin(self.sock)
        self.got = bytearray(self.sock.recv(1000))

    def read_the_rest(self) -> bool:
        """Read to the end; tell whether everything has come."""
        with self.sock:
            while piece := self.sock.recv(1 << 20):
                self.got += piece
        return self.got == DATA


def send_all(sock: socket.socket) -> None:
    """Send the data and the end, in the background: a peer that does not read is not read from."""

    def send() -> None:
        with suppress(OSError):  # whoever reads sees it too
            sock.sendall(DATA)
            sock.shutdown(socket.SHUT_WR)

    threading.Thread(target=send, daemon=True).start()


def drain(folder: Path, staying: int) -> None:
    """Do it once, in *folder*; what is not as it should be is an AssertionError or an OSError.

    *staying* idle peers stay until they are aborted.
    """
    thirdparty.services(folder, SERVICE)
    options = ["--tcp", "echo=127.0.0.1:0", "--tcp", "burst=127.0.0.1:0", "--log-rate", "0"]
    limit = ["--shutdown-timeout", str(TIMEOUT if staying else timeouts.TIMEOUT)]
    command = ["netsrv", "serve", *options, *limit]
    with Running(command, folder, thirdparty.on_path(folder)) as server, ExitStack() as stack:
        echo, burst = server.port("tcp", 1), server.port("tcp", 2)
        idle = [stack.enter_context(tcp(echo)) for _ in range(IDLE)]
        assert all(exchange(each, b"hello") == b"hello" for each in idle)
        readers = [Reader(echo, send_all) for _ in range(BUSY)]
        readers += [Reader(burst, lambda sock: None) for _ in range(BUSY)]
        server.process.send_signal(signal.SIGTERM)
        server.wait_for(rf"Draining: {IDLE + 2 * BUSY} connections")
        with ThreadPoolExecutor(2 * BUSY) as pool:
            for complete in pool.map(Reader.read_the_rest, readers):
                assert complete
        for each in idle[staying:]:
            each.close()
        assert server.wait() == (3 if staying else 0)
        ended = IDLE + 2 * BUSY - staying
        server.wait_for(rf"Drained: {ended} connections ended, {staying} aborted$")
        assert "Traceback" not in server.output


def main() -> None:
    """Repeat it, and count."""
    parser = argparse.ArgumentParser(prog="bench.drain", description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=100, help="how often")
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
