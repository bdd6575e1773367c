"""What the measurements share: processor time, memory, where it was, and how sure numbers are."""

import ctypes
import math
import os
import platform
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import twisted

_LIBC = ctypes.CDLL(None)


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has had, user and system, to the nanosecond.

    It is the process's CPU clock (clock_getcpuclockid(3)): the scheduler's sum over all
    threads, those that have ended too.  The times in ``/proc/PID/stat`` come in ticks of
    10 ms, too coarse for a round, and ``/proc/PID/task/*/schedstat`` forgets threads.
    """
    clock = ctypes.c_int()
    error = _LIBC.clock_getcpuclockid(pid, ctypes.byref(clock))
    if error:
        raise ProcessLookupError(error, os.strerror(error), str(pid))
    return time.clock_gettime(clock.value)


def wanted_seconds(pid: int) -> float:
    """Seconds in which the threads of a process ran, or waited for a core: it had work to do.

    From ``/proc/PID/task/*/schedstat`` (see sched-stats in the kernel's documents).
    """
    return sum(sum(map(int, each.split()[:2])) for each in _of_threads(pid, "schedstat")) / 1e9


def runnable(pid: int) -> bool:
    """Tell whether a thread of a process runs, or would if it had a core."""
    return any(each.rpartition(")")[2].split()[0] == "R" for each in _of_threads(pid, "stat"))


def _of_threads(pid: int, name: str) -> Iterator[str]:
    """Read a file of each thread of a process; those that end meanwhile have none."""
    for path in Path(f"/proc/{pid}/task").glob(f"*/{name}"):
        with suppress(OSError):
            yield path.read_text()


def memory_bytes(pid: int) -> dict[str, int]:
    """Give the memory of a process: ``rss``, and ``pss`` with its share of what others use too."""
    fields = Path(f"/proc/{pid}/smaps_rollup").read_text().split("\n")[1:]
    sizes = dict(each.split(":", 1) for each in fields if each)
    return {name.lower(): int(sizes[name].split()[0]) * 1024 for name in ("Rss", "Pss")}


def machine() -> str:
    """Give one line about where this was measured."""
    found = Path("/proc/cpuinfo").read_text().split("model name")[1:]
    model = found[0].partition("\n")[0].strip(" \t:") if found else platform.machine()
    return (
        f"{len(found) or '?'} x {model}, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, Twisted {twisted.__version__}"
    )


def versions(compiler: str) -> dict[str, str]:
    """Give the versions of what is compared; what is not installed is left out."""
    found = {}
    for name in ("netsrv", "uvloop", "gevent"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    with suppress(OSError):
        done = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
        found[compiler] = done.stdout.partition("\n")[0]
    return found


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Divide round by round: what disturbs a whole round disturbs both."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def interval(numbers: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Give a confidence interval of the median, and how sure it is.

    It goes from the k-th smallest number to the k-th largest.  How often such an interval
    misses the median follows from the binomial distribution alone, whatever the numbers'
    own is: see David and Nagaraja, Order Statistics, 3rd edition, section 7.1.  With
    fewer than 6 numbers no interval is that sure; the widest one is given.
    """
    count, ordered = len(numbers), sorted(numbers)
    place, missed = 1, 2 * 0.5**count
    while place < (count + 1) // 2:
        wider = missed + 2 * math.comb(count, place) * 0.5**count
        if wider > 1 - confidence:
            break
        place, missed = place + 1, wider
    return ordered[place - 1], ordered[count - place], max(0.0, 1 - missed)
