"""Measure one turn of a contender: under load, its memory, or its start."""

import os
import socket
import subprocess
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.measure import busy_seconds, cpu_seconds, memory_bytes, runnable
from bench.processes import PLUGINS, TOP, Load, LoadError, bound_to, cores, serving
from bench.rows import OURS, START_EMPTY, START_OURS, UNLIMITED, WEB_OURS, Row, command
from tests.process.running import Running, located
from tests.timeouts import TIMEOUT

WEB_PAGE = bytes(1024)
"""The file that the web site serves."""

IDLE_CPU = 20e-6
"""CPU seconds that an idle server uses at most in 2 ms."""

Figures = dict[str, float]
"""The figures of one turn; ``value`` is the one that the row compares."""


class Loaded:
    """A server that runs through all rounds, with the load generator connected to it.

    Raises `AssertionError` if it does not start, and `LoadError` if it does not serve.
    """

    def __init__(self, name: str, row: Row, host: str, folder: Path) -> None:
        self.name, self.row, self.host, self.folder = name, row, host, folder
        self._stack = ExitStack()
        try:
            self.server, port, words = self.start()
            self.load = self._stack.enter_context(
                Load(folder / "load", [row.mode, host, str(port), *words])
            )
        except BaseException:
            self.close()
            raise

    def start(self) -> tuple[Running, int, list[str]]:
        """Start the server; return it, its port, and the load generator's arguments."""
        host = self.row.host or self.host
        server = serving(command(self.name, self.row, host, self.folder))
        self._stack.enter_context(server)
        port = server.port("udp" if self.row.datagrams else "tcp")
        return server, port, [str(word) for word in self.row.words]

    def turn(self, seconds: float) -> Figures:
        """Put the server under load for some seconds."""
        pid = self.server.process.pid
        before, busy = cpu_seconds(pid), self._busy()
        done = self.load.run(seconds)
        server, load = (b - a for a, b in zip(busy, self._busy(), strict=True))
        server = max(server, cpu_seconds(pid) - before)  # this one includes threads that have ended
        if self.name in (OURS, UNLIMITED):
            time.sleep(self.row.afterwards)
        spent = settled(pid) - before
        amount = done["bytes"] / 1e6 if self.row.mode in ("read", "write") else done["operations"]
        if not amount or not spent:
            raise LoadError("nothing was served")
        return {
            "value": amount / spent if self.row.more else spent / amount * 1e6,
            "amount": amount,
            "rate": amount / done["seconds"],
            "cpu_seconds": spent,
            "load_cpu_seconds": done["cpu"],
            "server_busy": min(1.0, server / done["seconds"]),
            "load_busy": min(1.0, load / done["seconds"]),
            **{name: done[name] for name in ("lost", "p50", "p99", "p999")},
        }

    def _busy(self) -> list[float]:
        return [busy_seconds(pid) for pid in (self.server.process.pid, self.load.pid)]

    def close(self) -> None:
        """End the server and the load."""
        self._stack.close()


class Paced(Loaded):
    """A server under messages that come at planned times: half of what it sustains, or less.

    The first turn has no plan; it measures what the server sustains, for `pace`.
    """

    sustained = rate = 0.0
    """Messages a second."""

    def turn(self, seconds: float) -> Figures:
        """Put the server under load for some seconds; the value is the 99.9th percentile."""
        before = self._busy()[0]
        done = self.load.run(seconds, self.rate)
        busy = self._busy()[0] - before
        self.sustained = done["operations"] / done["seconds"]
        return {
            "value": done["p999"],
            "amount": done["operations"],
            "rate": self.sustained,
            "server_busy": min(1.0, busy / done["seconds"]),
            **{name: done[name] for name in ("p50", "p99", "p999")},
        }


def pace(contenders: Iterable[Paced]) -> None:
    """Plan for all of them half of the rate that the slowest has sustained."""
    contenders = list(contenders)
    for one in contenders:
        one.rate = min(other.sustained for other in contenders) / 2


class Web(Loaded):
    """A site of ``twistd web``; the load requests one file repeatedly on open connections."""

    def start(self) -> tuple[Running, int, list[str]]:
        site = self.folder / "site"
        site.mkdir(exist_ok=True)
        (site / "page.bin").write_bytes(WEB_PAGE)
        with socket.socket() as sock:
            sock.bind((self.host, 0))
            port = sock.getsockname()[1]
        twistd = "twistd -n --pidfile= --logfile".split()
        reactor = self.name.split()[1]
        web = ["web", f"--listen=tcp:{port}:interface={self.host}", f"--path={site}"]
        log = self.folder / f"web-{'uvloop' if self.name == WEB_OURS else 'epoll'}.log"
        server = serving([*twistd, str(log), reactor, *web])
        self._stack.enter_context(server)
        request = f"GET /page.bin HTTP/1.1\r\nHost: {self.host}\r\n\r\n"
        length = self._answer(server, port, request.encode())
        (peers,) = self.row.words
        return server, port, [str(peers), str(len(request)), "1", str(length), request]

    def _answer(self, server: Running, port: int, request: bytes) -> int:
        """Send one request once the server accepts; return the length of the answer."""
        deadline = time.monotonic() + TIMEOUT
        while server.process.poll() is None and time.monotonic() < deadline:
            try:
                sock = socket.create_connection((self.host, port), TIMEOUT)
            except ConnectionRefusedError:
                time.sleep(0.01)
                continue
            with sock:
                sock.sendall(request)
                answer = b""
                while not answer.endswith(WEB_PAGE):
                    piece = sock.recv(65536)
                    if not piece:
                        break
                    answer += piece
            if answer.startswith(b"HTTP/1.1 200 "):
                return len(answer)
            raise LoadError(f"the answer begins with {answer[:40]!r}")
        server.process.kill()
        server.wait()
        raise AssertionError(f"{self.name} did not start:\n{server.output}")


class Memory:
    """The memory of idle connections; each turn starts a new server."""

    def __init__(self, name: str, row: Row, host: str, folder: Path) -> None:
        self.name, self.row, self.host, self.folder = name, row, host, folder

    def turn(self, seconds: float) -> Figures:
        """Open the connections, let each echo one message, and measure."""
        words = [str(word) for word in self.row.words]
        with serving(command(self.name, self.row, self.host, self.folder)) as server:
            port, pid = server.port("tcp"), server.process.pid
            settled(pid)
            before = memory_bytes(pid)
            with Load(self.folder / "load", ["exchange", self.host, str(port), *words]) as load:
                done = load.run(0)
                settled(pid)
                after = memory_bytes(pid)
        count = done["operations"]
        sizes = {name: (after[name] - before[name]) / 1024 / count for name in after}
        return {"value": sizes["pss"], "amount": count, **sizes}

    def close(self) -> None:
        """Do nothing: each turn ends its own processes."""


class Start:
    """The time from exec until a server logs that it waits; each turn starts a new one."""

    def __init__(self, name: str, row: Row, host: str, folder: Path) -> None:
        netsrv = ["netsrv", "--tcp", f"echo={host}:0"]
        self.command = {
            START_OURS: ["netsrv", "serve", *netsrv[1:]],
            START_EMPTY: ["twistd", "-n", "--pidfile=", "empty"],
        }.get(name, ["twistd", "-n", "--pidfile=", *netsrv])

    def turn(self, seconds: float) -> Figures:
        """Start the server, and kill it once it waits."""
        environ = {**os.environ, "PYTHONPATH": f"{PLUGINS}{os.pathsep}{TOP}"}
        began = time.monotonic()
        process: Any = subprocess.Popen(
            located(self.command),
            cwd=TOP,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=bound_to(cores()[0]),  # noqa: PLW1509 - as in Running
        )
        with process:
            output = b""
            while b"Waiting for " not in output:
                piece = os.read(process.stdout.fileno(), 65536)
                if not piece:
                    raise AssertionError(f"it did not start: {output.decode(errors='replace')}")
                output += piece
            wall, cpu = time.monotonic() - began, cpu_seconds(process.pid)
            process.kill()
        return {"value": wall * 1000, "cpu": cpu * 1000, "amount": 1}

    def close(self) -> None:
        """Do nothing: each turn ends its own processes."""


KINDS: dict[str, type[Loaded | Memory | Start]] = {
    "load": Loaded,
    "paced": Paced,
    "web": Web,
    "memory": Memory,
    "start": Start,
}


def settled(pid: int) -> float:
    """Wait until a server is idle, for at most a second; return its CPU time then."""
    last = cpu_seconds(pid)
    for _ in range(500):
        time.sleep(0.002)
        this = cpu_seconds(pid)
        if this - last < IDLE_CPU and not runnable(pid):
            break
        last = this
    return this
