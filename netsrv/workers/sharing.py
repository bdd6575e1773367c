"""The part of each worker in the connections of a socket that all workers share."""

from netsrv.workers.memory import LimitMemory

MAX_LEAD = 8
"""Connections that a worker may have more than another one and still take new ones."""


class Share:
    """The connections of a listener in this worker, beside those in the others.

    Each worker that takes connections shows its number, and one more; the others show 0.
    """

    def __init__(self, memory: LimitMemory, block: int, column: int) -> None:
        self._memory = memory
        self._shares = memory.shares_at(block)
        self._own = self._shares + column
        self._behind: dict[int, int] = {}
        """The numbers of the workers that have far fewer, by their columns."""

    def is_ahead(self, connections: int) -> bool:
        """Show the others how many this worker has; return True if one has far fewer."""
        self._memory.integers[self._own] = connections + 1
        self._behind = self._find_behind()
        return bool(self._behind)

    def waits_in_vain(self) -> bool:
        """Return True if those with far fewer have taken none since `is_ahead`."""
        return self._find_behind() == self._behind

    def _find_behind(self) -> dict[int, int]:
        integers, start = self._memory.integers, self._shares
        shares = enumerate(integers[start : start + self._memory.columns])
        few = integers[self._own] - MAX_LEAD
        return {column: share for column, share in shares if 0 < share < few}

    def leave(self) -> None:
        """Show the others that this worker takes no connections."""
        self._memory.integers[self._own] = 0
