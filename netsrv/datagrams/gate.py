"""A datagram in the gate: between the port and the service's protocol.

What may not be served is dropped before the service sees it; and what the service
answers is held to the rule that an answer is at most three times as long as its request.
Where the guard does without the rules, a service has the port itself, and sends what it wants.
"""

from collections.abc import Iterable
from typing import Any

from twisted.internet.interfaces import IMulticastTransport
from twisted.internet.protocol import DatagramProtocol
from zope.interface import classImplements, implementer

from netsrv.batches import Datagrams, accepts_batches
from netsrv.forwarding import Own
from netsrv.guards.amplification import max_reply_size, reply_budget, wire_size
from netsrv.guards.datagrams import DatagramGuard
from netsrv.guards.sources import Flow
from netsrv.interfaces import DropReason, IDatagramBatchProtocol


@implementer(IDatagramBatchProtocol)
class DatagramGate(DatagramProtocol):
    """Asks the guard, tells the observer, and hands the datagrams on."""

    noisy = False

    def __init__(self, gate: Any, service: DatagramProtocol, guard: DatagramGuard) -> None:
        self._gate = gate
        self._service: Any = service
        self._guard = guard
        self._port: Any = None
        self._flows: list[Flow] = []
        self._sizes: list[int] = []
        self._replies: Any = None
        self._batched = accepts_batches(service)

    def makeConnection(self, transport: Any) -> None:
        self._port = transport
        if self._guard.safe:
            self._replies = ReplyTransport(self._gate, transport)
        self._service.makeConnection(self._replies or transport)

    def doStop(self) -> None:
        self._service.doStop()

    def connectionRefused(self) -> None:
        self._service.connectionRefused()

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        gate, flow = self._gate, self._port.flow
        drop = self._guard.drop(flow, gate.now())
        if drop is not None:
            refused = Datagrams((flow,), (len(datagram),))
            gate.observer.datagrams_refused(gate.listener_info, refused, drop)
            return
        if not self._sizes:
            self._port.at_turn_end(self._tell_received)
        self._flows.append(flow)
        self._sizes.append(len(datagram))
        if self._batched:
            self._service.datagramsReceived(self._port.single)
        elif self._replies is None:
            self._service.datagramReceived(datagram, addr)
        else:
            self._serve(datagram, addr)

    def _tell_received(self) -> None:
        """Tell of those that came one by one."""
        received = Datagrams(self._flows, self._sizes)
        self._flows, self._sizes = [], []
        self._gate.observer.datagrams_received(self._gate.listener_info, received)

    def datagramsReceived(self, batch: Any) -> None:
        gate = self._gate
        drops = self._guard.drops(batch.flows, gate.now())
        if drops:
            self._refuse(batch, drops)
            batch = batch.only([each for each in range(len(batch.sizes)) if each not in drops])
            if not batch.sizes:
                return
        gate.observer.datagrams_received(gate.listener_info, batch.seen())
        if self._batched:
            self._service.datagramsReceived(batch)
        elif self._replies is None:
            batch.each(self._service.datagramReceived)
        else:
            batch.each(self._serve)

    def _refuse(self, batch: Any, drops: dict[int, DropReason]) -> None:
        """Tell the observer of what is not served, reason by reason."""
        for reason in dict.fromkeys(drops.values()):
            indices = [index for index, drop in drops.items() if drop is reason]
            self._gate.observer.datagrams_refused(
                self._gate.listener_info, batch.only(indices).seen(), reason
            )

    def _serve(self, datagram: bytes, addr: tuple[str, int]) -> None:
        replies = self._replies
        replies.peer, replies.request_size = addr, len(datagram)
        try:
            self._service.datagramReceived(datagram, addr)
        finally:
            replies.peer = None


class ReplyTransport:
    """The port as a service sees it: all that it sends is an answer, and pays for itself.

    The answers to a datagram, while it is being served, are together at most three times
    as long as it is, on the wire.  What is sent at another time, or to another peer, may
    be as long as the answer to an empty datagram.
    """

    def __init__(self, gate: Any, port: Any) -> None:
        self._gate = gate
        self.port = port
        self.peer: tuple[str, int] | None = None
        """Whose datagram is being served, if one is."""
        self.request_size: int | None = None
        """The size of its datagram, until that is answered."""
        self._headers = 0
        self._budget = 0

    def write(self, packet: bytes, addr: tuple[str, int] | None = None) -> None:
        """Send an answer, or drop it and tell the observer, if it is too long."""
        if addr is None:
            self.port.write(packet)  # to the one peer that the service has connected to
        elif addr == self.peer:
            if self.request_size is not None:
                self._headers = wire_size(0, addr[0])
                self._budget = reply_budget(self.request_size, self._headers)
                self.request_size = None
            self._budget -= self._headers + len(packet)
            if self._budget < 0:
                self._budget += self._headers + len(packet)
                self._refuse(packet, addr)
            else:
                self.port.write(packet, addr)
        elif len(packet) > max_reply_size(0, addr[0]):
            self._refuse(packet, addr)
        else:
            self.port.write(packet, addr)

    def _refuse(self, packet: bytes, addr: tuple[str, int]) -> None:
        refused = Datagrams((Flow(addr),), (len(packet),))
        self._gate.observer.datagrams_refused(
            self._gate.listener_info, refused, DropReason.REPLY_TOO_LONG
        )

    def writeSequence(self, seq: Iterable[bytes], addr: tuple[str, int] | None = None) -> None:
        self.write(b"".join(seq), addr)

    # The port's own: of Twisted's interfaces, and what our ports have beyond them

    connect: Any = Own("port")
    getHost: Any = Own("port")
    stopListening: Any = Own("port")
    setBroadcastAllowed: Any = Own("port")
    getBroadcastAllowed: Any = Own("port")
    getOutgoingInterface: Any = Own("port")
    setOutgoingInterface: Any = Own("port")
    getLoopbackMode: Any = Own("port")
    setLoopbackMode: Any = Own("port")
    getTTL: Any = Own("port")
    setTTL: Any = Own("port")
    joinGroup: Any = Own("port")
    leaveGroup: Any = Own("port")

    addressFamily: Any = Own("port")
    packet_info: Any = Own("port")
    fileno: Any = Own("port")
    getHandle: Any = Own("port")
    logPrefix: Any = Own("port")
    flow: Any = Own("port")
    reactor: Any = Own("port")
    resume: Any = Own("port")
    suspend: Any = Own("port")
    socket: Any = Own("port")


classImplements(ReplyTransport, IMulticastTransport)
