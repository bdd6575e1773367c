"""The stages of a link: what a fault does to one direction of one connection.

To write a fault, derive from `Stage`, and override what happens to data, or at the end::

    class Upper(Stage):
        def data(self, data: bytes) -> None:
            self.pass_on(data.upper())
"""

from collections.abc import Callable
from enum import Enum
from random import Random
from typing import Any

from netsrv.faults.fault import Counter, Direction, Fault


class Unit(Enum):
    """What the selectors of a fault count."""

    CONNECTION = "connection"
    CHUNK = "chunk"


class Stage:
    """A fault on a connection, in one *direction* of it.

    *connection* is the `FaultyConnection`; *generator* yields the connection's own random numbers.
    """

    unit = Unit.CONNECTION

    def __init__(
        self, connection: Any, direction: Direction, fault: Fault, generator: Random
    ) -> None:
        self.connection = connection
        self.direction = direction
        self.fault = fault
        self.random = generator
        self.next: Any = None
        self.active = False
        """True if the connection is hit; otherwise its data does not come here."""
        self.chunks = Counter()
        self._timer: Any = None

    @property
    def attributes(self) -> Any:
        """The attributes in effect."""
        return self.fault.settings.attributes

    # What a fault overrides

    def start(self) -> None:
        """Begin: the connection was made, or has got the fault, or was hit by a new draw."""

    def data(self, data: bytes) -> None:
        """Handle data that came in this direction."""
        self.pass_on(data)

    def end(self) -> None:
        """Handle the end of this direction: after all data before it."""
        self.pass_end()

    def update(self) -> None:
        """Go on with other attributes."""

    def release(self) -> None:
        """The fault is removed: pass on all that is held, at once."""

    def leave(self) -> None:
        """The connection is not hit any more, by a new draw: as a rule as if by `release`."""
        self.release()

    def drop(self) -> None:
        """The connection is lost: forget all that is held."""
        self.cancel()

    # What a fault calls

    def pass_on(self, data: bytes) -> None:
        """Pass data on to the next stage."""
        self.next.data(data)

    def pass_end(self) -> None:
        """Pass the end of this direction on."""
        self.next.end()

    def hold(self, size: int) -> None:
        """Count *size* more bytes that are held, or fewer if it is negative."""
        self.connection.hold(self.direction, size)

    def drop_data(self, data: bytes) -> None:
        """Drop data."""
        self.connection.count_dropped(self.direction, len(data))

    def hits_chunk(self) -> bool:
        """Decide whether this chunk is hit, for a fault whose unit is the chunk."""
        fault, chunks = self.fault, self.chunks
        if not chunks.count(fault.settings) or not fault.draw(self.random):
            return False
        chunks.hits += 1
        fault.hits += 1
        return True

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call in *seconds*, unless `cancel` or another `call_later` comes first."""
        self.cancel()
        self._timer = self.connection.clock.callLater(max(seconds, 0.0), self._ring, call)

    def cancel(self) -> None:
        """Cancel the call of `call_later`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def waits(self) -> bool:
        """True if `call_later` has a call to make."""
        return self._timer is not None

    def now(self) -> float:
        """Return seconds of a monotonic clock."""
        now: float = self.connection.now()
        return now

    def close(self) -> None:
        """Close the connection, once what has passed this stage is sent."""
        self.connection.close_by_fault(self)

    def reset(self) -> None:
        """Reset the connection."""
        self.connection.reset_by_fault()

    def _ring(self, call: Callable[[], None]) -> None:
        self._timer = None
        try:
            call()
        except BaseException:
            self.reset()
            raise
