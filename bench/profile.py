"""Where the time of a server goes: system calls, libraries and functions, for one row.

Usage: python -m bench.profile ROW [--of NAME,...] [--seconds S] [--top N]

It explains a ratio of ``bench.compare``: the same servers under the same load, one after another,
watched with perf(1), which needs root or a low ``kernel.perf_event_paranoid``.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from operator import itemgetter
from pathlib import Path

from bench.compare import chosen
from bench.measure import machine
from bench.processes import LoadError, bound_to, compile_programs, cores, raise_descriptors
from bench.rows import Row
from bench.turns import KINDS, Figures, Loaded
from tests.process.running import PATIENCE

FREQUENCY = "3999"
"""Samples in a second of processor time."""

CALLS = [
    *"accept accept4 close shutdown getsockname getpeername getsockopt setsockopt".split(),
    *"read readv recvfrom recvmsg recvmmsg write writev sendto sendmsg sendmmsg".split(),
    *"epoll_ctl epoll_wait epoll_pwait poll fcntl ioctl futex openat".split(),
]
"""Those that are counted: perf takes long to count all that there are."""

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
        _, said = perf.communicate("\n", PATIENCE)
    if perf.returncode:
        raise LoadError(f"perf: {said.strip()}")


def calls(one: Loaded, seconds: float, folder: Path) -> tuple[Counter[str], Figures]:
    """Count the system calls of a server in one turn."""
    output, pid = folder / "calls", str(one.server.process.pid)
    events = ",".join(f"syscalls:sys_enter_{each}" for each in CALLS)
    words = ["stat", "-x,", "-o", str(output), "-e", events, "-p", pid]
    with watched(words):
        figures = one.turn(seconds)
    counted = {name: int(number) for number, name in _COUNT.findall(output.read_text())}
    return Counter(counted), figures


def samples(
    one: Loaded, seconds: float, folder: Path
) -> tuple[list[tuple[float, str, str]], Figures]:
    """Sample a server in one turn; give the share, library and function of each, the most first."""
    output, pid = folder / "samples", str(one.server.process.pid)
    with watched(
        ["record", "-q", "-e", "cpu-clock", "-F", FREQUENCY, "-o", str(output), "-p", pid]
    ):
        figures = one.turn(seconds)
    report = ["perf", "report", "-i", str(output), "--stdio", "-q", "--sort", "dso,symbol"]
    done = subprocess.run(report, capture_output=True, text=True, check=True)
    found = _SAMPLE.findall(done.stdout)
    return [(float(share), library, function) for share, library, function in found], figures


def show(row: Row, name: str, folder: Path, seconds: float, top: int) -> None:
    """Print the profile of one contender."""
    kind = KINDS[row.kind]
    with closing(kind(name, row, "127.0.0.1", folder)) as one:
        assert isinstance(one, Loaded)
        one.turn(seconds)
        counted, counting = calls(one, seconds, folder)
        sampled, figures = samples(one, seconds, folder)
    cost = figures["cpu_seconds"] / figures["amount"] * 1e6
    libraries: dict[str, float] = defaultdict(float)
    for share, library, _ in sampled:
        libraries[library] += share
    print(f"\n{name}: {cost:.2f} µs of CPU each, while it is watched")
    shown = [f"{each} {number / counting['amount']:.3f}" for each, number in counted.most_common(8)]
    print(f"  system calls each: {', '.join(each for each in shown if not each.endswith('0.000'))}")
    for library, total in sorted(libraries.items(), key=itemgetter(1), reverse=True)[:6]:
        print(f"  {total / 100 * cost:8.2f} µs {total:5.1f} % {library}")
    for share, library, function in sampled[:top]:
        print(f"    {share / 100 * cost:8.2f} µs {share:5.1f} % {function} ({library})")


def main() -> None:
    """Print the profiles of those that a row's goals are about, or of those that are named."""
    parser = argparse.ArgumentParser(prog="bench.profile", description=__doc__.partition("\n")[0])
    parser.add_argument("row", help="one of those that bench.compare --only knows")
    parser.add_argument("--of", metavar="NAME,...", help="contenders; those of the goals without")
    parser.add_argument("--seconds", type=float, default=2, help="the length of a turn")
    parser.add_argument("--top", type=int, default=15, help="functions to show")
    options = parser.parse_args()
    try:
        (row,) = chosen(options.row)
    except ValueError as error:
        parser.error(str(error))
    if row.kind not in ("load", "web"):
        parser.error(f"{row.name} is not about a load")
    if shutil.which("perf") is None:
        sys.exit("bench.profile: perf is not installed (the Debian package linux-perf)")
    raise_descriptors()
    print(machine(), row.title, sep="\n")
    names = {each: None for goal in row.goals for each in (goal.of, goal.against) if each}
    with tempfile.TemporaryDirectory(prefix="netsrv-bench-") as name:
        if reason := compile_programs(Path(name)):
            sys.exit(f"bench.profile: {reason}")
        for each in options.of.split(",") if options.of else names:
            try:
                show(row, each, Path(name), options.seconds, options.top)
            except (AssertionError, LoadError) as error:
                print(f"\n{each}: {error}")


if __name__ == "__main__":
    main()
