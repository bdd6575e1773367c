"""The time limits of connections, found by a sweep: no timer per message or connection.

At each sweep a connection's byte counts are compared with those of the sweep before.
No sockets and no timers here: *now* is passed in, in seconds of a clock that never goes back.
"""

from typing import Any

from netsrv.interfaces import TimeLimit
from netsrv.limits import Limits


class Patience:
    """What is known of one connection's progress, and when it ends."""

    __slots__ = ("_give_up", "_moved", "_moved_at", "_opened_at", "_out", "_out_at")

    def __init__(self, now: float) -> None:
        self._opened_at = self._moved_at = self._out_at = now
        self._moved = self._out = 0
        self._give_up: float | None = None

    def limit_reached(self, connection: Any, limits: Limits, now: float) -> TimeLimit | None:
        """Look at a connection's counts, and say which limit it has reached, if any."""
        unsent = connection.unsent
        out = connection.sent - unsent
        moved = connection.received + out
        if moved != self._moved:
            self._moved, self._moved_at = moved, now
        if out != self._out or not unsent:
            self._out, self._out_at = out, now
        if self._give_up is not None:
            return TimeLimit.CLOSE_GRACE if now >= self._give_up else None
        if connection.disconnecting:
            stalled = now - self._out_at >= limits.close_grace
            return TimeLimit.CLOSE_GRACE if stalled else None
        for limit, seconds, since in (
            (TimeLimit.LIFETIME, limits.lifetime, self._opened_at),
            (TimeLimit.IDLE_TIMEOUT, limits.idle_timeout, self._moved_at),
            (TimeLimit.WRITE_TIMEOUT, limits.write_timeout, self._out_at),
        ):
            if seconds is not None and now - since >= seconds:
                return limit
        return None

    def close_begins(self, limits: Limits, now: float) -> None:
        """We close: the peer has its grace from now on, and no more."""
        self._give_up = now + limits.close_grace
