"""The bound of the log lines about single peers.

All lines go through `twisted.logger`, which costs 13 to 22 us an event: little for a bounded
number of lines a second, too much for every peer of a busy server.  So lines about single
peers have a rate; beyond it a peer costs an addition, and one line a second gives the sums.
"""

from collections import Counter
from typing import Any

from twisted.logger import Logger, LogLevel

from netsrv.settings import count_of

WINDOW = 1.0
"""Seconds for which lines are counted, and after which the sums are logged."""

CONNECTION, DATAGRAM = ("connection", ""), ("datagram", "")
ENDED_CONNECTION = ("ended connection", "")

ORDINARY = frozenset({CONNECTION, DATAGRAM, ENDED_CONNECTION})
"""The kinds of lines that report no problem."""

Kind = tuple[str, str]
"""What a suppressed line is about: a singular noun, and a detail that follows it."""


class LineRate:
    """Counts lines, and lets *rate* of them a second be logged; *clock* provides IReactorTime."""

    log = Logger()

    def __init__(self, clock: Any, rate: int) -> None:
        self._clock = clock
        self.rate = rate
        self._lines = 0
        self._suppressed: Counter[Kind] = Counter()
        self._suppressed_before = 0
        self._window: Any = None

    @property
    def used_up(self) -> bool:
        """True if no more lines may be logged in this window."""
        return self._lines >= self.rate and self._window is not None

    @property
    def suppressed(self) -> int:
        """The number of lines that were not logged, of all windows."""
        return self._suppressed_before + self._suppressed.total()

    def suppress(self, kind: Kind, count: int = 1) -> None:
        """Count lines that are not logged, for the sums of this window."""
        self._start_window()
        self._suppressed[kind] += count

    def count_lines(self, kind: Kind, wanted: int) -> int:
        """Return how many of so many lines may be logged, and count the rest."""
        self._start_window()
        lines = min(wanted, max(0, self.rate - self._lines))
        self._lines += lines
        if lines < wanted:
            self._suppressed[kind] += wanted - lines
        return lines

    def close(self) -> None:
        """Log the sums that are left, and cancel the timer."""
        if self._window is not None:
            self._window.cancel()
            self._end_window()

    def _start_window(self) -> None:
        """Log the sums a second from now, unless that is already due."""
        if self._window is None:
            self._window = self._clock.callLater(WINDOW, self._end_window)

    def _end_window(self) -> None:
        self._window = None
        self._lines = 0
        suppressed, self._suppressed = self._suppressed, Counter()
        self._suppressed_before += suppressed.total()
        if suppressed:
            sums = ", ".join(
                f"{count_of(count, noun)}{detail}" for (noun, detail), count in suppressed.items()
            )
            level = LogLevel.info if suppressed.keys() <= ORDINARY else LogLevel.warn
            self.log.emit(level, "Suppressed in the last second (--log-rate): {sums}", sums=sums)
