"""Measure the longest stall of a server's reactor during a reload.

Usage: python -m bench.reload [--listeners N] [--reactor uvloop|epoll]

A client of one listener sends a byte and waits for its echo, again and again, while the server
reloads a file with many other listeners.  The longest round trip is the longest stall, beside the
longest one of a server that does nothing else.
"""

import argparse
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.measure import machine
from bench.processes import cores, raise_descriptors, serving
from bench.soak import COMMANDS
from tests.clients import tcp
from tests.process.running import Running

FIRST, SECOND = "127.1", "127.2"
"""Networks of loopback addresses."""

QUIET_SECONDS = 0.5

LISTENER = """
[[listener]]
service = "{service}"
{transport} = "{network}.{high}.{low}:0"
limits = {{ max_connections = {limit} }}
"""


def configuration(count: int, service: str = "echo", limit: int = 10, network: str = FIRST) -> str:
    """Return a file with *count* listeners, half of them on UDP, and the one that is probed."""
    listeners = [
        LISTENER.format(
            service=service,
            transport=("tcp", "udp")[index % 2],
            network=network,
            high=index // 250,
            low=index % 250 + 1,
            limit=limit if index % 2 == 0 else 10,
        )
        for index in range(count)
    ]
    return "\n".join(['[[listener]]\nservice = "echo"\ntcp = "127.0.0.1:0"', *listeners])


class Probe:
    """Exchanges bytes with the server in a thread, and keeps the longest round trip in seconds."""

    def __init__(self, sock: socket.socket) -> None:
        self.longest = 0.0
        self._sock = sock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def during(self, act: Callable[[], object]) -> float:
        """Probe while *act* runs, and return the longest round trip."""
        self.longest = 0.0
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        act()
        self._stopping.set()
        self._thread.join()
        return self.longest

    def _run(self) -> None:
        while not self._stopping.is_set():
            began = time.perf_counter()
            self._sock.sendall(b"x")
            self._sock.recv(1)
            self.longest = max(self.longest, time.perf_counter() - began)


def measure(folder: Path, reactor: str, count: int) -> None:
    """Print the longest stall of each kind of reload."""
    file = folder / "netsrv.toml"
    file.write_text(configuration(count))
    reloads = {
        "the same file": configuration(count),
        "other limits": configuration(count, limit=20),
        "another service": configuration(count, "discard", 20),
        "all listeners replaced": configuration(count, "discard", 20, SECOND),
        "all listeners removed": configuration(0),
        "as many added": configuration(count),
    }
    with serving([*COMMANDS[reactor], "-c", str(file)]) as server, tcp(server.port("tcp")) as sock:
        server.wait_for("Waiting for ", count + 1)
        probe = Probe(sock)
        row(reactor, count, "no reload", probe.during(lambda: time.sleep(QUIET_SECONDS)))
        for number, (name, text) in enumerate(reloads.items(), 1):
            file.write_text(text)
            row(reactor, count, name, probe.during(partial(reload, server, number)))
        server.stop()


def reload(server: Running, number: int) -> None:
    """Reload, and wait until that is done: *number* is how often it was done then."""
    server.process.send_signal(signal.SIGHUP)
    server.wait_for("Reloaded: ", number)


def row(reactor: str, count: int, name: str, seconds: float) -> None:
    """Print one figure."""
    print(f"{reactor}: {count} listeners, {name}: {seconds * 1000:.1f} ms", flush=True)


def main() -> None:
    """Measure on the reactors that are asked for."""
    parser = argparse.ArgumentParser(prog="bench.reload", description=__doc__.partition("\n")[0])
    parser.add_argument("--listeners", type=int, action="append", help="default 200 and 2,000")
    parser.add_argument("--reactor", choices=COMMANDS, help="default: each of them")
    options = parser.parse_args()
    print(machine())
    raise_descriptors()
    os.sched_setaffinity(0, {cores()[1]})
    for reactor in [options.reactor] if options.reactor else COMMANDS:
        for count in options.listeners or [200, 2000]:
            with tempfile.TemporaryDirectory() as folder:
                measure(Path(folder), reactor, count)


if __name__ == "__main__":
    main()
