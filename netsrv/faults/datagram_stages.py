"""The faults of datagrams: loss, latency, reorder, duplicate, corrupt and others.

A stage gets the datagrams of one direction of a listener, one by one.  Each peer has random
numbers of its own, so its faults do not depend on what others send.
"""

from collections import OrderedDict, deque
from enum import StrEnum
from heapq import heappop, heappush
from random import Random
from typing import Any

from attrs import define, field, frozen
from attrs.validators import ge

from netsrv.faults.damage import flip_bits
from netsrv.faults.delays import KILOBYTE, MILLISECOND, Distribution, jittered
from netsrv.faults.fault import Direction, Fault
from netsrv.guards.sources import Flow, source_of

MAX_PEERS = 1024
"""Peers whose random numbers are kept; a peer beyond begins again."""


@frozen
class Datagram:
    """A datagram on its way: its bytes, and where it comes from or goes to."""

    data: bytes
    flow: Flow


@define
class Peer:
    """What a stage keeps for a peer."""

    random: Random
    bad: bool = False
    """True if the peer is in the bad state of a model with two states."""


class DatagramStage:
    """A fault in one direction of a datagram listener; *owner* is the `FaultyDatagrams`."""

    def __init__(self, owner: Any, direction: Direction, fault: Fault) -> None:
        self.owner = owner
        self.direction = direction
        self.fault = fault
        self.next: Any = None
        self._peers: OrderedDict[Any, Peer] = OrderedDict()
        self._numbers = 0
        self._timer: Any = None

    @property
    def attributes(self) -> Any:
        """The attributes in effect."""
        return self.fault.settings.attributes

    def datagram(self, datagram: Datagram) -> None:
        """Hit a datagram, or pass it on."""
        fault = self.fault
        if not fault.matches(source_of(datagram.flow.peer[0])):
            self.pass_on(datagram)
            return
        peer = self._peer(datagram.flow)
        if fault.count(self.direction) and fault.draw(peer.random):
            if self.hit(datagram, peer):
                fault.hit(self.direction)
        else:
            self.pass_on(datagram)

    def hit(self, datagram: Datagram, peer: Peer) -> bool:
        """Handle a datagram that is hit; return False if it was passed on as it is."""
        raise NotImplementedError

    def update(self) -> None:
        """Go on with other attributes."""

    def release(self) -> None:
        """The fault is removed: pass on all that is held, at once."""

    def stop(self) -> None:
        """The listener ends: forget all that is held."""
        self.cancel()

    # What a fault calls

    def pass_on(self, datagram: Datagram) -> None:
        """Pass a datagram on to the next stage."""
        self.next.datagram(datagram)

    def drop(self, datagram: Datagram) -> None:
        """Drop a datagram; the drop is counted."""
        self.owner.drop(datagram)

    def now(self) -> float:
        """Return seconds of a monotonic clock."""
        now: float = self.owner.now()
        return now

    def call_at(self, time: float, call: Any) -> None:
        """Call at a time of the clock, unless `cancel` or another `call_at` comes first."""
        self.cancel()
        self._timer = self.owner.clock.callLater(max(time - self.now(), 0.0), self._ring, call)

    def cancel(self) -> None:
        """Cancel the call of `call_at`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self, call: Any) -> None:
        self._timer = None
        call()

    def _peer(self, flow: Flow) -> Peer:
        peer = self._peers.get(flow.peer)
        if peer is None:
            if len(self._peers) >= MAX_PEERS:
                self._peers.popitem(last=False)
            self._numbers += 1
            random = self.fault.generator(self.direction, self._numbers)
            peer = self._peers[flow.peer] = Peer(random)
        else:
            self._peers.move_to_end(flow.peer)
        return peer


class Holding(DatagramStage):
    """A stage that holds datagrams for a time; what all stages hold is bounded."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._held: list[tuple[float, int, Datagram]] = []
        self._order = 0

    def hold(self, datagram: Datagram, until: float) -> bool:
        """Hold a datagram until a time; drop it if too much is held already."""
        if not self.owner.hold(datagram):
            self.drop(datagram)
            return False
        self._order += 1
        heappush(self._held, (until, self._order, datagram))
        if self._held[0][1] == self._order:
            self.call_at(until, self._pass_due)
        return True

    def release(self) -> None:
        self.cancel()
        while self._held:
            self._pop()

    def stop(self) -> None:
        super().stop()
        while self._held:
            datagram = heappop(self._held)[2]
            self.owner.unhold(datagram)
            self.drop(datagram)

    def _pass_due(self) -> None:
        now = self.now()
        while self._held and self._held[0][0] <= now:
            self._pop()
        if self._held:
            self.call_at(self._held[0][0], self._pass_due)

    def _pop(self) -> None:
        datagram = heappop(self._held)[2]
        self.owner.unhold(datagram)
        self.pass_on(datagram)


class Model(StrEnum):
    """How losses are spread."""

    INDEPENDENT = "independent"
    """Each datagram is lost or not, by the probability of the fault."""
    GILBERT = "gilbert"
    """In bursts: Gilbert-Elliott, with a good and a bad state for each peer."""


@frozen
class LossAttributes:
    """The attributes of loss."""

    model: Model = field(default=Model.INDEPENDENT, converter=Model)
    p: float = 0.0
    """The probability that a good state turns bad, for each datagram."""
    r: float | None = None
    """The probability that a bad state turns good; 1 - p if it is not given."""
    h: float = 0.0
    """The probability that a datagram passes in the bad state."""
    k: float = 1.0
    """The probability that a datagram passes in the good state."""


class Loss(DatagramStage):
    """Drops datagrams."""

    def hit(self, datagram: Datagram, peer: Peer) -> bool:
        if self.attributes.model is Model.GILBERT and not self._lost(peer):
            self.pass_on(datagram)
            return False
        self.drop(datagram)
        return True

    def _lost(self, peer: Peer) -> bool:
        values, random = self.attributes, peer.random
        turn = random.random()
        if peer.bad:
            peer.bad = turn >= (1 - values.p if values.r is None else values.r)
        else:
            peer.bad = turn < values.p
        passes: float = values.h if peer.bad else values.k
        return random.random() >= passes


@frozen
class DatagramLatencyAttributes:
    """The attributes of latency."""

    latency: int = 0
    """Milliseconds."""
    jitter: int = 0
    """Milliseconds."""
    distribution: Distribution = field(default=Distribution.UNIFORM, converter=Distribution)
    keep_order: bool = True
    """False if a datagram may overtake one with a greater delay."""


class DatagramLatency(Holding):
    """Delays datagrams."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._last = 0.0

    def hit(self, datagram: Datagram, peer: Peer) -> bool:
        values = self.attributes
        latency = jittered(values.latency, values.jitter, values.distribution, peer.random)
        until = self.now() + latency * MILLISECOND
        if values.keep_order:
            until = max(until, self._last if self._held else 0.0)
        if until <= self.now():
            self.pass_on(datagram)
            return True
        self._last = until
        return self.hold(datagram, until)


@frozen
class ReorderAttributes:
    """The attributes of reorder."""

    gap: int = field(default=1, validator=ge(1))
    """Datagrams that overtake the one that is hit."""
    hold: int = field(default=100, validator=ge(0))
    """Milliseconds after which it passes if they do not come."""


class Reorder(DatagramStage):
    """Holds a datagram back, so that those behind it overtake it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._held: deque[list[Any]] = deque()
        """The time, the number of datagrams that have yet to overtake, and the datagram."""

    def hit(self, datagram: Datagram, peer: Peer) -> bool:
        if not self.owner.hold(datagram):
            self.drop(datagram)
            return False
        until = self.now() + self.attributes.hold * MILLISECOND
        self._held.append([until, self.attributes.gap, datagram])
        self._wait()
        return True

    def pass_on(self, datagram: Datagram) -> None:
        """Pass a datagram on, and those that it is the last to overtake."""
        super().pass_on(datagram)
        for held in self._held:
            held[1] -= 1
        self._pass_if(lambda held: held[1] <= 0)

    def release(self) -> None:
        self._pass_if(lambda held: True)

    def stop(self) -> None:
        super().stop()
        while self._held:
            datagram = self._held.popleft()[2]
            self.owner.unhold(datagram)
            self.drop(datagram)

    def _pass_if(self, ready: Any) -> None:
        passing = [held for held in self._held if ready(held)]
        self._held = deque(held for held in self._held if not ready(held))
        for _, _, datagram in passing:
            self.owner.unhold(datagram)
            super().pass_on(datagram)
        self._wait()

    def _wait(self) -> None:
        if self._held:
            first = min(held[0] for held in self._held)
            self.call_at(first, lambda: self._pass_if(lambda held: held[0] <= self.now()))
        else:
            self.cancel()


@frozen
class DuplicateAttributes:
    """The attributes of duplicate."""

    copies: int = field(default=1, validator=ge(1))
    """Further copies of a datagram."""
    delay: int = field(default=0, validator=ge(0))
    """Milliseconds from one copy to the next."""


class Duplicate(Holding):
    """Sends copies of a datagram after it."""

    def hit(self, datagram: Datagram, peer: Peer) -> bool:
        self.pass_on(datagram)
        values = self.attributes
        for number in range(1, values.copies + 1):
            if values.delay:
                self.hold(datagram, self.now() + number * values.delay * MILLISECOND)
            else:
                self.pass_on(datagram)
        return True


@frozen
class DatagramCorruptAttributes:
    """The attributes of corrupt."""

    bits: int = field(default=1, validator=ge(0))
    """Bits that are flipped, at random places."""


class DatagramCorrupt(DatagramStage):
    """Flips bits of a datagram."""

    def hit(self, datagram: Datagram, peer: Peer) -> bool:
        data = flip_bits(datagram.data, self.attributes.bits, peer.random)
        self.pass_on(Datagram(data, datagram.flow))
        return True


@frozen
class TruncateAttributes:
    """The attributes of truncate."""

    to: int = field(default=0, validator=ge(0))
    """Bytes that are left."""


class Truncate(DatagramStage):
    """Cuts datagrams that are longer than a size."""

    def hit(self, datagram: Datagram, peer: Peer) -> bool:
        size = self.attributes.to
        if len(datagram.data) <= size:
            self.pass_on(datagram)
            return False
        self.pass_on(Datagram(datagram.data[:size], datagram.flow))
        return True


@frozen
class LimitSizeAttributes:
    """The attributes of limit_size."""

    size: int = field(default=65_535, validator=ge(0))
    """Bytes of the longest datagram that passes."""


class LimitSize(DatagramStage):
    """Drops datagrams that are longer than a size, as a path with a small MTU does."""

    def hit(self, datagram: Datagram, peer: Peer) -> bool:
        if len(datagram.data) <= self.attributes.size:
            self.pass_on(datagram)
            return False
        self.drop(datagram)
        return True


@frozen
class DatagramBandwidthAttributes:
    """The attributes of bandwidth."""

    rate: int = 0
    """Units of 1,000 bytes a second; 0 or less for no limit."""
    queue: int = field(default=100, validator=ge(0))
    """Datagrams that wait at most; those beyond are dropped."""


class DatagramBandwidth(Holding):
    """Limits the rate; a datagram waits as long as it takes at the rate."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._free_at = 0.0

    def hit(self, datagram: Datagram, peer: Peer) -> bool:
        values = self.attributes
        if values.rate <= 0:
            self.pass_on(datagram)
            return False
        if len(self._held) >= max(values.queue, 1):
            self.drop(datagram)
            return True
        start = max(self.now(), self._free_at)
        until = start + len(datagram.data) / (values.rate * KILOBYTE)
        if not self.hold(datagram, until):
            return False
        self._free_at = until
        return True


class Blackhole(DatagramStage):
    """Drops all datagrams that it hits."""

    def hit(self, datagram: Datagram, peer: Peer) -> bool:
        self.drop(datagram)
        return True
