"""Full collections of Python's garbage collector: short, and none during a reload.

The objects of the start live as long as the process, so no collection examines them.  A reload
creates and releases so many objects that the collector would examine all objects of the process
several times meanwhile, each time for as long as a few hundred listeners take to change.  A program
that embeds the server decides this for itself.
"""

import gc
import sys

PYTHONS_FROZEN = gc.get_freeze_count() if sys.version_info[:2] == (3, 12) else 0
"""Objects that Python has frozen itself: a few hundred in 3.12."""

NEVER = 1 << 30
"""Collections of the middle generation that a reload does not have."""


class FullCollections:
    """Exempts objects from full collections, and postpones these; those of young ones go on.

    One that has become due during a reload waits for its usual interval, but for no second reload.
    """

    def __init__(self) -> None:
        self._threshold: tuple[int, int, int] | None = None
        self._exempted = PYTHONS_FROZEN
        self._last_postponed = -1
        """How many full collections there were before the one that was postponed last."""

    def exempt(self) -> None:
        """Examine no object of the present until a reload has released some of them."""
        gc.freeze()
        self._exempted = gc.get_freeze_count()

    def postpone(self) -> None:
        """Have no full collection until `allow`."""
        if self._threshold is None:
            self._threshold = gc.get_threshold()
            gc.set_threshold(*self._threshold[:2], NEVER)

    def allow(self) -> None:
        """Have full collections as usual."""
        if self._threshold is None:
            return
        threshold, self._threshold = self._threshold, None
        gc.set_threshold(*threshold)
        collections = gc.get_stats()[2]["collections"]
        due = gc.get_count()[2] > threshold[2] and collections != self._last_postponed
        if due and gc.get_freeze_count() <= self._exempted:  # no other code has frozen objects
            self._last_postponed = collections
            gc.freeze()  # sets the collector's counts to 0
            gc.unfreeze()
