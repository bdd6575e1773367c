"""Fairness between the processes that accept from one socket.

The kernel wakes all of them for each connection, and the first one gets it: often the same one.  So
a process that has more connections than another one watches the socket no more; it looks now and
then whether a connection waits there, because the others are busy or stopped.
"""

import select
import socket
from collections.abc import Callable
from typing import Any, Protocol

LOOK_INTERVAL = 0.02
"""Seconds between two looks whether a connection waits."""

FREE_TIME = 0.1
"""Seconds in which a process takes all connections, after one has waited."""


class IShare(Protocol):
    """The part of this process in the connections of a socket."""

    def is_ahead(self, connections: int) -> bool:
        """Show the others how many this process has; return True if one has far fewer."""

    def waits_in_vain(self) -> bool:
        """Return True if those with far fewer have taken none since `is_ahead`."""

    def leave(self) -> None:
        """Show the others that this process takes no connections."""


class FairShare:
    """Says when this process leaves the connections of *sock* to others; *now* is in seconds."""

    def __init__(self, share: IShare, sock: socket.socket, now: Callable[[], float]) -> None:
        self._share = share
        self._sock = sock
        self._now = now
        self._free_until = 0.0
        self.leave = share.leave

    def yields(self, connections: int) -> bool:
        """Return True if others take the next connection; this process has so many."""
        return self._share.is_ahead(connections) and self._now() >= self._free_until

    def look(self) -> None:
        """Take all connections for a while if one waits, and the others have taken none."""
        poll: Any = select.poll()
        poll.register(self._sock, select.POLLIN)
        if self._share.waits_in_vain() and poll.poll(0):
            self._free_until = self._now() + FREE_TIME
