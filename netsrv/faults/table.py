"""The faults of one listener, and the connections that they may hit."""

import math
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any

from netsrv.faults.connection import FaultyConnection
from netsrv.faults.fault import Direction, Fault, FaultSettings, Level
from netsrv.guards.sources import Source

UPSTREAM = Direction.UPSTREAM


class Event(StrEnum):
    """What happens to a fault, as the log has it."""

    ADDED = "is active"
    CHANGED = "is changed"
    REMOVED = "is removed"
    EXPIRED = "has expired"


class FaultTable:
    """The faults of a listener in effect, in the order in which they were added.

    *clock* provides IReactorTime, *now* returns seconds of a monotonic clock.  *on_change* is
    called after faults were added, changed or removed, *report* with an `Event` and the fault.
    """

    def __init__(
        self,
        clock: Any,
        now: Callable[[], float],
        on_change: Callable[[], None] = lambda: None,
        report: Callable[[Event, Fault], None] = lambda event, fault: None,
    ) -> None:
        self.faults: dict[str, Fault] = {}
        """The faults by name."""
        self.targets: dict[Any, None] = {}
        """The live connections that faults may hit; of a datagram listener, its datagrams."""
        self._clock = clock
        self._now = now
        self._on_change = on_change
        self._report = report
        self._replaced: dict[str, FaultSettings] = {}
        self._numbers = 0
        self._timer: Any = None

    def add(self, settings: FaultSettings) -> Fault:
        """Add a fault, which hits live connections too.  Raises KeyError if its name is taken."""
        if settings.name in self.faults:
            raise KeyError(settings.name)
        fault = self.faults[settings.name] = Fault(settings, self._now, self._numbers)
        self._report(Event.ADDED, fault)
        targets = list(self.targets)
        self._on_change()  # a target that comes with this has the fault
        for target in targets:
            target.add(fault, live=True)
        self._wait_for_expiry()
        return fault

    def update(self, name: str, attributes: Any, probability: float) -> Fault:
        """Change a fault in its place; a new probability is drawn again on live connections."""
        fault = self.faults[name]
        redraw = fault.update(attributes, probability)
        self._report(Event.CHANGED, fault)
        for target in list(self.targets):
            target.update(fault, redraw)
        self._on_change()
        return fault

    def remove(self, name: str, event: Event = Event.REMOVED) -> None:
        """Remove a fault: what it holds passes at once.  Raises KeyError if there is none."""
        fault = self.faults.pop(name)
        self._report(event, fault)
        for target in list(self.targets):
            target.remove(fault)
        self._on_change()
        self._wait_for_expiry()

    def replace(self, settings: Iterable[FaultSettings]) -> None:
        """Have these faults instead of those of the last `replace`; others stay.

        A fault that is equal stays as it is, with its counts.
        """
        wanted = {fault.name: fault for fault in settings}
        for name, before in self._replaced.items():
            if name in self.faults and wanted.get(name) != before:
                self.remove(name)
        for name, fault in wanted.items():
            if self._replaced.get(name) != fault and name not in self.faults:
                self.add(fault)
        self._replaced = wanted

    def refusal(self, source: Source | None) -> Fault | None:
        """Return the fault that refuses a connection that was accepted; None if it is served."""
        self._numbers += 1
        for fault in self.faults.values():
            if fault.settings.kind.level is Level.ACCEPT and fault.matches(source):
                generator = fault.generator(UPSTREAM, self._numbers)
                if fault.count(UPSTREAM) and fault.draw(generator):
                    fault.hit(UPSTREAM)
                    return fault
        return None

    def wrap(self, source: Source | None) -> FaultyConnection:
        """Return the transport of a connection from *source*, with the faults that hit it.

        `refusal` comes first, and numbers the connection.
        """
        return self._wrap(source, self._numbers)

    def _wrap(self, source: Source | None, number: int) -> FaultyConnection:
        faulty = FaultyConnection(source, number, self._clock, self._now)
        faulty.on_lost = self.targets.pop
        self.targets[faulty] = None
        for fault in self.faults.values():
            faulty.add(fault)
        return faulty

    def adopt(self, connection: Any, source: Source | None) -> None:
        """Let faults hit a connection that is live already."""
        self._wrap(source, -1 - len(self.targets)).interpose(connection)

    def names_hitting(self, connection: Any) -> list[str]:
        """Return the names of the faults that hit the data of a live connection."""
        return getattr(connection.transport, "hit_by", [])

    def describe(self) -> list[dict[str, Any]]:
        """Describe each fault in plain values, ready for JSON."""
        return [fault.describe(self._now()) for fault in self.faults.values()]

    def stop(self) -> None:
        """Stop the timer: the listener has ended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait_for_expiry(self) -> None:
        self.stop()
        end = min((fault.expires for fault in self.faults.values()), default=math.inf)
        if end < math.inf:
            self._timer = self._clock.callLater(max(end - self._now(), 0), self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = self._now()
        for name, fault in list(self.faults.items()):
            if fault.expires <= now:
                self.remove(name, Event.EXPIRED)
        self._wait_for_expiry()
