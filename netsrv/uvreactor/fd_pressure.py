"""When descriptors or memory run short: how it is noticed, since uvloop does not tell."""

import os
import resource
import sys
from contextlib import suppress
from typing import Any

CHECK_INTERVAL = 0.25
"""Seconds from one look at whether somebody waits in vain to the next."""


class AcceptWatchdog:
    """Has all loops look, from time to time, whether somebody waits in vain."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._watched: set[Any] = set()
        self._timer: Any = None

    def watch(self, accept_loop: Any) -> None:
        """Have it look from now on."""
        self._watched.add(accept_loop)
        if self._timer is None:
            self._timer = self._loop.call_later(CHECK_INTERVAL, self._look)

    def forget(self, accept_loop: Any) -> None:
        """Have it look no more."""
        self._watched.discard(accept_loop)

    def _look(self) -> None:
        self._timer = self._loop.call_later(CHECK_INTERVAL, self._look) if self._watched else None
        for each in list(self._watched):
            each.look()


def descriptor_limit() -> int:
    """How many descriptors this process may have."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit


def free_descriptors(descriptor: int, most: int) -> int:
    """How many more descriptors this process can have: tried with duplicates of one."""
    duplicates: list[int] = []
    with suppress(OSError):
        while len(duplicates) < most:
            duplicates.append(os.dup(descriptor))
    for each in duplicates:
        os.close(each)
    return len(duplicates)
