"""Measure the CPU time of an error at the start, beside that of ``twistd --help``.

Usage: python -m bench.start [--rounds N]
"""

import argparse
import os
import subprocess
from collections import defaultdict
from statistics import median

from bench.measure import machine
from tests.process.running import located

REFERENCE = "twistd --help"

COMMANDS = [
    REFERENCE,
    "twistd -n netsrv --tcp 192.0.2.1:0",
    "netsrv serve --tcp 192.0.2.1:0",
    "netsrv serve --tcp 65536",
    "netsrv --version",
]
"""No interface has the address 192.0.2.1 (RFC 5737)."""


def milliseconds(command: str) -> float:
    """Run a command; return its CPU time in milliseconds."""
    null = subprocess.DEVNULL
    process = subprocess.Popen(located(command.split()), stdin=null, stdout=null, stderr=null)
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0  # nothing is left for Popen to wait for
    return (usage.ru_utime + usage.ru_stime) * 1000


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="bench.start", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20, help="runs of each command, default 20")
    rounds = parser.parse_args().rounds
    measured: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for command in COMMANDS:
            measured[command].append(milliseconds(command))
    print(machine())
    print("\nProcessor time of a start in milliseconds")
    print(f"  {'':36} {'minimum':>8} {'median':>8}  minimum / that of {REFERENCE}")
    for command, numbers in measured.items():
        ratio = min(numbers) / min(measured[REFERENCE])
        print(f"  {command:36} {min(numbers):8.0f} {median(numbers):8.0f}  {ratio:.2f}")


if __name__ == "__main__":
    main()
