"""A peer's visit: who it is, since when, and how long the gate goes on with it.

The time limits are found by a sweep: no timer per message or connection.  At each sweep a
connection's byte counts are compared with those of the sweep before.  No sockets and no
timers here: *now* is passed in, in seconds of a clock that never goes back.
"""

from typing import Any

from netsrv.guards.limits import Limits
from netsrv.guards.sources import Source, source_of
from netsrv.interfaces import CloseReason


class Visit:
    """What is known of one peer that was admitted, from *now* on and under *limits*.

    *sockaddr* is what ``accept`` gave.
    """

    __slots__ = (
        "_give_up",
        "_limits",
        "_moved",
        "_moved_at",
        "_out",
        "_out_at",
        "opened_at",
        "sockaddr",
        "source",
    )

    def __init__(self, sockaddr: Any, limits: Limits, now: float) -> None:
        self.source: Source | None = source_of(sockaddr[0]) if isinstance(sockaddr, tuple) else None
        """None is a peer of this machine, on a unix socket."""
        self.opened_at = self._moved_at = self._out_at = now
        self.sockaddr = sockaddr
        self._limits = limits
        self._moved = self._out = 0
        self._give_up: float | None = None

    def limit_reached(self, connection: Any, now: float) -> CloseReason | None:
        """Look at a connection's counts, and say which limit it has reached, if any."""
        limits = self._limits
        unsent = connection.unsent
        out = connection.sent - unsent
        moved = connection.received + out
        if moved != self._moved:
            self._moved, self._moved_at = moved, now
        if out != self._out or not unsent:
            self._out, self._out_at = out, now
        if self._give_up is not None:
            return CloseReason.CLOSE_GRACE if now >= self._give_up else None
        if connection.disconnecting:
            stalled = now - self._out_at >= limits.close_grace
            return CloseReason.CLOSE_GRACE if stalled else None
        for limit, seconds, since in (
            (CloseReason.LIFETIME, limits.lifetime, self.opened_at),
            (CloseReason.IDLE_TIMEOUT, limits.idle_timeout, self._moved_at),
            (CloseReason.WRITE_TIMEOUT, limits.write_timeout, self._out_at),
        ):
            if seconds is not None and now - since >= seconds:
                return limit
        return None

    def close_begins(self, now: float) -> None:
        """We close: the peer has its grace from now on, and no more."""
        self._give_up = now + self._limits.close_grace
