"""Detects a shortage of descriptors or memory, which uvloop does not report."""

import os
import resource
import select
import sys
from contextlib import suppress
from typing import Any

CHECK_INTERVAL = 0.25
"""Seconds between two checks whether connections wait and none is accepted."""


class AcceptWatchdog:
    """Makes native acceptors check whether they still accept, while connections wait for them.

    One epoll object has the listening sockets of all: a check costs the same for thousands.
    """

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._acceptors: dict[int, Any] = {}
        self._poll: Any = None
        self._timer: Any = None

    def watch(self, acceptor: Any, descriptor: int) -> None:
        """Call ``acceptor.look()`` at each check that finds *descriptor* readable."""
        if self._poll is None:
            self._poll = _new_poll()
        self._acceptors[descriptor] = acceptor
        with suppress(FileExistsError):
            self._poll.register(descriptor, select.POLLIN)
        if self._timer is None:
            self._timer = self._loop.call_later(CHECK_INTERVAL, self._look)

    def forget(self, descriptor: int) -> None:
        """Stop watching *descriptor*, which may be closed."""
        del self._acceptors[descriptor]
        try:
            self._poll.unregister(descriptor)
        except (KeyError, OSError):
            self._start_over()

    def _start_over(self) -> None:
        """Watch with another poll object: a duplicate may keep a closed descriptor in the old one.

        (epoll(7), questions and answers.)
        """
        self._poll = _new_poll()
        for descriptor in self._acceptors:
            with suppress(OSError):
                self._poll.register(descriptor, select.POLLIN)

    def _look(self) -> None:
        if not self._acceptors:
            self._timer = None
            return
        self._timer = self._loop.call_later(CHECK_INTERVAL, self._look)
        for descriptor, _ in self._poll.poll(0):
            acceptor = self._acceptors.get(descriptor)
            if acceptor is not None:
                acceptor.look()


def _new_poll() -> Any:
    """Return an epoll object; a poll object, which needs no descriptor, if there is none."""
    if sys.platform == "linux":
        with suppress(OSError):
            return select.epoll()
    return select.poll()


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
