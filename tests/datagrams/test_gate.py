"""Datagrams in the gate: what is dropped, and how long answers may be."""

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
    """Answers with packets of the sizes that it is told."""

    noisy = False
    sizes = ()
    to = None

    def datagramReceived(self, datagram, addr):
        for size in self.sizes:
            self.transport.write(bytes(size), self.to or addr)


class Port(RecordingTransport):
    """Serves the datagrams of a batch."""

    def serve_each(self, flows, data, serve):
        for flow, datagram in zip(flows, data, strict=True):
            serve(datagram, flow.peer)


class GatedUDP:
    """A gate before such a protocol."""

    def __init__(self):
        self.gate = Gated().gate
        self.gate.observer.told.clear()
        self.service = Answering()
        guard = DatagramGuard(Access(), frozenset({7}), frozenset(), None)
        self.protocol = DatagramGate(self.gate, self.service, guard)
        self.port = Port()
        self.protocol.makeConnection(self.port)

    def receive(self, datagram, peer):
        """Have a datagram come."""
        flow = Flow(peer, self.port.packet_info)
        self.protocol.datagramsReceived(Batch(self.port, [flow], [len(datagram)], [datagram]))

    def sizes_sent(self, request, *sizes, peer=PEER, to=None):
        """Ask with *request* bytes; give the sizes of the answers that went out."""
        self.port.calls.clear()
        self.service.sizes, self.service.to = sizes, to
        self.receive(bytes(request), peer)
        return [len(call[1]) for call in self.port.calls]

    @property
    def drops(self):
        """The reasons that the observer was told."""
        return [each[-1] for each in self.refused]

    @property
    def refused(self):
        """Whom the observer was told of as refused, with the size and the reason."""
        told = [each for each in self.gate.observer.told if each[0] == "datagrams_refused"]
        return [(*seen, drop) for _, _, datagrams, drop in told for seen in datagrams]

    @property
    def received(self):
        """How often the observer was told of datagrams that go to the service."""
        return [each[0] for each in self.gate.observer.told].count("datagrams_received")


@pytest.mark.parametrize("request_size", [0, 1, 100])
def test_an_answer_is_at_most_three_times_its_request(request_size):
    """F35: the longest answer goes out, one byte more does not."""
    udp = GatedUDP()
    longest = 56 + 3 * request_size
    assert udp.sizes_sent(request_size, longest) == [longest]
    assert udp.sizes_sent(request_size, longest + 1) == []
    assert udp.drops == [DropReason.REPLY_TOO_LONG]


def test_many_answers_share_what_the_request_pays_for():
    """F35: the headers of each answer count, and together they stay within the rule."""
    udp = GatedUDP()
    assert udp.sizes_sent(0, 0, 0, 0, 0) == [0, 0, 0]  # three times 28 bytes
    assert udp.sizes_sent(100, 100, 100, 100, 100) == [100, 100, 100]


def test_what_is_no_answer_is_as_short_as_one_to_an_empty_request():
    """A service cannot be used to send a lot to somebody who has not asked."""
    udp = GatedUDP()
    assert udp.sizes_sent(1000, 56, to=OTHER) == [56]
    assert udp.sizes_sent(1000, 57, to=OTHER) == []
    udp.port.calls.clear()
    udp.service.transport.writeSequence([bytes(50), bytes(7)], PEER)  # later, not while asked
    assert udp.port.calls == []


def test_a_refused_datagram_does_not_reach_the_service():
    """F30: it is told to the observer with its reason, and not as received."""
    udp = GatedUDP()
    assert udp.sizes_sent(100, 1, peer=("192.0.2.1", 7)) == []
    assert udp.refused == [(("192.0.2.1", 7), 100, DropReason.SOURCE_PORT)]
    assert udp.received == 0


def test_f34_a_service_never_sees_what_was_sent_to_many():
    """The port tells the guard how each datagram arrived."""
    udp = GatedUDP()
    udp.port.packet_info = PacketInfo(unicast=False)
    assert udp.sizes_sent(100, 1) == []
    assert udp.refused == [(PEER, 100, DropReason.DESTINATION)]
    assert udp.received == 0


def test_a_service_finds_the_ports_other_methods():
    """What is not about sending is the port's own."""
    udp = GatedUDP()
    assert IMulticastTransport.providedBy(udp.service.transport)
    udp.service.transport.setBroadcastAllowed(True)
    udp.service.transport.write(bytes(5000))
    assert udp.port.calls == [("setBroadcastAllowed", True), ("write", bytes(5000))]
