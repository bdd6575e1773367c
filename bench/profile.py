"""Where the time of a server goes: system calls, libraries and functions, for one row.

Usage: python -m bench.profile ROW,... [--of NAME,...] [--seconds S] [--top N] [--json FILE]

It explains the ratios of ``bench.compare``: the same servers under the same load, one after
another, watched with perf(1), which needs root or a low ``kernel.perf_event_paranoid``.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any

from bench.compare import chosen
from bench.measure import machine
from bench.processes import LoadError, bound_to, compile_programs, cores, raise_descriptors
from bench.rows import Row
from bench.turns import KINDS, Figures, Loaded
from tests.timeouts import TIMEOUT

FREQUENCY = "3999"
"""Samples in a second of processor time."""

CALLS = [
    *"accept accept4 close shutdown getsockname getpeername getsockopt setsockopt".split(),
    *"read readv recvfrom recvmsg recvmmsg write writev sendto sendmsg sendmmsg".split(),
    *"epoll_ctl epoll_wait epoll_pwait poll fcntl ioctl futex openat".split(),
]
"""Those that are counted: perf takes long to count all that there are."""

Sample = tuple[float, str, str]
"""The share of the time, the library, and the function in it."""

_COUNT = re.compile(r"^(\d+),[^,]*,syscalls:sys_enter_(\w+),", re.MULTILINE)
_SAMPLE = re.compile(r"^ +(\d+\.\d+)%  (\S+) +\[[.k]\] (.+?)(?: +- +-)? *$", re.MULTILINE)


@contextmanager
def watched(words: Sequence[str]) -> Iterator[None]:
    """Run perf with these words, from when it has begun to watch until the block ends."""
    perf = subprocess.Popen(
        ["perf", *words, "sh", "-c", "echo ready; read end"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=bound_to(cores()[1]),  # noqa: PLW1509 - as in Running
    )
    assert perf.stdout is not None
    if not perf.stdout.readline():
        raise LoadError(f"perf: {perf.communicate()[1].strip()}")
    try:
        yield
    finally:
        _, said = perf.communicate("\n", TIMEOUT)
    if perf.returncode:
        raise LoadError(f"perf: {said.strip()}")


def calls(one: Loaded, seconds: float, folder: Path) -> dict[str, float]:
    """Count the system calls of a server in one turn; give how many it made each time."""
    output, pid = folder / "calls", str(one.server.process.pid)
    events = ",".join(f"syscalls:sys_enter_{each}" for each in CALLS)
    with watched(["stat", "-x,", "-o", str(output), "-e", events, "-p", pid]):
        amount = one.turn(seconds)["amount"]
    counted = {name: int(number) / amount for number, name in _COUNT.findall(output.read_text())}
    return dict(sorted(counted.items(), key=itemgetter(1), reverse=True))


def samples(one: Loaded, seconds: float, folder: Path) -> tuple[list[Sample], Figures]:
    """Sample a server in one turn; give the share, library and function of each, the most first."""
    output, pid = str(folder / "samples"), str(one.server.process.pid)
    with watched(["record", "-q", "-e", "cpu-clock", "-F", FREQUENCY, "-o", output, "-p", pid]):
        figures = one.turn(seconds)
    report = ["perf", "report", "-i", output, "--stdio", "-q", "--sort", "dso,symbol"]
    done = subprocess.run(report, capture_output=True, text=True, check=True)
    found = _SAMPLE.findall(done.stdout)
    return [(float(share) / 100, library, function) for share, library, function in found], figures


def profile(row: Row, name: str, folder: Path, seconds: float) -> dict[str, Any]:
    """Give the profile of one contender as ``--json`` has it: all times in µs of CPU each."""
    with closing(KINDS[row.kind](name, row, "127.0.0.1", folder)) as one:
        assert isinstance(one, Loaded)
        one.turn(seconds)
        counted = calls(one, seconds, folder)
        sampled, figures = samples(one, seconds, folder)
    cost = figures["cpu_seconds"] / figures["amount"] * 1e6
    libraries: dict[str, float] = defaultdict(float)
    for share, library, _ in sampled:
        libraries[library_of(library)] += share * cost
    return {
        "cost": cost,
        "calls": counted,
        "libraries": dict(sorted(libraries.items(), key=itemgetter(1), reverse=True)),
        "functions": [[share * cost, library, function] for share, library, function in sampled],
    }


def library_of(name: str) -> str:
    """Give the name under which a library is shown: ``kernel``, ``Python``, or as it is called."""
    if name.startswith("[kernel"):
        return "kernel"
    return "Python" if name.startswith(("libpython", "python")) else name.partition(".")[0]


def calls_each(found: Mapping[str, Any]) -> str:
    """Say which system calls a server makes each time."""
    return ", ".join(f"{name} {n:.2f}" for name, n in found["calls"].items() if n >= 0.01)


def show(name: str, found: Mapping[str, Any], top: int) -> None:
    """Print the profile of one contender."""
    cost = found["cost"]
    print(f"\n{name}: {cost:.2f} µs of CPU each, while it is watched")
    print(f"  system calls each: {calls_each(found)}")
    for library, total in list(found["libraries"].items())[:6]:
        print(f"  {total:8.2f} µs {total / cost:5.1%} {library}")
    for total, library, function in found["functions"][:top]:
        print(f"    {total:8.2f} µs {total / cost:5.1%} {function} ({library})")


def profiles(rows: Sequence[Row], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Print the profiles of some rows, and give them."""
    done = []
    with tempfile.TemporaryDirectory(prefix="netsrv-bench-") as folder:
        if reason := compile_programs(Path(folder)):
            sys.exit(f"bench.profile: {reason}")
        for row in rows:
            print(f"\n{row.title}")
            goals = {each: None for goal in row.goals for each in (goal.of, goal.against) if each}
            found: dict[str, Any] = {}
            for name in options.of.split(",") if options.of else goals:
                try:
                    found[name] = profile(row, name, Path(folder), options.seconds)
                    show(name, found[name], options.top)
                except (AssertionError, LoadError) as error:
                    print(f"\n{name}: {error}")
            done.append({"name": row.name, "title": row.title, "contenders": found})
    return done


def main() -> None:
    """Print the profiles of those that a row's goals are about, or of those that are named."""
    parser = argparse.ArgumentParser(prog="bench.profile", description=__doc__.partition("\n")[0])
    parser.add_argument("rows", metavar="ROW,...", help="those that bench.compare --only knows")
    parser.add_argument("--of", metavar="NAME,...", help="contenders; those of the goals without")
    parser.add_argument("--seconds", type=float, default=1, help="the length of a turn")
    parser.add_argument("--top", type=int, default=15, help="functions to show")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    options = parser.parse_args()
    try:
        rows = chosen(options.rows)
    except ValueError as error:
        parser.error(str(error))
    for row in rows:
        if not issubclass(KINDS[row.kind], Loaded):
            parser.error(f"{row.name}: not about a server under load")
    if shutil.which("perf") is None:
        sys.exit("bench.profile: perf is not installed (the Debian package linux-perf)")
    raise_descriptors()
    print(machine())
    done = profiles(rows, options)
    if options.json:
        options.json.write_text(json.dumps(done))


if __name__ == "__main__":
    main()
