"""Detects a shortage of descriptors or memory, which uvloop does not report."""

import os
import resource
import sys
from contextlib import suppress
from typing import Any

CHECK_INTERVAL = 0.25
"""Seconds between two checks whether connections wait and none is accepted."""


class AcceptWatchdog:
    """Makes all native acceptors check periodically whether they still accept."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._watched: set[Any] = set()
        self._timer: Any = None

    def watch(self, acceptor: Any) -> None:
        """Call ``acceptor.look()`` every `CHECK_INTERVAL` seconds."""
        self._watched.add(acceptor)
        if self._timer is None:
            self._timer = self._loop.call_later(CHECK_INTERVAL, self._look)

    def forget(self, acceptor: Any) -> None:
        """Stop calling *acceptor*."""
        self._watched.discard(acceptor)

    def _look(self) -> None:
        self._timer = self._loop.call_later(CHECK_INTERVAL, self._look) if self._watched else None
        for acceptor in list(self._watched):
            acceptor.look()


def descriptor_limit() -> int:
    """Return the number of descriptors that this process may have (RLIMIT_NOFILE)."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit


def free_descriptors(descriptor: int, most: int) -> int:
    """Return how many more descriptors this process can have, *most* at most.

    It is tried with duplicates of *descriptor*.
    """
    duplicates: list[int] = []
    with suppress(OSError):
        while len(duplicates) < most:
            duplicates.append(os.dup(descriptor))
    for duplicate in duplicates:
        os.close(duplicate)
    return len(duplicates)
