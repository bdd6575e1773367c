"""The time limits of one connection, found by a sweep.

There is no timer per message or connection: at each sweep the connection's byte counts are
compared with those of the sweep before.  No sockets and no timers here: *now* is passed in,
in seconds of a monotonic clock.
"""

from typing import Any

from netsrv.guards.limits import Limits
from netsrv.interfaces import CloseReason


class Timeouts:
    """The time limits of one connection, which *limits* set and which run from *since* on."""

    __slots__ = (
        "_abort_at",
        "_limits",
        "_moved",
        "_moved_at",
        "_sent",
        "_sent_at",
        "_since",
    )

    def __init__(self, limits: Limits, since: float) -> None:
        self._limits = limits
        self._since = self._moved_at = self._sent_at = since
        self._moved = self._sent = 0
        self._abort_at: float | None = None

    def expired(self, connection: Any, now: float) -> CloseReason | None:
        """Compare *connection*'s counts, and return the limit that it has reached, if any."""
        limits = self._limits
        unsent = connection.unsent
        sent = connection.sent - unsent
        moved = connection.received + sent
        if moved != self._moved:
            self._moved, self._moved_at = moved, now
        if sent != self._sent or not unsent:
            self._sent, self._sent_at = sent, now
        if self._abort_at is not None:
            return CloseReason.CLOSE_GRACE if now >= self._abort_at else None
        lifetime = limits.lifetime
        if lifetime is not None and now - self._since >= lifetime:
            return CloseReason.LIFETIME
        if connection.disconnecting:
            stuck = now - self._sent_at >= limits.close_grace
            return CloseReason.CLOSE_GRACE if stuck else None
        for limit, seconds, since in (
            (CloseReason.IDLE_TIMEOUT, limits.idle_timeout, self._moved_at),
            (CloseReason.WRITE_TIMEOUT, limits.write_timeout, self._sent_at),
        ):
            if seconds is not None and now - since >= seconds:
                return limit
        return None

    def start_grace(self, now: float) -> None:
        """Start the close grace: the server closes the connection, and aborts it at its end."""
        self._abort_at = now + self._limits.close_grace
