"""Measure what the status costs: the data path, and the longest stall during a scrape.

Usage: python -m bench.status [--pairs N] [--rounds N] [--seconds S] [--listeners N]

A client of a server with many listeners sends a byte and waits for its echo, again and again,
while the server is scraped: the longest round trip is the longest stall.  Then two servers are put
under the same load in turns, one of them with ``--status``, scraped each second in both ways: the
figure is the ratio of their CPU time for an operation.  Two processes of one program differ, so new
pairs of them are started, and each pair has one ratio.
"""

import argparse
import os
import subprocess
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from bench.measure import cpu_seconds, interval, machine, ratios
from bench.processes import Load, compile_programs, cores, raise_descriptors, serving
from bench.reload import QUIET_SECONDS, Probe, configuration
from netsrv.cli.fetching import Target, fetch, parse_target
from tests.clients import tcp
from tests.process.running import Running

WORK = {
    "echo": ("exchange", ["--tcp", "echo=127.0.0.1:0"], ["50", "64", "1", "64"]),
    "accept": ("accept", ["--tcp", "accept=127.0.0.1:0"], ["50", "1", "1", "0"]),
    "udp": ("datagrams", ["--udp", "echo=127.0.0.1:0"], ["50", "64", "4", "64"]),
}
"""The load generator's mode, the options of the server, and the arguments of the load."""

PATHS = ("/metrics", "/status.json")
SCRAPE_INTERVAL = 1.0
QUIET = ["--log-rate", "0", "--datagram-rate", "none", "--refuse-source-ports", "none"]
SCRAPES = 10


class Scrapes(threading.Thread):
    """Scrapes a server each second until it is stopped."""

    def __init__(self, target: Target) -> None:
        super().__init__(daemon=True)
        self.target = target
        self._ended = threading.Event()

    def run(self) -> None:
        """Scrape.  The thread calls it."""
        while True:
            for path in PATHS:
                fetch(self.target, path)
            if self._ended.wait(SCRAPE_INTERVAL):
                return

    def stop(self) -> None:
        """Scrape no more."""
        self._ended.set()
        self.join()


def status_of(server: Running) -> Target:
    """Wait for the status of a server, and return its address."""
    return parse_target(server.wait_for(r"Serving status on (\S+)")[1])


def compare(folder: Path, name: str, pairs: int, rounds: int, seconds: float) -> None:
    """Print the ratio of the CPU time for an operation, with the status and without."""
    each = sorted(compare_pair(folder, name, rounds, seconds) for _ in range(pairs))
    low, high, confidence = interval(each)
    middle = each[len(each) // 2]
    print(f"{name}: {middle:.3f} ({low:.3f} to {high:.3f}, {confidence:.0%})", flush=True)


def compare_pair(folder: Path, name: str, rounds: int, seconds: float) -> float:
    """Return the median of the ratios of two servers."""
    mode, options, words = WORK[name]
    costs: dict[bool, list[float]] = {True: [], False: []}
    with ExitStack() as stack:
        servers = {}
        for on in costs:
            status = ["--status", "127.0.0.1:0"] if on else []
            command = ["netsrv", "serve", *options, *QUIET, *status]
            server = stack.enter_context(serving(command))
            port = str(server.port("udp" if name == "udp" else "tcp"))
            load = Load(folder / "load", [mode, "127.0.0.1", port, *words])
            servers[on] = server, stack.enter_context(load)
        target = status_of(servers[True][0])
        for number in range(rounds + 1):
            for on in (True, False) if number % 2 else (False, True):
                scrapes = Scrapes(target)
                if on:
                    scrapes.start()
                cost = cost_of(*servers[on], seconds)
                if on:
                    scrapes.stop()
                if number:  # the first round warms up
                    costs[on].append(cost)
        for server, _ in servers.values():
            server.stop()
    return median(ratios(costs[True], costs[False]))


def cost_of(server: Running, load: Load, seconds: float) -> float:
    """Return the CPU seconds of the server for an operation."""
    before = cpu_seconds(server.process.pid)
    operations = float(load.run(seconds)["operations"])
    return (cpu_seconds(server.process.pid) - before) / operations


def stalls(folder: Path, listeners: int) -> None:
    """Print the longest round trips of a peer, quiet and during scrapes."""
    file = folder / "netsrv.toml"
    file.write_text(f'[status]\naddress = "127.0.0.1:0"\n{configuration(listeners)}')
    with serving(["netsrv", "serve", "-c", str(file)]) as server:
        target = status_of(server)
        with tcp(server.port("tcp")) as sock:
            probe = Probe(sock)
            quiet = probe.during(lambda: time.sleep(QUIET_SECONDS))
            print(f"{listeners} listeners, no scrape: {quiet * 1000:.1f} ms", flush=True)
            for path in PATHS:
                scrape(probe, target, path, listeners)
        server.stop()


def scrape(probe: Probe, target: Target, path: str, listeners: int) -> None:
    """Print how long scrapes take, and the longest round trips of a peer meanwhile."""
    longest, spent = [], []
    command = ["curl", "--silent", "--output", "/dev/null", f"http://{target}{path}"]
    for _ in range(SCRAPES):
        began = time.perf_counter()
        longest.append(1000 * probe.during(lambda: subprocess.run(command, check=True)))
        spent.append(1000 * (time.perf_counter() - began))
    size = len(fetch(target, path).body)
    middle = sorted(longest)[SCRAPES // 2]
    print(
        f"{listeners} listeners, {path}: {size} bytes in {sorted(spent)[SCRAPES // 2]:.0f} ms, "
        f"longest stall {max(longest):.1f} ms, median {middle:.1f} ms",
        flush=True,
    )


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(prog="bench.status", description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--listeners", type=int, default=1000)
    parser.add_argument("--only", choices=["stalls", *WORK], action="append")
    options = parser.parse_args()
    print(machine())
    raise_descriptors()
    os.sched_setaffinity(0, {cores()[1]})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wanted = options.only or ["stalls", *WORK]
        if "stalls" in wanted:
            stalls(folder, options.listeners)
        if set(wanted) - {"stalls"}:
            problem = compile_programs(folder)
            assert problem is None, problem
        for work in WORK:
            if work in wanted:
                compare(folder, work, options.pairs, options.rounds, options.seconds)


if __name__ == "__main__":
    main()
