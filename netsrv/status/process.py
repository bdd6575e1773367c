"""What the operating system says about this process."""

import os
import resource
import sys
import threading
import time
from contextlib import suppress
from typing import Any

_PAGE_SIZE = resource.getpagesize()

_STAT_START = 22
"""The field of ``/proc/self/stat`` with the start of the process, in ticks since the boot."""

_IS_LINUX = sys.platform == "linux"


def process_facts() -> dict[str, Any]:
    """Return the values of ``process`` in the status; None for those that are not known."""
    pages: list[int | None] = [None, None]
    with suppress(OSError, ValueError), open("/proc/self/statm", encoding="ascii") as file:
        pages = [int(number) for number in file.read().split()[:2]]
    virtual, resident = (None if count is None else count * _PAGE_SIZE for count in pages)
    return {
        "cpu_seconds": time.process_time(),
        "resident_bytes": resident,
        "virtual_bytes": virtual,
        "open_descriptors": _open_descriptors(),
        "max_descriptors": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "start": START,
        "threads": threading.active_count(),
    }


def _open_descriptors() -> int | None:
    """Return the number of open descriptors, which Linux 6.2 gives without a list of them."""
    if not _IS_LINUX:
        return None
    with suppress(OSError):
        return os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd")) - 1
    return None


def _start() -> float | None:
    """Return the start of the process in Unix time."""
    with suppress(OSError, ValueError, IndexError):
        with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        ticks = int(fields[_STAT_START - 3])
        with open("/proc/uptime", encoding="ascii") as file:
            uptime = float(file.read().split()[0])
        return round(time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK"), 2)
    return None


START = _start()
"""Unix time; read when this is imported, since a process may lose ``/proc`` by chroot(2)."""
