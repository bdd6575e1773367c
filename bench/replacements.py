"""Replace the workers of a server under load, in every way, and count what that costs clients.

Usage: python -m bench.replacements [--replacements N] [--clients N] [--seed N] [--pause S]

Clients, in processes of their own, exchange a message on one TCP connection after the other, and
datagrams on UDP.  Meanwhile workers are replaced: by SIGHUP, by SIGUSR2, by SIGTTOU and SIGTTIN,
and by kill -9.  No connection may be refused, reset or left without an answer, and no datagram may
be lost.  Only a killed worker may lose the connections that it has accepted, and the datagrams that
it has received: so what fails between a kill and the start of the successor is counted apart.

The exit status is 0 if nothing else has failed.
"""

import argparse
import multiprocessing
import os
import random
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from attrs import asdict, define, field, frozen

from tests.process.children import all_children
from tests.process.running import Running
from tests.timeouts import TIMEOUT

ANSWER_TIMEOUT = 20.0
"""Seconds after which an exchange has failed: a slot may wait for a successor of its worker."""

MESSAGE = b"sixteen bytes..."

WORKERS = 2

CONFIG = """
workers = 2
log_rate = 0
[[listener]]
service = "echo"
tcp = "127.0.0.1:{port}"
[[listener]]
service = "echo"
udp = "127.0.0.1:{port}"
"""


@frozen
class Failure:
    """An exchange that has failed, and when."""

    time: float
    text: str


@define
class Result:
    """What a client has seen."""

    exchanges: int = 0
    failures: list[Failure] = field(factory=list)


@define
class Totals:
    """The results of a run."""

    connections: int = 0
    datagrams: int = 0
    replaced: int = 0
    seconds: float = 0.0
    killed_connections: int = 0
    """Connections that a killed worker has lost."""
    killed_datagrams: int = 0
    failed: int = 0
    """Exchanges that have failed otherwise."""


# Clients


def connect(port: int, number: int) -> None:
    """Exchange a message on a new TCP connection.  Raises OSError."""
    with socket.create_connection(("127.0.0.1", port), ANSWER_TIMEOUT, (source(number), 0)) as sock:
        sock.sendall(MESSAGE)
        received = b""
        while len(received) < len(MESSAGE):
            data = sock.recv(100)
            if not data:
                raise ConnectionResetError(f"the server has closed after {len(received)} bytes")
            received += data
        if received != MESSAGE:
            raise ConnectionError(f"received {received!r}")


def source(number: int) -> str:
    """Return the address of a client: each has another one, for the worker is chosen by it."""
    return f"127.0.{number // 200}.{number % 200 + 2}"


class Flow:
    """Exchanges datagrams on one socket; each has a number, so none counts for another one."""

    def __init__(self, port: int, number: int) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind((source(number), 0))
        self._sock.connect(("127.0.0.1", port))
        self._sock.settimeout(ANSWER_TIMEOUT / 4)
        self._count = 0

    def exchange(self, _port: int, _number: int) -> None:
        """Send a datagram and wait for its answer.  Raises OSError."""
        self._count += 1
        message = b"%d" % self._count
        self._sock.send(message)
        while self._sock.recv(100) != message:
            pass


def run_client(port: int, number: int, datagrams: bool, pause: float, pipe: Connection) -> None:
    """Exchange, with pauses, until the other end says stop, and send the result."""
    exchange: Callable[[int, int], None] = Flow(port, number).exchange if datagrams else connect
    result = Result()
    while not pipe.poll(pause):
        began = time.monotonic()
        try:
            exchange(port, number)
            result.exchanges += 1
        except OSError as error:
            result.failures += [Failure(began, "begin"), Failure(time.monotonic(), repr(error))]
    pipe.send(result)


# Replacements


class Server:
    """A server whose workers are replaced."""

    def __init__(self, running: Running, chance: random.Random) -> None:
        self.kills: list[tuple[float, float]] = []
        """When workers were killed, and when their successors served."""
        self.began: list[tuple[float, str]] = []
        """When replacements began, and of which kind."""
        self.replaced = 0
        self._running = running
        self._chance = chance
        self._places = self._reloads = self._changes = 0

    def replace_some(self) -> None:
        """Replace workers in one of the ways, and wait until it is done."""
        ways = [self._kill, self._reload, self._upgrade, self._fewer_and_more]
        way = self._chance.choice(ways)
        self.began.append((time.monotonic(), way.__name__))
        way()

    def _kill(self) -> None:
        serving = all_children(self._running.process.pid)[-WORKERS:]  # older ones drain
        worker = self._chance.choice(serving)
        killed = time.monotonic()
        os.kill(worker, signal.SIGKILL)
        self._places += 1
        self._running.wait_for("has taken its place", self._places)
        self.kills.append((killed, time.monotonic()))
        self.replaced += 1

    def _reload(self) -> None:
        self._send(signal.SIGHUP)
        self._wait_for_reload()

    def _upgrade(self) -> None:
        self._send(signal.SIGUSR2)
        self._wait_for_reload()

    def _wait_for_reload(self) -> None:
        self._reloads += 1
        self._running.wait_for("Reloaded: ", self._reloads)
        self.replaced += 2

    def _fewer_and_more(self) -> None:
        for number in (signal.SIGTTOU, signal.SIGTTIN):
            self._send(number)
            self._changes += 1
            self._running.wait_for("workers? now", self._changes)
        self.replaced += 2

    def _send(self, number: signal.Signals) -> None:
        self._running.process.send_signal(number)


def run(replacements: int, clients: int, seed: int, pause: float = 0.0) -> Totals:
    """Replace so many workers under load; *pause* is in seconds between exchanges of a client."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        (path / "netsrv.toml").write_text(CONFIG.format(port=port))
        with Running(["netsrv", "serve", "-c", "netsrv.toml"], path) as running:
            running.wait_for("Waiting for datagrams")
            server = Server(running, random.Random(seed))
            began = time.monotonic()
            results = load(port, clients, replacements, pause, server)
            totals = summarize(results, server)
            totals.seconds = time.monotonic() - began
            status = running.stop()
            if status:
                totals.failed += 1
                print(f"the server has ended with status {status}:\n{running.output}")
    return totals


def load(
    port: int, clients: int, replacements: int, pause: float, server: Server
) -> list[tuple[bool, Result]]:
    """Have clients exchange while workers are replaced; return their results."""
    context = multiprocessing.get_context("fork")
    started = []
    for number in range(clients):
        ours, theirs = context.Pipe()
        datagrams = number % 4 == 3
        process = context.Process(target=run_client, args=(port, number, datagrams, pause, theirs))
        process.start()
        started.append((process, ours, datagrams))
    results = []
    try:
        while server.replaced < replacements:
            server.replace_some()
    finally:
        for _, pipe, _ in started:
            pipe.send("stop")
        for process, pipe, datagrams in started:
            if pipe.poll(TIMEOUT):
                results.append((datagrams, pipe.recv()))
            process.join()
    return results


def summarize(results: list[tuple[bool, Result]], server: Server) -> Totals:
    """Return the sums, and print what has failed for no kill."""
    totals = Totals(replaced=server.replaced)
    for datagrams, result in results:
        if datagrams:
            totals.datagrams += result.exchanges
        else:
            totals.connections += result.exchanges
        for begin, end in zip(result.failures[::2], result.failures[1::2], strict=True):
            if any(begin.time < until and since < end.time for since, until in server.kills):
                totals.killed_datagrams += datagrams
                totals.killed_connections += not datagrams
            else:
                totals.failed += 1
                kind = "datagram" if datagrams else "connection"
                since, way = max(one for one in server.began if one[0] < end.time)
                print(
                    f"{kind} failed after {end.time - begin.time:.3f} s, "
                    f"{begin.time - since:.3f} s after {way}: {end.text}"
                )
    return totals


def main() -> int:
    """Run the command, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--replacements", type=int, default=500)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between exchanges")
    options = parser.parse_args()
    totals = run(options.replacements, options.clients, options.seed, options.pause)
    for name, value in asdict(totals).items():
        print(f"{name:<20} {value:>12,.0f}")
    return 1 if totals.failed else 0


if __name__ == "__main__":
    sys.exit(main())
