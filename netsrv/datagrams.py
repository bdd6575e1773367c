"""A datagram in the gate: between the port and the service's protocol.

What may not be served is dropped before the service sees it; and what the service
answers is held to the rule that an answer is at most three times as long as its request.
Where the guard does without the rules, a service has the port itself, and sends what it wants.
"""

from collections.abc import Iterable
from typing import Any

from twisted.internet.interfaces import IMulticastTransport
from twisted.internet.protocol import DatagramProtocol
from zope.interface import classImplements

from netsrv.guards.datagrams import DatagramGuard
from netsrv.interfaces import Drop
from netsrv.replies import longest_reply, wire_size
from netsrv.sources import source_of


class GatedDatagrams(DatagramProtocol):
    """Asks the guard, tells the observer, and hands the datagram on."""

    noisy = False

    def __init__(self, gate: Any, service: DatagramProtocol, guard: DatagramGuard) -> None:
        self._gate = gate
        self._service = service
        self._guard = guard
        self._port: Any = None
        self._replies: Any = None

    def makeConnection(self, transport: Any) -> None:
        self._port = transport
        if self._guard.safe:
            self._replies = Replies(self._gate, transport)
        self._service.makeConnection(self._replies or transport)

    def doStop(self) -> None:
        self._service.doStop()

    def connectionRefused(self) -> None:
        self._service.connectionRefused()

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        gate = self._gate
        drop = self._guard.drop(source_of(addr[0]), addr[1], self._port.arrival, gate.now())
        if drop is not None:
            gate.observer.datagram_refused(gate.listener, addr, drop)
            return
        gate.observer.datagram_received(gate.listener, addr, len(datagram))
        if self._replies is None:
            self._service.datagramReceived(datagram, addr)
            return
        self._replies.begin(addr, len(datagram))
        try:
            self._service.datagramReceived(datagram, addr)
        finally:
            self._replies.end()


class Replies:
    """The port as a service sees it: all that it sends is an answer, and pays for itself.

    The answers to a datagram, while it is being served, are together at most three times
    as long as it is, on the wire.  What is sent at another time, or to another peer, may
    be as long as the answer to an empty datagram.
    """

    def __init__(self, gate: Any, port: Any) -> None:
        self._gate = gate
        self._port = port
        self._peer: tuple[str, int] | None = None
        self._left = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    def begin(self, peer: tuple[str, int], size: int) -> None:
        """A datagram of *size* bytes is being served."""
        self._peer = peer
        self._left = wire_size(longest_reply(size, peer[0]), peer[0])

    def end(self) -> None:
        """It has been served."""
        self._peer = None

    def write(self, packet: bytes, addr: tuple[str, int] | None = None) -> None:
        """Send an answer, or drop it and tell the observer, if it is too long."""
        if addr is None:
            self._port.write(packet)  # to the one peer that the service has connected to
            return
        size = wire_size(len(packet), addr[0])
        answers = addr == self._peer
        if size > (self._left if answers else wire_size(longest_reply(0, addr[0]), addr[0])):
            self._gate.observer.datagram_refused(self._gate.listener, addr, Drop.REPLY_TOO_LONG)
            return
        if answers:
            self._left -= size
        self._port.write(packet, addr)

    def writeSequence(self, seq: Iterable[bytes], addr: tuple[str, int] | None = None) -> None:
        self.write(b"".join(seq), addr)


classImplements(Replies, IMulticastTransport)
