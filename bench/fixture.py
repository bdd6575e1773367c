"""Measure what a server of the pytest fixture costs from start to ready, and what many leave.

Usage: python -m bench.fixture [--rounds N] [--servers N]
"""

import argparse
import os
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median

from bench.measure import cpu_seconds, machine
from netsrv.fixture import start_server
from tests.process.running import located

REFERENCE = "twistd --help"

GOAL = 1.5
"""The longest start, as a multiple of `REFERENCE`."""

Figures = tuple[float, float]
"""Milliseconds by the wall clock, and of CPU time."""


def reference() -> Figures:
    """Run the reference command to its end."""
    null = subprocess.DEVNULL
    began = time.monotonic()
    process = subprocess.Popen(located(REFERENCE.split()), stdin=null, stdout=null, stderr=null)
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0  # nothing is left for Popen to wait for
    wall = time.monotonic() - began
    return wall * 1000, (usage.ru_utime + usage.ru_stime) * 1000


def starting(*arguments: str, **options: object) -> Callable[[], Figures]:
    """Return a function that starts a server and measures until it is ready."""

    def start() -> Figures:
        began = time.monotonic()
        with start_server(*arguments, **options) as server:
            wall = time.monotonic() - began
            return wall * 1000, cpu_seconds(server.process.pid) * 1000

    return start


CASES: dict[str, Callable[[], Figures]] = {
    REFERENCE: reference,
    'netsrv_server("echo")': starting("echo"),
    'netsrv_server("echo", max_connections=1)': starting("echo", max_connections=1),
}


def show(title: str, measured: dict[str, list[float]]) -> None:
    """Print a table."""
    print(f"\n{title} in milliseconds")
    print(f"  {'':42} {'minimum':>8} {'median':>8}  minimum / that of {REFERENCE}")
    for name, numbers in measured.items():
        ratio = min(numbers) / min(measured[REFERENCE])
        goal = "" if name == REFERENCE else f"  goal: at most {GOAL}"
        print(f"  {name:42} {min(numbers):8.0f} {median(numbers):8.0f}  {ratio:.2f}{goal}")


def one_after_another(count: int) -> None:
    """Start and stop servers; print how many processes and descriptors are left."""
    began, before = time.monotonic(), len(os.listdir("/proc/self/fd"))
    for _ in range(count):
        start_server("echo").stop()
    seconds = time.monotonic() - began
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    descriptors = len(os.listdir("/proc/self/fd")) - before
    print(
        f"\n{count} servers started and stopped one after another in {seconds:.1f} s: "
        f"{len(children)} processes and {descriptors} descriptors are left"
    )


def main() -> None:
    """Measure in turns, and print."""
    parser = argparse.ArgumentParser(prog="bench.fixture", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20, help="starts of each, default 20")
    parser.add_argument(
        "--servers", type=int, default=0, help="servers to start and stop afterwards, default 0"
    )
    arguments = parser.parse_args()
    wall: dict[str, list[float]] = defaultdict(list)
    processor: dict[str, list[float]] = defaultdict(list)
    for _ in range(arguments.rounds):
        for name, run in CASES.items():
            figures = run()
            wall[name].append(figures[0])
            processor[name].append(figures[1])
    print(machine())
    show("Time from start to ready", wall)
    show("Processor time from start to ready", processor)
    if arguments.servers:
        one_after_another(arguments.servers)


if __name__ == "__main__":
    main()
