"""The pulse of a server: it notices when something has blocked the reactor.

While it is blocked nobody is served.  So a timer is set for each second, and how late it
comes tells how long that was.
"""

from collections.abc import Callable
from typing import Any

PERIOD = 1.0
"""Seconds from one beat to the next."""

LATE = 1.0
"""Seconds that a beat comes late before it is worth telling."""


class StallDetector:
    """Calls *stalled* with the seconds that the reactor was blocked.

    *clock* provides IReactorTime; *now* gives seconds that never go back.  Both must agree
    that it is late: a clock that is set is no stall.
    """

    def __init__(
        self, clock: Any, now: Callable[[], float], stalled: Callable[[float], None]
    ) -> None:
        self._clock = clock
        self._now = now
        self._stalled = stalled
        self._due: Any = None

    def start(self) -> None:
        """Beat from now on."""
        self._at = (self._now(), self._clock.seconds())
        self._due = self._clock.callLater(PERIOD, self._beat)

    def stop(self) -> None:
        """Beat no more."""
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _beat(self) -> None:
        self._due = None
        elapsed = min(self._now() - self._at[0], self._clock.seconds() - self._at[1])
        self.start()
        if elapsed - PERIOD >= LATE:
            self._stalled(elapsed - PERIOD)
