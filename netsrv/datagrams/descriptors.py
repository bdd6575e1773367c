"""A descriptor that was closed behind the back of its owner, and may be that of another file."""

import os
from typing import Any


def forget_reader(reactor: Any, descriptor: int) -> None:
    """Make the epoll reactor forget a descriptor that was closed behind its back.

    epoll forgets a closed file by itself.  So ``removeReader`` raises before it removes the
    number from its own set, and would take the next file of that number for one that it watches
    already.  Twisted has no public way to that set.
    """
    reactor._reads.discard(descriptor)


def identity(descriptor: int) -> tuple[int, int] | None:
    """Return what identifies the open file of a descriptor; None if there is none."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return status.st_dev, status.st_ino
