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
        self._column = column

    def is_ahead(self, connections: int) -> bool:
        """Show the others how many this worker has; return True if one has far fewer."""
        shares, integers = self._shares, self._memory.integers
        integers[shares + self._column] = connections + 1
        least = min(filter(None, integers[shares : shares + self._memory.columns]))
        return bool(connections + 1 - least > MAX_LEAD)

    def leave(self) -> None:
        """Show the others that this worker takes no connections."""
        self._memory.integers[self._shares + self._column] = 0
