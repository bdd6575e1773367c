"""A fault of datagrams on one direction of a listener: the stage that other modules fill.

A stage gets the datagrams of one direction of a listener, one by one.  Each peer has random
numbers of its own, so its faults do not depend on what others send.
"""

from collections import OrderedDict
from heapq import heappop, heappush
from random import Random
from typing import Any

from attrs import define, frozen

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
        try:
            while self._held and self._held[0][0] <= now:
                self._pop()
        finally:
            if self._held:
                self.call_at(self._held[0][0], self._pass_due)

    def _pop(self) -> None:
        datagram = heappop(self._held)[2]
        self.owner.unhold(datagram)
        self.pass_on(datagram)
