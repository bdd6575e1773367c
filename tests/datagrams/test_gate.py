"""The gate for datagrams: rejected requests, and the size of replies."""

import pytest
from twisted.internet.interfaces import IMulticastTransport
from twisted.internet.protocol import DatagramProtocol

from netsrv.datagrams.batch import Batch
from netsrv.datagrams.gate import DatagramGate
from netsrv.guards.access import Access
from netsrv.guards.datagrams import DatagramGuard
from netsrv.guards.sources import Flow, PacketInfo
from netsrv.interfaces import DropReason
from tests.doubles import Gated, RecordingTransport

PEER = ("192.0.2.1", 40000)
OTHER = ("192.0.2.2", 40000)


class Answering(DatagramProtocol):
    """Answers with packets of *sizes* bytes, to the sender or to *to*."""

    noisy = False
    sizes = ()
    to = None

    def datagramReceived(self, datagram, addr):
        for size in self.sizes:
            self.transport.write(bytes(size), self.to or addr)


class Port(RecordingTransport):
    """Calls for each datagram of a batch, as a port does."""

    def serve_each(self, flows, data, serve):
        for flow, datagram in zip(flows, data, strict=True):
            serve(datagram, flow.peer)


class GatedUDP:
    """A gate with a service behind it, and a recording transport before it."""

    def __init__(self):
        self.gate = Gated().gate
        self.gate.observer.told.clear()
        self.service = Answering()
        guard = DatagramGuard(Access(), frozenset({7}), frozenset(), None)
        self.protocol = DatagramGate(self.gate, self.service, guard)
        self.port = Port()
        self.protocol.makeConnection(self.port)

    def receive(self, datagram, peer):
        """Receive a datagram from *peer*."""
        flow = Flow(peer, self.port.packet_info)
        self.protocol.datagramsReceived(Batch(self.port, [flow], [len(datagram)], [datagram]))

    def sizes_sent(self, request, *sizes, peer=PEER, to=None):
        """Send *request* bytes; return the sizes of the replies that went out."""
        self.port.calls.clear()
        self.service.sizes, self.service.to = sizes, to
        self.receive(bytes(request), peer)
        return [len(call[1]) for call in self.port.calls]

    @property
    def drops(self):
        """The reasons of the datagrams that were refused."""
        return [reason for _, _, reason in self.refused]

    @property
    def refused(self):
        """Each datagram that was refused: its peer, size and reason."""
        events = [event for event in self.gate.observer.told if event[0] == "datagrams_refused"]
        return [(*datagram, reason) for *_, datagrams, reason in events for datagram in datagrams]

    @property
    def received(self):
        """The number of events for datagrams that go to the service."""
        return [event[0] for event in self.gate.observer.told].count("datagrams_received")


@pytest.mark.parametrize("request_size", [0, 1, 100])
def test_a_reply_is_at_most_three_times_its_request(request_size):
    """F35: a reply of the maximum size goes out, one of a byte more does not."""
    udp = GatedUDP()
    longest = 56 + 3 * request_size
    assert udp.sizes_sent(request_size, longest) == [longest]
    assert udp.sizes_sent(request_size, longest + 1) == []
    assert udp.drops == [DropReason.REPLY_TOO_LONG]


def test_replies_to_one_request_share_a_budget():
    """F35: the headers of each reply count, and together they keep to the rule."""
    udp = GatedUDP()
    assert udp.sizes_sent(0, 0, 0, 0, 0) == [0, 0, 0]  # three times 28 bytes
    assert udp.sizes_sent(100, 100, 100, 100, 100) == [100, 100, 100]


def test_a_packet_that_is_no_reply_has_the_size_of_one_to_an_empty_request():
    """A service cannot be used to flood a third party."""
    udp = GatedUDP()
    assert udp.sizes_sent(1000, 56, to=OTHER) == [56]
    assert udp.sizes_sent(1000, 57, to=OTHER) == []
    udp.port.calls.clear()
    udp.service.transport.writeSequence([bytes(50), bytes(7)], PEER)  # after the request was served
    assert udp.port.calls == []


def test_a_refused_datagram_does_not_reach_the_service():
    """F30: the observer gets it with its reason, and not as received."""
    udp = GatedUDP()
    assert udp.sizes_sent(100, 1, peer=("192.0.2.1", 7)) == []
    assert udp.refused == [(("192.0.2.1", 7), 100, DropReason.SOURCE_PORT)]
    assert udp.received == 0


def test_f34_a_broadcast_does_not_reach_the_service():
    """The guard checks the packet info of each datagram."""
    udp = GatedUDP()
    udp.port.packet_info = PacketInfo(unicast=False)
    assert udp.sizes_sent(100, 1) == []
    assert udp.refused == [(PEER, 100, DropReason.DESTINATION)]
    assert udp.received == 0


def test_the_reply_transport_has_the_other_methods_of_the_port():
    """Methods that do not send are those of the port."""
    udp = GatedUDP()
    assert IMulticastTransport.providedBy(udp.service.transport)
    udp.service.transport.setBroadcastAllowed(True)
    udp.service.transport.write(bytes(5000))
    assert udp.port.calls == [("setBroadcastAllowed", True), ("write", bytes(5000))]
