"""The time limits of one connection, found by looking at it from time to time.

There is no timer per message or connection: at each look the connection's byte counts are
compared with those of the look before.  No sockets and no timers here: *now* is passed in, in
seconds of a monotonic clock.
"""

from typing import Any

from netsrv.guards.limits import Limits
from netsrv.guards.wheel import NEVER
from netsrv.interfaces import CloseReason

ALL_SENT = -1
"""Stands for the count of bytes sent while no output waits: then no output can be stuck."""

UNKNOWN = -1
"""Stands for the count of bytes that have moved: it is not compared, but set."""


class Timeouts:
    """The time limits of one connection, which *limits* set and which run from *since* on.

    Bytes have moved at some time between two looks; the limits count from the second of them,
    so that no limit is early.
    """

    __slots__ = ("_abort_at", "_moved", "_moved_at", "_sent", "_sent_at", "_since", "limits")

    def __init__(self, limits: Limits, since: float) -> None:
        self.limits = limits
        self._since = self._moved_at = self._sent_at = since
        self._moved = 0
        self._sent = ALL_SENT
        self._abort_at: float | None = None

    def look(self, connection: Any, closing: bool, now: float) -> float:
        """Compare *connection*'s counts, and return the time at which it reaches a limit.

        That is if no byte moves until then.  *closing* is true if the server closes it.
        """
        moved = connection.received + connection.sent
        if moved != self._moved or self._sent != ALL_SENT:
            self._compare(connection, moved, now)
        if self._abort_at is not None:
            return self._abort_at
        limits = self.limits
        due = NEVER if limits.lifetime is None else self._since + limits.lifetime
        is_stuck = self._sent != ALL_SENT
        if closing:
            return min(due, self._sent_at + limits.close_grace) if is_stuck else due
        if limits.idle_timeout is not None:
            due = min(due, self._moved_at + limits.idle_timeout)
        if is_stuck and limits.write_timeout is not None:
            due = min(due, self._sent_at + limits.write_timeout)
        return due

    def reached(self, closing: bool, now: float) -> CloseReason:
        """Return the limit that was reached, when the time that `look` has returned has come."""
        limits = self.limits
        if self._abort_at is not None:
            return CloseReason.CLOSE_GRACE
        if limits.lifetime is not None and now >= self._since + limits.lifetime:
            return CloseReason.LIFETIME
        if closing:
            return CloseReason.CLOSE_GRACE
        if limits.idle_timeout is not None and now >= self._moved_at + limits.idle_timeout:
            return CloseReason.IDLE_TIMEOUT
        return CloseReason.WRITE_TIMEOUT

    def start_closing(self) -> None:
        """Count the close grace of output that is stuck from the next look on."""
        self._sent, self._moved = ALL_SENT, UNKNOWN

    def start_grace(self, now: float) -> None:
        """Start the close grace: the server closes the connection, and aborts it at its end."""
        self._abort_at = now + self.limits.close_grace

    def _compare(self, connection: Any, written: int, now: float) -> None:
        """Find out whether bytes have moved; *written* are those that need not have moved yet."""
        unsent = connection.unsent
        if written - unsent != self._moved:
            self._moved, self._moved_at = written - unsent, now
        sent = connection.sent - unsent
        if not unsent:
            self._sent = ALL_SENT
        elif sent != self._sent:
            self._sent, self._sent_at = sent, now
