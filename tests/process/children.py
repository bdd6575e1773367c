"""The processes that a server has started."""

import os
import select
from contextlib import suppress
from pathlib import Path

from tests.timeouts import TIMEOUT


def children(pid: int) -> list[int]:
    """Return the children of a process that live."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(path.parent.name))
    return sorted(found)


def lives(pid: int) -> bool:
    """Return True if there is such a process, and it has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_for_exit(pid: int) -> None:
    """Wait until a process that is no child of this one has ended."""
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        with open(descriptor) as _:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            assert poll.poll(TIMEOUT * 1000)
