"""The time limits of the connections of one gate.

A timing wheel has each connection, and the gate's clock has one timer, for the next slot.
Connections whose service has not begun have a wheel of their own: each has one deadline, and
nothing to look at before.
"""

from collections.abc import Callable, Sequence
from typing import Any

from netsrv.guards.limits import Limits
from netsrv.guards.timeouts import Timeouts
from netsrv.guards.wheel import NEVER, Pace, Wheel
from netsrv.interfaces import CloseReason

BATCH_SIZE = 64
"""Connections that are looked at before other events get their turn: a fifth of a millisecond."""

MAX_EXACT_CONNECTIONS = 1000
"""Connections of a gate that are looked at once a second, also if their limits are long."""

MIN_DELAY = 1e-6
"""Seconds of the shortest timer: a timer of zero could come before a time that it is set for."""

DEADLINE_WIDTH = 1 / 16
"""Seconds that a deadline is late, at most."""

PHASE_STEP = 0.6180339887498949
"""The part of an interval between the first looks of two connections, modulo one.

With multiples of the golden ratio any number of looks is spread evenly.
"""


class _Watch:
    """A timing wheel of connections, and one timer of *clock*, for the wheel's next slot.

    *clock* provides IReactorTime; *now* returns seconds of a monotonic clock.
    """

    def __init__(self, clock: Any, now: Callable[[], float]) -> None:
        self._clock = clock
        self._now = now
        self._wheel = Wheel()
        self.connections = self._wheel.slot_of
        """The connections that are watched."""
        self._timer: Any = None
        self._armed_for = NEVER

    def discard(self, connection: Any) -> None:
        """Forget a connection."""
        self._wheel.discard(connection)

    def stop(self) -> None:
        """Stop the timer; there is no connection."""
        self._wheel.forget_empty_slots()
        self._armed_for = NEVER
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_at(self, connection: Any, timeouts: Timeouts | None, now: float) -> None:
        """Look at a connection whose time has come."""
        raise NotImplementedError

    def _look(self) -> None:
        """Look at the connections whose time has come, up to `BATCH_SIZE` of them."""
        self._timer, self._armed_for = None, NEVER
        now = self._now()
        try:
            for _ in range(BATCH_SIZE):
                item = self._wheel.pop_due(now)
                if item is None:
                    break
                self._look_at(*item, now)
        finally:
            self._wheel.forget_empty_slots()
            self._arm()

    def _arm(self) -> None:
        """Set the timer for the next slot, unless it comes earlier."""
        time = self._wheel.next_time
        if time < self._armed_for:
            if self._timer is not None:
                self._timer.cancel()
            self._armed_for = time
            self._timer = self._clock.callLater(max(MIN_DELAY, time - self._now()), self._look)


class TimeLimits(_Watch):
    """Finds the connections that have reached a time limit.

    *close* is called with a connection that has reached a limit, and the limit.
    """

    def __init__(
        self,
        clock: Any,
        now: Callable[[], float],
        close: Callable[[Any, CloseReason], None],
    ) -> None:
        super().__init__(clock, now)
        self._close = close
        self._phase = 0.0

    def add(self, connection: Any) -> None:
        """Add a connection that was just accepted."""
        permit = connection.permit
        limits = permit.limits
        pace = self._pace(limits, connection.disconnecting)
        self._phase = (self._phase + PHASE_STEP) % 1.0
        when = NEVER if pace.interval == NEVER else permit.since + self._phase * pace.interval
        if limits.lifetime is not None:
            when = min(when, permit.since + limits.lifetime)
        self._wheel.put(connection, None, when, pace.slot_width)
        self._arm()

    def add_batch(self, connections: Sequence[Any]) -> None:
        """Add connections that were accepted in one turn and are being closed."""
        if connections:
            permit = connections[0].permit
            self._wheel.put_batch(connections, *self._first_look_at_close(permit, permit.since))
            self._arm()

    def start_closing(self, connection: Any) -> None:
        """Look at a connection by the limits of a close, which has just begun."""
        if connection not in self.connections:
            return
        timeouts = self._wheel.take(connection)
        if timeouts is not None:
            timeouts.start_closing()
        when, slot_width = self._first_look_at_close(connection.permit, self._now())
        self._wheel.put(connection, timeouts, when, slot_width)
        self._arm()

    def _pace(self, limits: Limits, closing: bool) -> Pace:
        paces = limits.closing_paces if closing else limits.open_paces
        return paces.many if len(self.connections) > MAX_EXACT_CONNECTIONS else paces.few

    def _first_look_at_close(self, permit: Any, now: float) -> tuple[float, float]:
        """Return when to look at a connection that begins to close, and how exactly."""
        pace, lifetime = self._pace(permit.limits, True), permit.limits.lifetime
        when = now + pace.interval
        return when if lifetime is None else min(when, permit.since + lifetime), pace.slot_width

    def _look_at(self, connection: Any, timeouts: Timeouts | None, now: float) -> None:
        if timeouts is None:  # a short-lived connection never needs them
            permit = connection.permit
            timeouts = Timeouts(permit.limits, permit.since)
        closing = connection.disconnecting
        due = timeouts.look(connection, closing, now)
        if due <= now and not connection.aborted:
            self._close_at_limit(connection, timeouts, closing, now)
            if connection not in self.connections:
                return  # lost meanwhile
            self._wheel.take(connection)  # it may have begun to close
            closing = True
            due = timeouts.look(connection, closing, now)
        if connection.aborted:
            due = now = NEVER
        pace = self._pace(timeouts.limits, closing)
        self._wheel.put(connection, timeouts, min(due, now + pace.interval), pace.slot_width)

    def _close_at_limit(
        self, connection: Any, timeouts: Timeouts, closing: bool, now: float
    ) -> None:
        reason = timeouts.reached(closing, now)
        if reason not in (CloseReason.WRITE_TIMEOUT, CloseReason.CLOSE_GRACE):
            timeouts.start_grace(now)
        self._close(connection, reason)


class Deadlines(_Watch):
    """Calls ``time_out`` of the connections that wait, each at its deadline."""

    def put(self, connection: Any, seconds: float) -> None:
        """Set the deadline of a connection, *seconds* from now."""
        if connection in self.connections:
            self._wheel.discard(connection)
        self._wheel.put(connection, None, self._now() + seconds, DEADLINE_WIDTH)
        self._arm()

    def _look_at(self, connection: Any, timeouts: Timeouts | None, now: float) -> None:
        connection.time_out()
