"""Detects a blocked reactor.

While the reactor is blocked, no connection is served.  A timer is due each second; its delay
is the time for which the reactor was blocked.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

TICK_INTERVAL = 1.0
"""Seconds from one tick to the next."""

MAX_LAGS = 60
"""Ticks whose delays are remembered."""

STALL_THRESHOLD = 1.0
"""Seconds of delay from which a stall is reported."""


class StallDetector:
    """Calls *stalled* with the seconds for which the reactor was blocked.

    *clock* provides IReactorTime; *now* returns seconds of a monotonic clock.  Both must show
    the delay: a wall clock that is set is no stall.
    """

    def __init__(
        self, clock: Any, now: Callable[[], float], stalled: Callable[[float], None]
    ) -> None:
        self._clock = clock
        self._now = now
        self._stalled = stalled
        self._next_tick: Any = None
        self.lags: deque[float] = deque(maxlen=MAX_LAGS)
        """The delays of the last ticks, in seconds; the newest is the last."""

    def start(self) -> None:
        """Start to tick."""
        self._last = (self._now(), self._clock.seconds())
        self._next_tick = self._clock.callLater(TICK_INTERVAL, self._tick)

    def stop(self) -> None:
        """Stop ticking."""
        if self._next_tick is not None:
            self._next_tick.cancel()
            self._next_tick = None

    def _tick(self) -> None:
        self._next_tick = None
        elapsed = min(self._now() - self._last[0], self._clock.seconds() - self._last[1])
        self.start()
        self.lags.append(max(0.0, elapsed - TICK_INTERVAL))
        if elapsed - TICK_INTERVAL >= STALL_THRESHOLD:
            self._stalled(elapsed - TICK_INTERVAL)
