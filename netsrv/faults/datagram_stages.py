"""The faults of datagrams: loss, latency, reorder, duplicate, corrupt and others."""

from collections import deque
from enum import StrEnum
from typing import Any

from attrs import field, frozen
from attrs.validators import ge

from netsrv.faults.damage import flip_bits
from netsrv.faults.datagram_stage import Datagram, DatagramStage, Holding, Peer
from netsrv.faults.delays import KILOBYTE, MILLISECOND, Distribution, jittered


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
    """How losses are spread."""
    p: float = 0.0
    """The probability that a good state turns bad, for each datagram."""
    r: float | None = None
    """The probability that a bad state turns good; 1 - p if it is not given."""
    h: float = 0.0
    """The probability that a datagram passes in the bad state."""
    k: float = 1.0
    """The probability that a datagram passes in the good state."""


class Loss(DatagramStage):
    """Drops datagrams; the share is the ``probability``, or follows from the model."""

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
    """Milliseconds by which a latency may be smaller or larger; none is below 0."""
    distribution: Distribution = field(default=Distribution.UNIFORM, converter=Distribution)
    """How latencies vary."""
    keep_order: bool = True
    """False if a datagram may overtake one with a greater delay."""


class DatagramLatency(Holding):
    """Delays each datagram from its arrival."""

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
    """Holds a datagram back, so that those behind it overtake it.

    Those of all clients count.
    """

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
    """Limits the rate of the listener; a datagram waits as long as it takes at the rate."""

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
