"""Measure what workers cost: CPU time, the spread of connections, memory and the start.

Usage: python -m bench.workers [--rounds N] [--seconds S]

- CPU time of a round trip and of a connection with two workers, beside one process: all processes
  of the server on one core, the load on another, in turns.
- The connections of each of four workers, by the kernel's hash and from one queue, as fast as they
  can be opened, and one a millisecond.
- Seconds to the last of eight workers that is ready, and the memory of each.
"""

import argparse
import json
import os
import socket
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.request import urlopen

from bench.measure import cpu_seconds, machine, memory_bytes, ratios
from bench.processes import Load, compile_programs, serving
from tests.process.children import all_children
from tests.process.running import Running

COMMAND = [
    "netsrv",
    "serve",
    "--log-rate",
    "0",
    "--tcp",
    "echo=127.0.0.1:0",
    "--tcp",
    "127.0.0.1:0",
]

MODES = {"exchange": ["200", "100", "1", "100"], "accept": ["16", "0", "1", "0"]}
"""The modes of the load, each with peers, size, messages on their way, and size of the answer; the
first is for the first listener, and so on."""

SPREADS = (("hash", 4000, 0.0), ("shared", 4000, 0.0), ("shared", 1000, 0.001))
"""Selections, with a number of connections and the seconds between two of them."""


def start(workers: int, *options: str) -> Running:
    """Start a server on its core."""
    return serving([*COMMAND, "--workers", str(workers), *options])


def processes(server: Running) -> list[int]:
    """Return the processes of a server."""
    pid = server.process.pid
    return [pid, *all_children(pid)]


def measure_cpu(folder: Path, mode: str, rounds: int, seconds: float) -> None:
    """Compare the CPU time of an exchange, or of a connection, with that of one process."""
    with ExitStack() as stack:
        running = {}
        for workers in (1, 2):
            server = stack.enter_context(start(workers))
            port = server.port("tcp", list(MODES).index(mode) + 1)
            words = [mode, "127.0.0.1", str(port), *MODES[mode]]
            running[workers] = server, stack.enter_context(Load(folder / "load", words))
        costs: dict[int, list[float]] = {1: [], 2: []}
        for number in range(rounds + 1):
            for workers in sorted(running, reverse=number % 2 == 1):
                server, load = running[workers]
                before = sum(map(cpu_seconds, processes(server)))
                figures = load.run(seconds)
                used = sum(map(cpu_seconds, processes(server))) - before
                if number:  # the first round warms up
                    costs[workers].append(used / figures["operations"] * 1e6)
    one, two = (statistics.median(costs[workers]) for workers in (1, 2))
    ratio = statistics.median(ratios(costs[2], costs[1]))
    print(f"{mode:<10} {one:10.2f} us {two:10.2f} us {ratio:8.3f}")


def measure_spread(selection: str, connections: int, pause: float) -> None:
    """Print how many connections each of four workers has accepted."""
    options = ("--worker-selection", selection, "--status", "127.0.0.1:0")
    with start(4, *options) as server, ExitStack() as stack:
        port = server.port("tcp")
        server.wait_for("Serving status")
        for _ in range(connections):
            stack.enter_context(socket.create_connection(("127.0.0.1", port))).sendall(b"x")
            time.sleep(pause)
        counts = accepted(server, connections)
        share = connections / 4
        worst = max(abs(count / share - 1) for count in counts)
        print(f"{selection:<10} {counts}, at most {worst:.1%} from even")


def accepted(server: Running, connections: int) -> list[int]:
    """Return the connections that each worker has accepted, once these are all."""
    url = server.wait_for(r"Serving status on (\S+)")[1]
    while True:
        with urlopen(f"{url}status.json") as answer:
            rows = json.load(answer)["workers"]["processes"]
        counts = [row["accepted"] for row in rows]
        if sum(counts) == connections:
            return counts


def measure_start() -> None:
    """Print the seconds to the last worker of eight, the CPU time, and the memory of each."""
    began = time.monotonic()
    with start(8) as server:
        server.wait_for("Waiting for connections")
        seconds = time.monotonic() - began
        used = sum(map(cpu_seconds, processes(server)))
        sizes = [memory_bytes(pid) for pid in processes(server)]
        print(f"8 workers  {seconds:.2f} s on one core, {used:.2f} s of CPU time")
        for name, size in (("master", sizes[0]), ("worker", sizes[1])):
            print(f"{name:<10} {size['rss'] // 1024:,} KiB, {size['pss'] // 1024:,} KiB of its own")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    print(machine(), f"{len(os.sched_getaffinity(0))} cores", sep=", ")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if reason := compile_programs(folder):
            raise SystemExit(reason)
        print(f"{'':<10} {'1 process':>13} {'2 workers':>13} {'ratio':>8}")
        for mode in MODES:
            measure_cpu(folder, mode, options.rounds, options.seconds)
    for spread in SPREADS:
        measure_spread(*spread)
    measure_start()


if __name__ == "__main__":
    main()
