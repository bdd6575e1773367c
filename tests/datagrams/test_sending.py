"""What a protocol sends while a batch is served, and errors of the network."""

import ctypes
import errno
import os
import socket

import pytest
from twisted.internet.error import InvalidAddressError
from twisted.internet.protocol import DatagramProtocol

from netsrv.datagrams import mmsg, single
from netsrv.interfaces import DropReason
from netsrv.services.echo import EchoDatagrams
from tests.datagrams.wires import (
    HOST,
    Batched,
    Collect,
    GatedPort,
    Port,
    both_kinds,
    bound,
    every_form,
    kernel_forms,
    numbered,
)


@every_form
def test_packets_to_several_peers_keep_their_order(wire):
    """Replies and unsolicited packets are sent together."""

    class ToAll(DatagramProtocol):
        def datagramReceived(self, datagram, addr):
            for peer in wire.peers:
                self.transport.write(datagram, peer)
                self.transport.writeSequence([datagram, b"!"], peer)

    port = Port(wire, ToAll())
    wire.arrive_all(numbered(4))
    port.read()
    expected = [datagram + end for datagram in numbered(4) for end in (b"", b"!")]
    assert [wire.received(number) for number in range(3)] == [expected] * 3


@every_form
def test_a_protocol_may_send_more_than_a_batch(wire):
    """A full queue is sent at once."""

    class Many(DatagramProtocol):
        def datagramReceived(self, datagram, addr):
            for packet in numbered(100):
                self.transport.write(packet, addr)

    port = Port(wire, Many())
    wire.arrive_all([b"a", b"b"])
    port.read()
    assert wire.received() == numbered(100) * 2
    assert sum(sent.size for sent in port.sent) == sum(map(len, numbered(100) * 2))


@every_form
def test_a_buffer_may_be_reused_once_it_was_written(wire):
    """The queue has the bytes of that moment."""

    class Reusing(DatagramProtocol):
        buffer = bytearray(2)

        def datagramReceived(self, datagram, addr):
            self.buffer[:] = datagram * 2
            self.transport.write(self.buffer, addr)
            self.transport.write(memoryview(self.buffer)[1:], addr)

    port = Port(wire, Reusing())
    wire.arrive_all([b"a", b"b", b"c"])
    port.read()
    assert wire.received() == [b"aa", b"a", b"bb", b"b", b"cc", b"c"]


@every_form
def test_the_socket_is_handed_out_after_what_was_written_before(wire):
    """A socket option that is set in the middle of a batch holds for later packets only."""
    received = []

    class UsingSocket(DatagramProtocol):
        def datagramReceived(self, datagram, addr):
            self.transport.write(datagram, addr)
            if datagram == b"3":
                self.transport.getHandle()
                received.append(wire.received())

    port = Port(wire, UsingSocket())
    wire.arrive_all(numbered(8))
    port.read()
    assert received == [numbered(4)]
    assert wire.received() == numbered(8)[4:]


@every_form
def test_a_connect_in_the_middle_of_a_batch_holds_for_later_packets(wire):
    """What was written to others before goes to them."""
    port = Port(wire, Collect(**{"1": lambda transport: transport.connect(*wire.peers[2])}))
    wire.arrive_all(numbered(4))
    port.read()
    assert wire.received() == [b"0"]
    assert wire.received(2) == [b"1", b"2", b"3"]


@every_form
def test_a_mistake_of_the_protocol_is_raised_where_it_is_made(wire):
    """In a batch too, though its packets are sent later."""
    wrong = [
        (b"x", ("localhost", 7), InvalidAddressError),
        (b"x", ("::1", 7), InvalidAddressError),
        (b"x", None, InvalidAddressError),
        ("text", ("192.0.2.1", 7), TypeError),
        (5, ("192.0.2.1", 7), TypeError),
        (b"x", ["192.0.2.1", 7], TypeError),
        (b"x", ("192.0.2.1", "7"), TypeError),
        (b"x", ("192.0.2.1", 70_000), OverflowError),
    ]
    raised = []

    class Wrong(DatagramProtocol):
        def datagramReceived(self, datagram, addr):
            packet, target, kind = wrong[int(datagram)]
            with pytest.raises(kind):
                self.transport.write(packet, target)
            raised.append(kind)
            self.transport.write(datagram, addr)

    port = Port(wire, Wrong())
    wire.arrive_all(numbered(len(wrong)))
    port.read()
    assert raised == [kind for _, _, kind in wrong]
    assert wire.received() == numbered(len(wrong))


@every_form
def test_what_was_written_before_a_batch_is_sent_back_goes_out_before_it(wire):
    """Packets leave in the order of the calls."""

    def serve(batch):
        port.service.transport.write(b"first", wire.peers[0])
        batch.send_back()
        port.service.transport.write(b"last", wire.peers[0])

    port = GatedPort(wire, Batched(serve))
    wire.arrive(b"x")
    port.read()
    assert wire.received() == [b"first", b"x", b"last"]


# Errors


@every_form
def test_f39_a_packet_that_cannot_be_sent_does_not_stop_the_others(wire):
    """The kernel stops at it; it is reported, and the rest is sent."""

    class TooLong(DatagramProtocol):
        def datagramReceived(self, datagram, addr):
            packet = bytes(65_508) if datagram in (b"0", b"3", b"4") else datagram
            self.transport.write(packet, addr)

    port = Port(wire, TooLong())
    wire.arrive_all(numbered(8))
    port.read()
    assert wire.received() == [b"1", b"2", b"5", b"6", b"7"]
    assert port.dropped == [(DropReason.SEND_ERROR, "EMSGSIZE")] * 3
    assert sum(sent.count for sent in port.sent) == 5


class Failing:
    """Makes some packets fail, by their number, whichever call sends them."""

    batch_send, one_send = staticmethod(mmsg._send), staticmethod(single.send_one)

    def __init__(self, monkeypatch, errors):
        self.errors = errors
        self.sent = 0
        if mmsg._send is not None:
            monkeypatch.setattr(mmsg, "_send", self.send_batch)
        monkeypatch.setattr(single, "send_one", self.send_one)

    def send_batch(self, descriptor, start, count, flags):
        error = self.errors.get(self.sent)
        if error is not None:
            self.sent += error not in mmsg.REFUSED  # else the plain call is next, for the same one
            ctypes.set_errno(error)
            return -1
        good = next((n for n in range(count) if self.sent + n in self.errors), count)
        self.sent += good
        return self.batch_send(descriptor, start, good, flags)

    def send_one(self, sock, packet, flow):
        error = self.errors.get(self.sent)
        self.sent += 1
        if error is not None:
            raise OSError(error, os.strerror(error))
        self.one_send(sock, packet, flow)


@every_form
@both_kinds
def test_f39_each_failed_packet_is_reported_with_its_error(monkeypatch, wire, service):
    """At the start of a batch, side by side, and at its end."""
    Failing(monkeypatch, {0: errno.EPERM, 3: errno.EPERM, 4: errno.EINVAL, 7: errno.ENETUNREACH})
    port = Port(wire, service())
    wire.arrive_all(numbered(8))
    port.read()
    assert wire.received() == [b"1", b"2", b"5", b"6"]
    assert port.dropped == [
        (DropReason.SEND_ERROR, name) for name in ("EPERM", "EPERM", "EINVAL", "ENETUNREACH")
    ]
    assert [size for sent in port.sent for _, size in sent] == [1] * 4


@pytest.mark.parametrize("form", ["batched", "single", "memory"], indirect=True)
@both_kinds
@pytest.mark.parametrize("name", ["EAGAIN", "ENOBUFS"])
def test_f39_without_buffers_the_rest_of_a_batch_is_dropped(monkeypatch, wire, service, name):
    """Each is counted; the next batch is tried."""
    Failing(monkeypatch, {5: getattr(errno, name)})
    port = Port(wire, service())
    wire.arrive_all(numbered(8))
    port.read()
    assert wire.received() == numbered(5)
    assert port.dropped == [(DropReason.SEND_ERROR, name)] * 3
    wire.arrive_all(numbered(2))
    port.read()
    assert wire.received() == numbered(2)


@kernel_forms
def test_f37_a_late_refusal_does_not_stop_receiving(wire):
    """It is reported, and a connected protocol is called."""
    refused = []
    protocol = Collect()
    protocol.connectionRefused = lambda: refused.append(1)
    port = Port(wire, protocol)
    wire.clients.pop(0).close()
    port.port.connect(*wire.peers[0])
    port.port.write(b"is anyone there?")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(wire.peers[0])
        client.sendto(b"now I am", wire.server)
        port.read()
        client.setblocking(False)
        assert client.recv(100) == b"now I am"
    assert (refused, port.dropped) == ([1], [(DropReason.RECEIVE_ERROR, "ECONNREFUSED")])


@kernel_forms
def test_f38_a_closed_descriptor_is_abandoned(wire):
    """Also where its number is passed to the C library."""
    errors = []
    port = Port(wire, EchoDatagrams(), on_dead_socket=errors.append)
    wire.arrive(b"lost")
    os.close(wire.sock.fileno())
    port.read()
    assert port.dropped == [(DropReason.RECEIVE_ERROR, "EBADF")]
    assert [error.errno for error in errors] == [errno.EBADF]
    assert port.port not in port.reactor.readers
    wire.sock = bound(HOST)
    wire.server = wire.sock.getsockname()
    port.port.replace_socket(wire.sock)
    wire.arrive(b"next")
    port.read()
    assert wire.received() == [b"next"]
