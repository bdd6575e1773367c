"""Count what a server loses in a long run with a reload each second, and whether it grows.

Usage: python -m bench.soak [--connections N] [--datagrams N] [--reactor uvloop|epoll]

The load generator opens connections to ``accept`` and reads each to its end, then sends datagrams
to ``echo``.  Meanwhile the server reads its configuration again each second: limits change, a
listener comes and goes, and the access log is rotated.  At the end the access log has exactly one
line per connection, and the counters of the load agree with it.

Descriptors are compared by kind, with as many listeners as at the start: a listener has one
descriptor, or two on the uvloop reactor, which has one of its own.
"""

import argparse
import itertools
import json
import os
import signal
import tempfile
import threading
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from bench.measure import machine, memory_bytes
from bench.processes import Load, compile_programs, serving
from bench.servers import RECEIVE_BUFFER
from tests.clients import exchange, udp

HOST = "127.0.0.1"
PEERS = 64
"""Connections at a time, and sockets that send datagrams."""

DATAGRAM_SIZE = 64
TURN = 1.0
"""Seconds of load between two looks at the counts."""

RELOAD_INTERVAL = 1.0

CONFIGURATION = """\
access_log = "{folder}/access.log"
log_rate = 0

[[listener]]
service = "accept"
tcp = "{host}:{tcp}"
backlog = {backlog}
limits = {{ max_connections = {limit} }}

[[listener]]
service = "echo"
udp = "{host}:{udp}"
socket_options = {{ SO_RCVBUF = {buffer} }}
"""

EXTRA_LISTENER = """
[[listener]]
service = "{service}"
tcp = "{host}:0"
"""
FIRST_EXTRA, LAST_EXTRA = "time", "daytime"
"""The service of the listener that comes and goes, and of the one at the end."""

COMMANDS = {
    "uvloop": ["netsrv", "serve"],
    "epoll": ["twistd", "-n", "--pidfile=", "--reactor=epoll", "netsrv"],
}


class Reloads(threading.Thread):
    """Changes the configuration, reloads the server and rotates its log, until it is stopped."""

    def __init__(self, folder: Path, pid: int, ports: dict[str, int]) -> None:
        super().__init__(daemon=True)
        self.count = 0
        self._folder, self._pid, self._ports = folder, pid, ports
        self._stopping = threading.Event()

    def run(self) -> None:
        for number in itertools.count():
            if self._stopping.wait(RELOAD_INTERVAL):
                return
            self._reload(number, FIRST_EXTRA if number % 2 else None)
            if number % 10 == 9:
                log = self._folder / "access.log"
                log.rename(self._folder / f"access.{number}.log")
                os.kill(self._pid, signal.SIGUSR1)

    def stop(self) -> None:
        """Reload once more, with as many listeners as at the start."""
        self._stopping.set()
        self.join()
        self._reload(0, LAST_EXTRA)

    def _reload(self, number: int, extra: str | None) -> None:
        text = configuration(self._folder, self._ports, number, extra)
        (self._folder / "netsrv.toml").write_text(text)
        os.kill(self._pid, signal.SIGHUP)
        self.count += 1


def configuration(folder: Path, ports: dict[str, int], number: int, extra: str | None) -> str:
    """Return the configuration number *number*: its limits differ from those before.

    *extra* is the service of one more listener.
    """
    limits = {"backlog": 1024 + number % 7, "limit": 1000 + number % 5}
    text = CONFIGURATION.format(folder=folder, host=HOST, buffer=RECEIVE_BUFFER, **ports, **limits)
    return text if extra is None else text + EXTRA_LISTENER.format(service=extra, host=HOST)


def logged_connections(folder: Path, port: int) -> int:
    """Return the number of lines about connections in all access logs.

    Raises AssertionError for a line that is torn or reports a rejection.
    """
    count = 0
    for path in folder.glob("access*.log"):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            assert "ended" in record, line
            count += f":{port} " in record["listener"]
    return count


def soak(folder: Path, reactor: str, connections: int, datagrams: int) -> None:
    """Run both loads against one server, and print what was lost and what has grown."""
    assert (reason := compile_programs(folder)) is None, reason
    text = configuration(folder, {"tcp": 0, "udp": 0}, 0, FIRST_EXTRA)
    (folder / "netsrv.toml").write_text(text)
    with ExitStack() as stack:
        command = [*COMMANDS[reactor], "-c", str(folder / "netsrv.toml")]
        server = stack.enter_context(serving(command))
        ports = {"tcp": server.port("tcp"), "udp": server.port("udp")}
        pid = server.process.pid
        with udp(ports["udp"], HOST) as client:
            exchange(client, b"x")  # the reactor has opened its own descriptors once it serves
        before = memory_bytes(pid)["rss"], descriptors(pid)
        reloads = Reloads(folder, pid, {"tcp": 0, "udp": 0})
        reloads.start()
        words = [HOST, str(ports["tcp"]), str(PEERS), "1", "1", "0"]
        done = run(folder, "accept", words, connections)["operations"]
        words = [HOST, str(ports["udp"]), str(PEERS), str(DATAGRAM_SIZE), "8", str(DATAGRAM_SIZE)]
        datagram_figures = run(folder, "datagrams", words, datagrams)
        reloads.stop()
        server.wait_for(rf"Waiting for connections on .*\({LAST_EXTRA}\)")
        after = memory_bytes(pid)["rss"], descriptors(pid)
        status = server.stop()
    logged = logged_connections(folder, ports["tcp"])
    print(f"{reactor}: {done} connections read to their end, {logged} lines in the access log")
    echoed, lost = datagram_figures["operations"], datagram_figures["lost"]
    print(f"{reactor}: {echoed} datagrams came back, {lost} did not")
    print(f"{reactor}: {reloads.count} reloads; exit status {status}")
    print(f"{reactor}: memory {before[0] >> 10} -> {after[0] >> 10} KiB, ", end="")
    print(f"descriptors {before[1].total()} -> {after[1].total()}", flush=True)
    for sign, kinds in (("+", after[1] - before[1]), ("-", before[1] - after[1])):
        for kind, count in kinds.items():
            print(f"{reactor}: descriptors {sign}{count} {kind}", flush=True)


def run(folder: Path, mode: str, words: list[str], count: int) -> dict[str, int]:
    """Put the server under load until *count* operations are done; return the sums."""
    sums = {"operations": 0, "lost": 0}
    with Load(folder / "load", [mode, *words]) as load:
        while sums["operations"] < count:
            figures = load.run(TURN)
            for name in sums:
                sums[name] += int(figures[name])
    return sums


def descriptors(pid: int) -> Counter[str]:
    """Return how many descriptors of each kind a process has open: ``socket``, ``pipe``, a path."""
    kinds: Counter[str] = Counter()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        kind, colon, _number = os.readlink(link).partition(":[")
        kinds[kind if colon and kind != "anon_inode" else os.readlink(link)] += 1
    return kinds


def main() -> None:
    """Run the soak on the reactors that are asked for."""
    parser = argparse.ArgumentParser(prog="bench.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--connections", type=int, default=1_000_000, help="default 1,000,000")
    parser.add_argument("--datagrams", type=int, default=10_000_000, help="default 10,000,000")
    parser.add_argument("--reactor", choices=COMMANDS, help="default: each of them")
    options = parser.parse_args()
    print(machine())
    for reactor in [options.reactor] if options.reactor else COMMANDS:
        with tempfile.TemporaryDirectory() as folder:
            soak(Path(folder), reactor, options.connections, options.datagrams)


if __name__ == "__main__":
    main()
