"""What the measurements share: the processor time of a process, and how numbers are shown."""

import platform
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles

import twisted


def cpu_seconds(pid: int) -> float:
    """Processor time that all threads of a process have had, to the nanosecond (proc(5)).

    The times in ``/proc/PID/stat`` come in ticks of 10 ms, too coarse for a round.
    """
    times = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(each.read_text().split()[0]) for each in times) / 1e9


def machine() -> str:
    """Give one line about where this was measured."""
    found = Path("/proc/cpuinfo").read_text().split("model name")[1:]
    model = found[0].partition("\n")[0].strip(" \t:") if found else platform.machine()
    return (
        f"{len(found) or '?'} x {model}, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, Twisted {twisted.__version__}"
    )


def spread(numbers: Sequence[float], digits: int = 2) -> str:
    """Give the median of some numbers and, in brackets, their quartiles."""
    low, _, high = quantiles(numbers, method="inclusive") if len(numbers) > 1 else [*numbers] * 3
    return f"{median(numbers):.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Divide round by round: what disturbs a whole round disturbs both."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]
