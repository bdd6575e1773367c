"""Measure CPU time and memory of processes; describe the machine; compute intervals."""

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
    """Return the CPU time of a process, user and system, to the nanosecond.

    It is read from the process's CPU clock (clock_getcpuclockid(3)), which is the sum over all
    threads, also those that have ended.  The times in ``/proc/PID/stat`` come in ticks of
    10 ms, too coarse for a round, and ``/proc/PID/task/*/schedstat`` forgets threads.
    """
    clock = ctypes.c_int()
    error = _LIBC.clock_getcpuclockid(pid, ctypes.byref(clock))
    if error:
        raise ProcessLookupError(error, os.strerror(error), str(pid))
    return time.clock_gettime(clock.value)


def busy_seconds(pid: int) -> float:
    """Return the seconds in which the threads of a process ran or waited for a core.

    From ``/proc/PID/task/*/schedstat`` (see sched-stats in the kernel's documents).
    """
    return sum(sum(map(int, text.split()[:2])) for text in _of_threads(pid, "schedstat")) / 1e9


def runnable(pid: int) -> bool:
    """Return True if a thread of a process runs or waits for a core."""
    return any(text.rpartition(")")[2].split()[0] == "R" for text in _of_threads(pid, "stat"))


def _of_threads(pid: int, name: str) -> Iterator[str]:
    """Yield the text of a file of each thread; a thread that ends meanwhile is skipped."""
    for path in Path(f"/proc/{pid}/task").glob(f"*/{name}"):
        with suppress(OSError):
            yield path.read_text()


def memory_bytes(pid: int) -> dict[str, int]:
    """Return the memory of a process in bytes: ``rss``, and ``pss`` (see proc(5))."""
    fields = Path(f"/proc/{pid}/smaps_rollup").read_text().split("\n")[1:]
    sizes = dict(line.split(":", 1) for line in fields if line)
    return {name.lower(): int(sizes[name].split()[0]) * 1024 for name in ("Rss", "Pss")}


def machine() -> str:
    """Return one line that describes the machine."""
    models = Path("/proc/cpuinfo").read_text().split("model name")[1:]
    model = models[0].partition("\n")[0].strip(" \t:") if models else platform.machine()
    return (
        f"{len(models) or '?'} x {model}, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, Twisted {twisted.__version__}"
    )


def versions(compiler: str) -> dict[str, str]:
    """Return the versions of the packages and the compiler that are installed."""
    numbers = {}
    for name in ("netsrv", "uvloop", "gevent"):
        with suppress(PackageNotFoundError):
            numbers[name] = version(name)
    with suppress(OSError):
        done = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
        numbers[compiler] = done.stdout.partition("\n")[0]
    return numbers


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Divide round by round, since what disturbs a whole round disturbs both."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def interval(numbers: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Return a confidence interval of the median, and its confidence.

    The interval goes from the k-th smallest number to the k-th largest.  How often it misses
    the median follows from the binomial distribution alone, whatever the distribution of the
    numbers: see David and Nagaraja, Order Statistics, 3rd edition, section 7.1.  With fewer
    than 6 numbers no interval reaches the default confidence; the widest one is returned.
    """
    count, ordered = len(numbers), sorted(numbers)
    rank, missed = 1, 2 * 0.5**count
    while rank < (count + 1) // 2:
        wider = missed + 2 * math.comb(count, rank) * 0.5**count
        if wider > 1 - confidence:
            break
        rank, missed = rank + 1, wider
    return ordered[rank - 1], ordered[count - rank], max(0.0, 1 - missed)
