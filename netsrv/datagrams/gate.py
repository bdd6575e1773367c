"""The gate's part for datagrams: between the port and the service's protocol.

Rejected datagrams are dropped before they reach the service, and a reply is at most three times
as long as its request.  A guard without these rules gives the service the port itself, and
the service sends what it wants.
"""

from collections.abc import Iterable
from typing import Any

from twisted.internet.interfaces import IMulticastTransport, IUDPTransport
from twisted.internet.protocol import DatagramProtocol
from zope.interface import implementer

from netsrv.batches import Datagrams, Peer, accepts_batches
from netsrv.datagrams.batch import Batch
from netsrv.forwarding import forward
from netsrv.guards.amplification import max_reply_size, reply_budget, wire_size
from netsrv.guards.datagrams import DatagramGuard
from netsrv.guards.sources import Flow
from netsrv.interfaces import DropReason, IDatagramBatchProtocol


@implementer(IDatagramBatchProtocol)
class DatagramGate(DatagramProtocol):
    """Asks *guard*, reports to the observer of *gate*, and calls *service*."""

    noisy = False

    def __init__(self, gate: Any, service: DatagramProtocol, guard: DatagramGuard) -> None:
        self._gate = gate
        self._service: Any = service
        self._guard = guard
        self._port: Any = None
        self._replies: ReplyTransport | None = None
        self._batched = accepts_batches(service)
        self._received_flows: list[Flow] = []
        self._received_sizes: list[int] = []

    def makeConnection(self, transport: Any) -> None:
        self._port = transport
        if self._guard.safe:
            self._replies = ReplyTransport(self, self._service, transport, self._guard)
        self._service.makeConnection(self._replies or transport)

    def interpose(self, transport: Any) -> None:
        """Send through another transport from now on, that of the port or one before it."""
        self._port = transport
        if self._replies is not None:
            self._replies.port = transport
        else:
            self._service.transport = transport

    def doStop(self) -> None:
        self._service.doStop()

    def connectionRefused(self) -> None:
        self._service.connectionRefused()

    def datagramReceived(self, datagram: bytes, addr: Peer) -> None:
        flow = self._port.flow
        reason = self._guard.drop(flow, self._gate.now(), datagram)
        if reason is not None:
            self.report_refused(Datagrams((flow,), (len(datagram),)), reason)
            return
        if not self._received_sizes:
            self._port.at_turn_end(self._report_received)
        self._received_flows.append(flow)
        self._received_sizes.append(len(datagram))
        if self._batched:
            self._service.datagramsReceived(self._port.single)
        elif self._replies is None:
            self._service.datagramReceived(datagram, addr)
        else:
            self._replies.serve(datagram, addr)

    def datagramsReceived(self, batch: Batch) -> None:
        gate = self._gate
        drops = self._guard.drops(batch.flows, gate.now(), batch.datagram)
        if drops:
            for reason in dict.fromkeys(drops.values()):
                indices = [index for index, drop in drops.items() if drop is reason]
                self.report_refused(batch.only(indices), reason)
            if len(drops) == batch.count:
                return
            batch = batch.only([index for index in range(batch.count) if index not in drops])
        gate.observer.datagrams_received(gate.listener_info, batch)
        if self._batched:
            self._service.datagramsReceived(batch)
        elif self._replies is None:
            batch.each(self._service.datagramReceived)
        else:
            batch.each(self._replies.serve)

    def _report_received(self) -> None:
        """Report the datagrams that were served by themselves in this turn."""
        received = Datagrams(self._received_flows, self._received_sizes)
        self._received_flows, self._received_sizes = [], []
        self._gate.observer.datagrams_received(self._gate.listener_info, received)

    def report_refused(self, datagrams: Datagrams, reason: DropReason) -> None:
        """Report requests, or replies, that a rule rejected."""
        self._gate.observer.datagrams_refused(self._gate.listener_info, datagrams, reason)


@forward(
    "port",
    IUDPTransport,
    IMulticastTransport,
    *("addressFamily", "fileno", "flow", "getHandle", "logPrefix", "packet_info", "reactor"),
    *("resume", "socket", "suspend"),
)
class ReplyTransport:
    """The port as *service* sees it: all that it sends is a reply, within a budget.

    The replies to a datagram, sent while it is being served, are together at most three times
    as long as it is, on the wire.  A packet that is sent at another time, or to another peer,
    is at most as long as the reply to an empty datagram.
    """

    def __init__(
        self, gate: DatagramGate, service: DatagramProtocol, port: Any, guard: DatagramGuard
    ) -> None:
        self.port = port
        self._guard = guard
        self._gate = gate
        self._service = service
        self._peer: Peer | None = None
        """The sender of the datagram that is being served."""
        self._request_size: int | None = None
        """The size of that datagram, until the first reply to it."""
        self._headers = 0
        """The wire size of an empty reply to it."""
        self._budget = 0
        """Bytes on the wire that are left for more replies to it."""

    def serve(self, datagram: bytes, addr: Peer) -> None:
        """Call the service with a datagram; what it sends to *addr* meanwhile is a reply."""
        self._peer, self._request_size = addr, len(datagram)
        try:
            self._service.datagramReceived(datagram, addr)
        finally:
            self._peer = None

    def write(self, packet: bytes, addr: Peer | None = None) -> None:
        """Send a reply; one that is too long is dropped, and reported."""
        if addr is None:
            self.port.write(packet)  # to the peer that the service has connected to
        elif addr == self._peer:
            if self._request_size is not None:
                self._headers = wire_size(0, addr[0])
                self._budget = reply_budget(self._request_size, self._headers)
                self._request_size = None
            size = self._headers + len(packet)
            if size > self._budget:
                self._refuse(packet, addr)
            else:
                self._budget -= size
                self._guard.sent(addr, packet)
                self.port.write(packet, addr)
        elif len(packet) > max_reply_size(0, addr[0]):
            self._refuse(packet, addr)
        else:
            self.port.write(packet, addr)

    def writeSequence(self, seq: Iterable[bytes], addr: Peer | None = None) -> None:
        """Send the joined pieces as one reply."""
        self.write(b"".join(seq), addr)

    def _refuse(self, packet: bytes, addr: Peer) -> None:
        refused = Datagrams((Flow(addr),), (len(packet),))
        self._gate.report_refused(refused, DropReason.REPLY_TOO_LONG)
