"""Timed calls that follow a monotonic clock: setting the wall clock moves none of them."""

import math
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from heapq import heapify, heappop, heappush
from itertools import count
from time import monotonic, time
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.logger import Logger

NEVER = math.inf

MIN_TIMER = 0.00005
"""Seconds below which no timer is set."""

MAX_TIMER = 2.0**31
"""Seconds that a timer can wait, at most."""

MAX_CANCELLED = 50
"""Cancelled calls that stay in the heap before it is cleaned."""


def make_kernel_timer(loop: Any, fired: Callable[[], None]) -> Any:
    """Return a timer of the kernel; None if it has none, or if this Python has no ctypes."""
    with suppress(ImportError, OSError, AttributeError):
        from netsrv.uvreactor.timerfd import KernelTimer

        return KernelTimer(loop, fired)
    return None


class TimedCall(DelayedCall):
    """A delayed call whose time is that of a monotonic clock."""

    def getTime(self) -> float:
        """Return its time on the scale of the reactor's `seconds`, the wall clock."""
        return super().getTime() - monotonic() + time()


class TimedCalls:
    """The timed calls of a reactor.

    *wake* is called when a call is due; it must call `run_due` and `arm`.
    One timer serves all calls: the kernel's, or that of *loop*, an asyncio event loop.
    """

    log = Logger()

    def __init__(self, loop: Any, wake: Callable[[], None]) -> None:
        self._loop = loop
        self._wake = wake
        self._heap: list[tuple[float, int, DelayedCall]] = []
        self._numbers = count()
        self._cancelled = 0
        self._armed_for = NEVER
        self._timer: Any = None
        self._kernel_timer = make_kernel_timer(loop, self._kernel_fired)
        self.context = copy_context()
        """The context variables of the timed calls, which share them."""

    def add(
        self, delay: float, function: Callable[..., Any], args: Any, keywords: Any
    ) -> DelayedCall:
        """Call *function* in *delay* seconds."""
        now = monotonic()
        call = TimedCall(now + delay, function, args, keywords, self._cancel, self._push, monotonic)
        self._push(call)
        return call

    def pending(self) -> list[DelayedCall]:
        """Return all calls that are not due yet."""
        return [call for when, _, call in self._heap if call.active() and when == call.time]

    def timeout(self) -> float | None:
        """Return the seconds until the next call is due; None if there is none."""
        return max(0.0, self._heap[0][0] - monotonic()) if self._heap else None

    def run_due(self) -> None:
        """Run the calls that are due."""
        now = monotonic()
        heap = self._heap
        while heap and heap[0][0] <= now:
            when, _, call = heappop(heap)
            if call.cancelled:
                self._cancelled -= 1
            elif call.called or when != call.time:
                pass  # it has run already, or is in the heap a second time
            elif call.delayed_time > 0.0:
                call.activate_delay()
                self._push(call)
            else:
                self._run(call)

    def arm(self) -> None:
        """Set the timer for the next call."""
        if self._heap and self._heap[0][0] < self._armed_for:
            self._arm_for(self._heap[0][0])

    def _run(self, call: DelayedCall) -> None:
        call.called = 1
        try:
            call.func(*call.args, **call.kw)
        except BaseException:  # as Twisted: not even SystemExit ends the reactor
            creator = "".join(call.creator or ())
            self.log.failure("while handling timed call {creator}", creator=creator)

    def _push(self, call: DelayedCall) -> None:
        """Add a call, or add it a second time because its time is now earlier."""
        heappush(self._heap, (call.time, next(self._numbers), call))
        if call.time < self._armed_for:
            self._arm_for(call.time)

    def _cancel(self, call: DelayedCall) -> None:
        self._cancelled += 1
        if self._cancelled > MAX_CANCELLED and self._cancelled > len(self._heap) // 2:
            self._cancelled = 0
            self._heap[:] = [
                entry for entry in self._heap if entry[2].active() and entry[2] is not call
            ]
            heapify(self._heap)

    def _arm_for(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = when
        wait = when - monotonic()
        if wait < MIN_TIMER:
            self._timer = self._loop.call_soon(self._fired, context=self.context)
        elif self._kernel_timer is not None:
            self._timer = None
            self._kernel_timer.set(min(when, when - wait + MAX_TIMER))
        else:
            self._timer = self._loop.call_later(
                min(math.ceil(wait * 1000) / 1000, MAX_TIMER), self._fired, context=self.context
            )

    def _kernel_fired(self) -> None:
        self.context.run(self._fired)

    def _fired(self) -> None:
        self._timer = None
        self._armed_for = NEVER
        self._wake()
