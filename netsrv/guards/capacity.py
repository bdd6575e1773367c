"""How many connections may be open at once: in all, and from each source."""

import math
from collections.abc import Callable

from netsrv.guards.sources import Source


class ConnectionSlots:
    """A counting semaphore without a queue; the default has no limit."""

    def __init__(self, limit: float = math.inf) -> None:
        self.limit = limit
        self.in_use = 0
        """Slots in use.  The caller that acquires one has checked `full` and adds 1."""
        self.waiters: list[Callable[[], None]] = []
        """Called once when a slot is released: see `on_release`."""

    @property
    def full(self) -> bool:
        """True if no slot is free."""
        return self.in_use >= self.limit

    def release(self, count: int = 1) -> None:
        """Release slots and call all waiters; each rechecks whether it can proceed."""
        self.in_use -= count
        if self.waiters:
            waiters, self.waiters = self.waiters, []
            for waiter in waiters:
                waiter()

    def on_release(self, waiter: Callable[[], None]) -> None:
        """Call *waiter* once, at the next release of a slot."""
        if waiter not in self.waiters:
            self.waiters.append(waiter)


class PerSource:
    """Counts the connections of each source; the table holds connected sources only.

    *limit* is the number of connections that one source may have; the default has no limit.
    """

    def __init__(self, limit: float = math.inf) -> None:
        self.limit = limit
        self.sources: dict[bytes, int] = {}
        """The number of connections by `Source.key`."""

    def acquire(self, source: Source) -> bool:
        """Count a connection of *source*; return False, and count nothing, at the limit."""
        if self.sources.get(source.key, 0) >= self.limit:
            return False
        self.add(source)
        return True

    def add(self, source: Source) -> None:
        """Count a connection of *source* whatever the limit is."""
        self.sources[source.key] = self.sources.get(source.key, 0) + 1

    def release(self, source: Source) -> None:
        """Count out a connection that `acquire` has counted."""
        key = source.key
        left = self.sources[key] - 1
        if left:
            self.sources[key] = left
        else:
            del self.sources[key]

    def __len__(self) -> int:
        return len(self.sources)
