"""The processes that a server has started."""

import os
import select
from contextlib import suppress
from pathlib import Path

from tests.timeouts import TIMEOUT


def all_children(pid: int) -> list[int]:
    """Return the children of a process in the order of their starts, zombies too."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def children(pid: int) -> list[int]:
    """Return the children of a process that live; none of a process that has ended."""
    with suppress(OSError):
        return [child for child in all_children(pid) if lives(child)]
    return []


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
