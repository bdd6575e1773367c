"""How many may be in at once: of all together, and of each source."""

import math
from collections.abc import Callable

from netsrv.guards.sources import Source


class ConnectionSlots:
    """So many places, and those who wait for one.  By default there is no end of them."""

    def __init__(self, most: float = math.inf) -> None:
        self.limit = most
        self.waiters: list[Callable[[], None]] = []
        """Who is to be called when somebody leaves: see `on_release`."""
        self.in_use = 0
        """How many are in.  Who counts one in has looked whether it is full."""

    @property
    def full(self) -> bool:
        """Whether nobody more can come in."""
        return self.in_use >= self.limit

    def release(self) -> None:
        """Give a place back, and call all who wait: they look themselves whether it is theirs."""
        self.in_use -= 1
        if self.waiters:
            waiting, self.waiters = self.waiters, []
            for each in waiting:
                each()

    def on_release(self, call: Callable[[], None]) -> None:
        """Call once, the next time that somebody leaves."""
        if call not in self.waiters:
            self.waiters.append(call)


class PerSource:
    """Counts who is in from each source; the table is as long as there are sources in.

    *most* may be in from one source; by default there is no end of them.
    """

    def __init__(self, most: float = math.inf) -> None:
        self.limit = most
        self._sources: dict[bytes, int] = {}

    def acquire(self, source: Source) -> bool:
        """Count one in, if the source has not as many in as it may."""
        key = source.key
        there = self._sources.get(key, 0)
        if there >= self.limit:
            return False
        self._sources[key] = there + 1
        return True

    def release(self, source: Source) -> None:
        """Count one out that `acquire` has counted in."""
        key = source.key
        left = self._sources[key] - 1
        if left:
            self._sources[key] = left
        else:
            del self._sources[key]

    def __len__(self) -> int:
        return len(self._sources)
