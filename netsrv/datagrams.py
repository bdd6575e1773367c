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

from netsrv.arrivals import Origin
from netsrv.batches import Datagrams, takes_whole
from netsrv.guards.datagrams import DatagramGuard
from netsrv.interfaces import Drop, IDatagramBatchProtocol
from netsrv.replies import longest_reply, wire_size


@implementer(IDatagramBatchProtocol)
class GatedDatagrams(DatagramProtocol):
    """Asks the guard, tells the observer, and hands the datagrams on."""

    noisy = False

    def __init__(self, gate: Any, service: DatagramProtocol, guard: DatagramGuard) -> None:
        self._gate = gate
        self._service: Any = service
        self._guard = guard
        self._replies: Any = None
        self._whole = IDatagramBatchProtocol.providedBy(service) and takes_whole(
            service, "datagramsReceived", "datagramReceived"
        )

    def makeConnection(self, transport: Any) -> None:
        if self._guard.safe:
            self._replies = Replies(self._gate, transport)
        self._service.makeConnection(self._replies or transport)

    def doStop(self) -> None:
        self._service.doStop()

    def connectionRefused(self) -> None:
        self._service.connectionRefused()

    def datagramsReceived(self, batch: Any) -> None:
        gate = self._gate
        drops = self._guard.drops(batch.origins, gate.now())
        if drops:
            self._refuse(batch, drops)
            batch = batch.only([each for each in range(len(batch.sizes)) if each not in drops])
            if not batch.sizes:
                return
        gate.observer.datagrams_received(gate.listener, batch.seen())
        if self._whole:
            self._service.datagramsReceived(batch)
        elif self._replies is None:
            batch.each(self._service.datagramReceived)
        else:
            batch.each(self._serve)

    def _refuse(self, batch: Any, drops: dict[int, Drop]) -> None:
        """Tell the observer of what is not served, reason by reason."""
        for reason in dict.fromkeys(drops.values()):
            places = [place for place, drop in drops.items() if drop is reason]
            self._gate.observer.datagrams_refused(
                self._gate.listener, batch.only(places).seen(), reason
            )

    def _serve(self, datagram: bytes, addr: tuple[str, int]) -> None:
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
            refused = Datagrams((Origin(addr),), (len(packet),))
            self._gate.observer.datagrams_refused(self._gate.listener, refused, Drop.REPLY_TOO_LONG)
            return
        if answers:
            self._left -= size
        self._port.write(packet, addr)

    def writeSequence(self, seq: Iterable[bytes], addr: tuple[str, int] | None = None) -> None:
        self.write(b"".join(seq), addr)


classImplements(Replies, IMulticastTransport)
