"""A timing wheel: items that wait, each for its own time, in slots.

Items whose times are close wait in one slot, so the next time is known without a search through
all items.  The wheel has no clock: *now* is passed in.
"""

import math
from collections.abc import Iterable
from heapq import heappop, heappush
from typing import Any

from attrs import frozen

Slot = dict[Any, Any]
"""The items of one slot, each with its value."""

NEVER = math.inf
"""The time of an item that waits for no time."""

SLOTS_PER_LIMIT = 512
"""Slots in the length of the shortest time limit, at least; at most twice as many."""

SLOTS_PER_INTERVAL = 62
"""Slots between two looks at a connection.

A look is up to a slot late, and what it sees has happened up to an interval before; the look at
the due time is up to a slot late too.  So a limit is found 64/512 of itself late, at most.
"""

MAX_EXACT_INTERVAL = 0.875
MAX_EXACT_WIDTH = 1 / 16
"""Seconds, for connections that are few: then a limit is found a second late, at most."""


@frozen
class Pace:
    """How often a connection is looked at, and how exactly."""

    interval: float
    """Seconds from one look to the next, at most."""
    slot_width: float
    """Seconds of a slot, a power of two: so the times of slots are exact."""

    @classmethod
    def of(cls, watched: tuple[float | None, ...], fixed: float | None) -> "Pace":
        """Return the pace for time limits; None means no limit.

        Limits that are *watched* restart at an event that only a look shows; the *fixed* one
        is due at a time that is known.
        """
        restarting = min((limit for limit in watched if limit is not None), default=NEVER)
        shortest = min(restarting, NEVER if fixed is None else fixed)
        width = 1.0
        if shortest < NEVER:
            width = 2.0 ** math.floor(math.log2(shortest / SLOTS_PER_LIMIT))
        return cls(restarting * SLOTS_PER_INTERVAL / SLOTS_PER_LIMIT, width)

    def to_a_second(self) -> "Pace":
        """Return a pace at which no limit is found more than a second late."""
        interval = (
            self.interval if self.interval == NEVER else min(self.interval, MAX_EXACT_INTERVAL)
        )
        return Pace(interval, min(self.slot_width, MAX_EXACT_WIDTH))


@frozen
class Paces:
    """The paces of a connection, open or closing, at a gate with many connections or few."""

    many: Pace
    few: Pace

    @classmethod
    def of(cls, watched: tuple[float | None, ...], fixed: float | None) -> "Paces":
        """Return the paces for time limits, as `Pace.of`."""
        many = Pace.of(watched, fixed)
        is_limited = fixed is not None or many.interval < NEVER
        return cls(many, many.to_a_second() if is_limited else many)


class Wheel:
    """Items in slots; each item is in the wheel at most once."""

    __slots__ = ("_slots", "_times", "slot_of")

    def __init__(self) -> None:
        self.slot_of: dict[Any, Slot] = {}
        """All items, each with its slot; an item that `pop_due` has returned is no longer in it."""
        self._slots: dict[float, Slot] = {NEVER: {}}
        self._times: list[float] = []

    def put(self, item: Any, value: Any, when: float, slot_width: float) -> None:
        """Let *item* wait until *when*, or up to *slot_width* longer; *value* waits with it."""
        slot = self._slot_at(when, slot_width)
        slot[item] = value
        self.slot_of[item] = slot

    def put_batch(self, items: Iterable[Any], when: float, slot_width: float) -> None:
        """Let items wait as `put` does, with None as their value."""
        waiting = dict.fromkeys(items)
        if waiting:
            slot = self._slot_at(when, slot_width)
            slot.update(waiting)
            self.slot_of.update(dict.fromkeys(waiting, slot))

    def take(self, item: Any) -> Any:
        """Take *item* out of its slot, but not out of the wheel, and return its value."""
        return self.slot_of[item].pop(item, None)

    def discard(self, item: Any) -> None:
        """Remove *item*, if it is there: nothing of it is kept."""
        slot = self.slot_of.pop(item, None)
        if slot is not None:
            slot.pop(item, None)

    def pop_due(self, now: float) -> tuple[Any, Any] | None:
        """Take an item whose time has come out of its slot, and return it and its value."""
        times = self._times
        while times and times[0] <= now:
            slot = self._slots[times[0]]
            if slot:
                return slot.popitem()
            del self._slots[heappop(times)]
        return None

    @property
    def next_time(self) -> float:
        """The time of the next slot that may have an item; `NEVER` if there is none."""
        return self._times[0] if self._times else NEVER

    def forget_empty_slots(self) -> None:
        """Forget the empty slots before the next item."""
        while self._times and not self._slots[self._times[0]]:
            del self._slots[heappop(self._times)]

    def _slot_at(self, when: float, slot_width: float) -> Slot:
        time = when if when == NEVER else math.ceil(when / slot_width) * slot_width
        slot = self._slots.get(time)
        if slot is None:
            slot = self._slots[time] = {}
            heappush(self._times, time)
        return slot
