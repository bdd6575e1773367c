"""How many may be in at once: of all together, and of each source."""

from collections.abc import Callable

from netsrv.sources import Source


class Places:
    """So many places, and those who wait for one.  None means that there is no end of them."""

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self._waiting: list[Callable[[], None]] = []
        self.taken = 0
        """How many are in."""

    @property
    def full(self) -> bool:
        """Whether nobody more can come in."""
        return self.most is not None and self.taken >= self.most

    def take(self) -> None:
        """Take a place; who takes one has looked whether it is full."""
        self.taken += 1

    def leave(self) -> None:
        """Give a place back, and call all who wait: they look themselves whether it is theirs."""
        self.taken -= 1
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each()

    def when_left(self, call: Callable[[], None]) -> None:
        """Call once, the next time that somebody leaves."""
        if call not in self._waiting:
            self._waiting.append(call)


class PerSource:
    """Counts who is in from each source; the table is as long as there are sources in.

    *most* may be in from one source; None means that there is no end of them.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self._sources: dict[bytes, int] = {}

    def take(self, source: Source) -> bool:
        """Count one in, if the source has not as many in as it may."""
        there = self._sources.get(source.key, 0)
        if self.most is not None and there >= self.most:
            return False
        self._sources[source.key] = there + 1
        return True

    def leave(self, source: Source) -> None:
        """Count one out that `take` has counted in."""
        left = self._sources[source.key] - 1
        if left:
            self._sources[source.key] = left
        else:
            del self._sources[source.key]

    def __len__(self) -> int:
        return len(self._sources)
