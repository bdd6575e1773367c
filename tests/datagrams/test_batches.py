"""Batches of datagrams: the same in every form, by one call for many, one by one, in memory."""

import ctypes
import errno
import os
import socket
from contextlib import ExitStack

import pytest
from twisted.internet.error import InvalidAddressError
from twisted.internet.protocol import DatagramProtocol
from zope.interface import implementer
from zope.interface.verify import verifyObject

from netsrv.datagrams import batched, mmsg, single
from netsrv.datagrams.batch import BATCH_SIZE
from netsrv.datagrams.gate import DatagramGate
from netsrv.datagrams.port import DatagramPort
from netsrv.guards.access import Access
from netsrv.guards.datagrams import DatagramGuard
from netsrv.guards.rates import Rate
from netsrv.interfaces import DropReason, IDatagramBatch, IDatagramBatchProtocol
from netsrv.services.discard import DiscardDatagrams
from netsrv.services.echo import EchoDatagrams
from netsrv.testing.memory import DatagramSocket
from tests.doubles import Gated, ReactorClock

HOST = "127.0.0.1"

BATCHES = mmsg.AVAILABLE
"""Whether this system has the calls for many."""

MANY = BATCH_SIZE - 1
"""Datagrams that fill a batch almost."""


class Wire:
    """A port, and three peers of it: here over the kernel's loopback."""

    def __init__(self, host=HOST):
        self.sock = bound(host)
        self.server = (HOST, self.sock.getsockname()[1])
        self.clients = [bound(HOST) for _ in range(3)]
        self.peers = [each.getsockname() for each in self.clients]

    def arrive(self, data, number=0, host=HOST):
        """Have a datagram come from a peer."""
        self.clients[number].sendto(data, (host, self.server[1]))

    def came_back(self, number=0):
        """What a peer has received since it was asked for the last time, in order."""
        return [data for data, _ in self.came_back_from(number)]

    def came_back_from(self, number=0):
        """The same, and from whom."""
        found = []
        while True:
            try:
                found.append(self.clients[number].recvfrom(65_535))
            except BlockingIOError:
                return found

    def close(self):
        for each in (self.sock, *self.clients):
            each.close()


class MemoryWire(Wire):
    """The same in memory."""

    def __init__(self):
        self.server = (HOST, 7)
        self.sock = DatagramSocket(self.server)
        self.peers = [("192.0.2.1", 40_000 + number) for number in range(3)]

    def arrive(self, data, number=0):
        self.sock.arrive(data, self.peers[number])

    def came_back(self, number=0):
        found = [data for data, peer in self.sock.sent if peer == self.peers[number]]
        self.sock.sent[:] = [each for each in self.sock.sent if each[1] != self.peers[number]]
        return found

    def close(self):
        self.sock.close()


def bound(host):
    """A socket on a port of the kernel's choosing."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.bind((host, 0))
    sock.setblocking(False)
    return sock


@pytest.fixture
def form(request, monkeypatch):
    """The form of the calls: many at once, one by one, or of a socket in memory."""
    if request.param == "batches":
        if not BATCHES:
            pytest.skip("this system has no recvmmsg")
        monkeypatch.setattr(batched, "SINGLE_RUN", 0)
        monkeypatch.setattr(batched, "MIN_BATCH_SEND", 0)
    elif request.param == "plain":
        monkeypatch.setattr(batched, "usable", lambda sock: False)
    return request.param


every_form = pytest.mark.parametrize("form", ["batches", "alone", "plain", "memory"], indirect=True)
kernel_forms = pytest.mark.parametrize("form", ["batches", "alone", "plain"], indirect=True)


@pytest.fixture
def wire(form):
    """Where datagrams come and go."""
    wire = MemoryWire() if form == "memory" else Wire()
    yield wire
    wire.close()


class Port:
    """A started port with a protocol, and all that it has told."""

    def __init__(self, wire, protocol, **options):
        self.reactor = ReactorClock()
        self.dropped, self.raised, self.sent = [], [], []
        self.protocol = protocol
        protocol.noisy = False
        self.port = DatagramPort(
            self.reactor,
            wire.sock,
            protocol,
            self.drop,
            lambda: self.raised.append(1),
            on_sent=self.sent.append,
            **options,
        )
        self.port.startListening()

    def drop(self, reason, error):
        """Record a drop: its reason, and the name of the error if there was one."""
        self.dropped.append((reason, errno.errorcode[error.errno]) if error else reason)

    def read(self):
        """Have it receive once."""
        self.port.doRead()


class Collect(DatagramProtocol):
    """Remembers, and does as it was told at some datagrams; answers all."""

    def __init__(self, **at):
        self.at = at
        self.got = []

    def datagramReceived(self, datagram, addr):
        self.got.append(datagram)
        if datagram.decode() in self.at:
            self.at[datagram.decode()](self.transport)
        self.transport.write(datagram, addr)


@implementer(IDatagramBatchProtocol)
class Whole(DatagramProtocol):
    """Takes batches, and does with each what it was told."""

    def __init__(self, serve):
        self.serve = serve
        self.sizes = []

    def datagramsReceived(self, batch):
        self.sizes.extend(batch.sizes)
        self.serve(batch)

    def datagramReceived(self, datagram, addr):
        self.sizes.append(len(datagram))
        self.transport.write(datagram, addr)


def numbered(count):
    """So many datagrams that differ."""
    return [b"%d" % number for number in range(count)]


@every_form
@pytest.mark.parametrize("protocol", [EchoDatagrams, Collect], ids=["whole", "one by one"])
def test_all_come_back_in_order(wire, protocol):
    """Each with its bytes to whom it came from, empty ones too, and they are told as sent."""
    port = Port(wire, protocol())
    data = [b"", *numbered(MANY - 3), bytes(1400), bytes(9000)]
    for number, each in enumerate(data):
        wire.arrive(each, number % 3)
    port.read()
    for number in range(3):
        assert wire.came_back(number) == data[number::3]
    assert sum(each.count for each in port.sent) == len(data)
    told = [seen for each in port.sent for seen in each]
    assert told == [(wire.peers[n % 3], len(each)) for n, each in enumerate(data)]


@kernel_forms
@pytest.mark.parametrize("protocol", [EchoDatagrams, Collect], ids=["whole", "one by one"])
def test_f27_the_longest_comes_back_among_others(wire, protocol):
    """Its place in a batch is large enough."""
    data = [b"a", bytes(65_507), b"", os.urandom(65_507), b"z", b"y", b"x"]
    port = Port(wire, EchoDatagrams() if protocol is EchoDatagrams else Echoing())
    for each in data:
        wire.arrive(each)
    port.read()
    assert wire.came_back() == data


class Echoing(DatagramProtocol):
    """Echoes by itself."""

    def datagramReceived(self, datagram, addr):
        self.transport.write(datagram, addr)


@every_form
def test_f26_the_reactor_has_its_turn_after_so_many(wire):
    """What is left comes with the next turn."""
    port = Port(wire, EchoDatagrams())
    data = numbered(BATCH_SIZE + 5)
    for each in data:
        wire.arrive(each)
    port.read()
    assert wire.came_back() == data[:BATCH_SIZE]
    port.read()
    assert wire.came_back() == data[BATCH_SIZE:]


@every_form
@pytest.mark.parametrize("protocol", [EchoDatagrams, Collect], ids=["whole", "one by one"])
def test_f28_what_is_too_long_is_taken_out(wire, protocol):
    """The others of its batch are served."""
    port = Port(wire, protocol(), max_size=10)
    for each in (b"before", b"x" * 11, b"x" * 10, b"x" * 12, b"", b"after"):
        wire.arrive(each)
    port.read()
    assert wire.came_back() == [b"before", b"x" * 10, b"", b"after"]
    assert port.dropped == [DropReason.TOO_LONG] * 2


@every_form
def test_f28_a_batch_of_nothing_else(wire):
    """Nothing is left to serve."""
    port = Port(wire, EchoDatagrams(), max_size=3)
    wire.arrive(b"long")
    wire.arrive(b"longer")
    port.read()
    assert (wire.came_back(), port.dropped) == ([], [DropReason.TOO_LONG] * 2)


@every_form
def test_f40_a_protocol_that_raises_gets_the_rest(wire):
    """An exception concerns one datagram; what was sent before it goes out."""

    def fail(transport):
        raise RuntimeError("as told")

    port = Port(wire, Collect(**{"3": fail}))
    for each in numbered(8):
        wire.arrive(each)
    port.read()
    assert port.raised == [1]
    assert wire.came_back() == [each for each in numbered(8) if each != b"3"]


@kernel_forms
def test_f40_a_protocol_that_raises_at_a_batch_gets_the_next(form, wire):
    """Of what came alone it was told alone."""

    def fail(batch):
        raise RuntimeError("as told")

    port = Port(wire, Whole(fail))
    for _ in range(2):
        wire.arrive(b"a")
        wire.arrive(b"b")
        port.read()
    assert port.raised == ([1] * 2 if form != "alone" else [])
    assert port.protocol.sizes == [1] * 4


@every_form
def test_who_suspends_in_the_middle_is_served_the_rest_later(wire):
    """Nothing is lost, nothing doubled, and the order kept."""
    port = Port(wire, Collect(**{"2": lambda transport: transport.suspend()}))
    data = numbered(8)
    for each in data:
        wire.arrive(each)
    port.read()
    assert port.protocol.got == data[:3]
    port.read()
    assert port.protocol.got == data[:3]
    assert wire.came_back() == data[:3]
    wire.arrive(b"later")
    port.port.resume()
    port.reactor.advance(0)
    port.read()
    assert port.protocol.got == [*data, b"later"]
    assert wire.came_back() == [*data[3:], b"later"]
    assert port.port in port.reactor.readers


@every_form
def test_who_suspends_for_a_moment_misses_nothing(wire):
    """A datagram that is held for later must not wait for the next one to come."""

    def turn(transport):
        transport.suspend()
        transport.resume()

    port = Port(wire, Collect(**{"2": turn}))
    for each in numbered(8):
        wire.arrive(each)
    port.read()
    assert port.protocol.got == numbered(8)
    port.port.suspend()
    assert port.reactor.getDelayedCalls() == []


@every_form
def test_who_stops_in_the_middle_is_served_nothing_more(form, wire):
    """What it has sent before goes out; what was received and not served is told."""
    port = Port(wire, Collect(**{"2": lambda transport: transport.stopListening()}))
    for each in numbered(8):
        wire.arrive(each)
    port.read()
    assert port.protocol.got == numbered(3)
    assert wire.came_back() == numbered(2)
    assert wire.sock.fileno() == -1
    assert port.dropped == ([DropReason.STOPPED] * 5 if form != "alone" else [])
    assert port.raised == [1]  # its transport is gone, as everywhere in Twisted
    assert port.reactor.getDelayedCalls() == []


@every_form
def test_who_stops_while_it_is_suspended_loses_what_was_held(form, wire):
    """It is told."""
    port = Port(wire, Collect(**{"2": lambda transport: transport.suspend()}))
    for each in numbered(8):
        wire.arrive(each)
    port.read()
    port.port.stopListening()
    assert port.dropped == ([DropReason.STOPPED] * 5 if form != "alone" else [])
    assert port.reactor.getDelayedCalls() == []


@every_form
def test_what_is_sent_to_others_keeps_its_order(wire):
    """Answers and what is no answer go out together."""

    class Telling(DatagramProtocol):
        def datagramReceived(self, datagram, addr):
            for peer in wire.peers:
                self.transport.write(datagram, peer)
                self.transport.writeSequence([datagram, b"!"], peer)

    port = Port(wire, Telling())
    for each in numbered(4):
        wire.arrive(each)
    port.read()
    told = [each + end for each in numbered(4) for end in (b"", b"!")]
    assert [wire.came_back(number) for number in range(3)] == [told] * 3


@every_form
def test_a_protocol_may_send_more_than_a_batch(wire):
    """As many as it likes."""

    class Telling(DatagramProtocol):
        def datagramReceived(self, datagram, addr):
            for each in numbered(100):
                self.transport.write(each, addr)

    port = Port(wire, Telling())
    wire.arrive(b"a")
    wire.arrive(b"b")
    port.read()
    assert wire.came_back() == numbered(100) * 2
    assert sum(each.size for each in port.sent) == sum(map(len, numbered(100) * 2))


@every_form
def test_what_changes_after_it_was_written_does_not_change_what_is_sent(wire):
    """A protocol may use its buffer again."""

    class Reusing(DatagramProtocol):
        buffer = bytearray(2)

        def datagramReceived(self, datagram, addr):
            self.buffer[:] = datagram * 2
            self.transport.write(self.buffer, addr)
            self.transport.write(memoryview(self.buffer)[1:], addr)

    port = Port(wire, Reusing())
    for each in (b"a", b"b", b"c"):
        wire.arrive(each)
    port.read()
    assert wire.came_back() == [b"aa", b"a", b"bb", b"b", b"cc", b"c"]


@every_form
def test_who_takes_the_socket_finds_all_sent_that_was_sent_before(wire):
    """An option that is set in the middle of a batch is for what comes after."""
    seen = []

    class Taking(DatagramProtocol):
        def datagramReceived(self, datagram, addr):
            self.transport.write(datagram, addr)
            if datagram == b"3":
                self.transport.getHandle()
                seen.append(wire.came_back())

    port = Port(wire, Taking())
    for each in numbered(8):
        wire.arrive(each)
    port.read()
    assert seen == [numbered(4)]
    assert wire.came_back() == numbered(8)[4:]


@every_form
def test_who_connects_in_the_middle_sends_to_its_peer_from_then_on(wire):
    """What it had sent to others went to them."""
    port = Port(wire, Collect(**{"1": lambda transport: transport.connect(*wire.peers[2])}))
    for each in numbered(4):
        wire.arrive(each)
    port.read()
    assert wire.came_back() == [b"0"]
    assert wire.came_back(2) == [b"1", b"2", b"3"]


@every_form
def test_what_is_wrong_with_a_packet_is_raised_at_once(wire):
    """In a batch as well: it is the protocol's own mistake."""
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
    for each in numbered(len(wrong)):
        wire.arrive(each)
    port.read()
    assert raised == [kind for _, _, kind in wrong]
    assert wire.came_back() == numbered(len(wrong))


@every_form
def test_f39_one_that_cannot_be_sent_does_not_hinder_the_others(wire):
    """The kernel stops at it; it is counted, and the rest goes on."""

    class TooLong(DatagramProtocol):
        def datagramReceived(self, datagram, addr):
            self.transport.write(
                bytes(65_508) if datagram in (b"0", b"3", b"4") else datagram, addr
            )

    port = Port(wire, TooLong())
    for each in numbered(8):
        wire.arrive(each)
    port.read()
    assert wire.came_back() == [b"1", b"2", b"5", b"6", b"7"]
    assert port.dropped == [(DropReason.SEND_ERROR, "EMSGSIZE")] * 3
    assert sum(each.count for each in port.sent) == 5


class Failing:
    """Has some of what is sent fail, whatever the form of the call."""

    def __init__(self, monkeypatch, wire, failing):
        self.failing = failing
        self.sent = 0
        if mmsg._send is not None:
            monkeypatch.setattr(mmsg, "_send", self.batch)
        monkeypatch.setattr(single, "send_one", self.one)

    batch_send, one_send = staticmethod(mmsg._send), staticmethod(single.send_one)

    def batch(self, descriptor, start, count, flags):
        error = self.failing.get(self.sent)
        if error is not None:
            self.sent += 1
            ctypes.set_errno(error)
            return -1
        well = next((n for n in range(count) if self.sent + n in self.failing), count)
        self.sent += well
        return self.batch_send(descriptor, start, well, flags)

    def one(self, sock, packet, target):
        error = self.failing.get(self.sent)
        self.sent += 1
        if error is not None:
            raise OSError(error, os.strerror(error))
        self.one_send(sock, packet, target)


@every_form
@pytest.mark.parametrize("protocol", [EchoDatagrams, Collect], ids=["whole", "one by one"])
def test_f39_errors_are_those_of_single_datagrams(monkeypatch, wire, protocol):
    """At the beginning, next to each other, and at the end."""
    failing = {0: errno.EPERM, 3: errno.EPERM, 4: errno.EINVAL, 7: errno.ENETUNREACH}
    Failing(monkeypatch, wire, failing)
    port = Port(wire, protocol())
    for each in numbered(8):
        wire.arrive(each)
    port.read()
    assert wire.came_back() == [b"1", b"2", b"5", b"6"]
    assert port.dropped == [
        (DropReason.SEND_ERROR, "EPERM"),
        (DropReason.SEND_ERROR, "EPERM"),
        (DropReason.SEND_ERROR, "EINVAL"),
        (DropReason.SEND_ERROR, "ENETUNREACH"),
    ]
    assert [size for each in port.sent for _, size in each] == [1] * 4


@pytest.mark.parametrize("form", ["batches", "plain", "memory"], indirect=True)
@pytest.mark.parametrize("protocol", [EchoDatagrams, Collect], ids=["whole", "one by one"])
@pytest.mark.parametrize("name", ["EAGAIN", "ENOBUFS"])
def test_f39_without_room_the_rest_of_a_batch_is_dropped(monkeypatch, wire, protocol, name):
    """Each is counted; the next batch is tried."""
    Failing(monkeypatch, wire, {5: getattr(errno, name)})
    port = Port(wire, protocol())
    for each in numbered(8):
        wire.arrive(each)
    port.read()
    assert wire.came_back() == numbered(5)
    assert port.dropped == [(DropReason.SEND_ERROR, name)] * 3
    for each in numbered(2):
        wire.arrive(each)
    port.read()
    assert wire.came_back() == numbered(2)


@kernel_forms
def test_f37_a_late_refusal_does_not_hinder_what_came(wire):
    """It is told, and to a connected protocol too."""
    refused = []
    protocol = Collect()
    protocol.connectionRefused = lambda: refused.append(1)
    port = Port(wire, protocol)
    gone = wire.clients.pop(0)
    gone.close()
    port.port.connect(*wire.peers[0])
    port.port.write(b"is anyone there?")
    again = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with again:
        again.bind(wire.peers[0])
        again.sendto(b"now I am", wire.server)
        port.read()
        again.setblocking(False)
        assert again.recv(100) == b"now I am"
    assert (refused, port.dropped) == ([1], [(DropReason.RECEIVE_ERROR, "ECONNREFUSED")])


@kernel_forms
def test_f38_a_dead_descriptor_is_parted_with(wire):
    """Also where its number is given to a library."""
    told = []
    port = Port(wire, EchoDatagrams(), on_dead_socket=told.append)
    wire.arrive(b"lost")
    os.close(wire.sock.fileno())
    port.read()
    assert port.dropped == [(DropReason.RECEIVE_ERROR, "EBADF")]
    assert [error.errno for error in told] == [errno.EBADF]
    assert port.port not in port.reactor.readers
    wire.sock = bound(HOST)
    wire.server = wire.sock.getsockname()
    port.port.replace_socket(wire.sock)
    wire.arrive(b"next")
    port.read()
    assert wire.came_back() == [b"next"]


@every_form
def test_a_batch_that_is_received_during_another_is_one_of_its_own(form, wire):
    """A protocol may have other ports, and its own, receive: the end of a server does."""
    other = MemoryWire() if form == "memory" else Wire()
    with ExitStack() as stack:
        stack.callback(other.close)
        there = Port(other, EchoDatagrams())

        def nested(transport):
            other.arrive(b"nested")
            there.read()
            wire.arrive(b"late")
            transport.doRead()

        here = Port(wire, Collect(**{"2": nested}))
        for each in numbered(8):
            wire.arrive(each)
        here.read()
        here.read()
        assert other.came_back() == [b"nested"]
        assert sorted(here.protocol.got) == sorted([*numbered(8), b"late"])
        assert sorted(wire.came_back()) == sorted([*numbered(8), b"late"])


@every_form
def test_a_batch_is_sent_back_once_and_while_it_is_there(wire):
    """Whoever keeps it, or answers twice, is told of the mistake."""
    kept = []

    def twice(batch):
        assert verifyObject(IDatagramBatch, batch)
        batch.send_back()
        with pytest.raises(RuntimeError):
            batch.send_back()
        kept.append(batch)

    port = Gate(wire, Whole(twice))
    wire.arrive(b"a")
    wire.arrive(b"b")
    port.read()
    assert (wire.came_back(), port.raised) == ([b"a", b"b"], [])
    for each in kept:
        with pytest.raises(RuntimeError):
            each.send_back()


@every_form
def test_a_batch_that_was_kept_is_over(form, wire):
    """Also what is left of one from which something was taken out."""
    kept = []
    port = Gate(wire, Whole(kept.append), refused=frozenset({wire.peers[1][1]}))
    for number in range(3):
        for each in numbered(4):
            wire.arrive(each, number)
        port.read()
    assert kept
    for each in kept:
        with pytest.raises(RuntimeError):
            each.send_back()
    assert wire.came_back() == []


@every_form
def test_what_was_sent_before_a_batch_goes_out_before_it(wire):
    """In the order of the calls."""

    def greet(batch):
        port.protocol._service.transport.write(b"first", wire.peers[0])
        batch.send_back()
        port.protocol._service.transport.write(b"last", wire.peers[0])

    port = Gate(wire, Whole(greet))
    wire.arrive(b"x")
    port.read()
    assert wire.came_back() == [b"first", b"x", b"last"]


@every_form
def test_who_derives_from_a_service_that_takes_batches_may_want_each(wire):
    """What overrides the one method is called."""

    class Shouting(EchoDatagrams):
        def datagramReceived(self, datagram, addr):
            self.transport.write(datagram.upper(), addr)

    port = Gate(wire, Shouting())
    for each in (b"a", b"b"):
        wire.arrive(each)
    port.read()
    assert wire.came_back() == [b"A", b"B"]


class Gate(Port):
    """A port with a gate before the service."""

    def __init__(self, wire, service, refused=frozenset(), rate=None, access=None, safe=True):
        service.noisy = False
        self.gate = Gated().gate
        self.gate.observer.told.clear()
        guard = DatagramGuard(access or Access(), refused, frozenset(), rate, safe)
        super().__init__(wire, DatagramGate(self.gate, service, guard))

    def told(self, event):
        """Each datagram of which the observer was told, with what else it was told."""
        told = [each for each in self.gate.observer.told if each[0] == event]
        return [(*seen, *more) for _, _, datagrams, *more in told for seen in datagrams]


def services():
    """One service that takes whole batches, and one that does not."""
    return pytest.mark.parametrize("service", [EchoDatagrams, Collect], ids=["whole", "one by one"])


@every_form
@services()
def test_f30_what_is_not_served_is_taken_out_of_a_batch(wire, service):
    """The others are answered in order; the observer is told of each, and why."""
    port = Gate(wire, service(), refused=frozenset({wire.peers[1][1]}))
    for number, each in enumerate(numbered(30)):
        wire.arrive(each, number % 3)
    port.read()
    assert [wire.came_back(number) for number in range(3)] == [
        numbered(30)[0::3],
        [],
        numbered(30)[2::3],
    ]
    refused = port.told("datagrams_refused")
    assert [size for _, size, _ in refused] == [len(each) for each in numbered(30)[1::3]]
    assert {(peer, why) for peer, _, why in refused} == {(wire.peers[1], DropReason.SOURCE_PORT)}
    assert port.told("datagrams_received") == [
        (wire.peers[number % 3], len(each))
        for number, each in enumerate(numbered(30))
        if number % 3 != 1
    ]


@every_form
@services()
def test_f30_of_a_batch_nothing_may_be_left(wire, service):
    """The service hears nothing."""
    port = Gate(wire, service(), refused=frozenset({wire.peers[1][1]}))
    for each in numbered(8):
        wire.arrive(each, 1)
    port.read()
    assert wire.came_back(1) == []
    assert len(port.told("datagrams_refused")) == 8
    assert port.told("datagrams_received") == []


@pytest.mark.parametrize("form", ["memory"], indirect=True)
@services()
def test_f36_a_rate_holds_within_a_batch(wire, service):
    """The first are answered, as many as there are tokens, of each source."""
    port = Gate(wire, service(), rate=Rate(1, 5))
    wire.peers[1] = ("192.0.2.2", 1234)
    for number, each in enumerate(numbered(20)):
        wire.arrive(each, number % 2)
    port.read()
    assert wire.came_back(0) == numbered(20)[0:10:2]
    assert wire.came_back(1) == numbered(20)[1:10:2]
    assert {why for _, _, why in port.told("datagrams_refused")} == {DropReason.DATAGRAM_RATE}


@every_form
def test_f35_answers_in_a_batch_pay_for_themselves_one_by_one(wire):
    """What one datagram leaves over is not for the next."""

    class Long(DatagramProtocol):
        def datagramReceived(self, datagram, addr):
            self.transport.write(bytes(56 + int(datagram)), addr)

    port = Gate(wire, Long())
    for each in (b"0", b"3", b"4", b"1"):  # one byte asks, so 59 may answer
        wire.arrive(each)
    port.read()
    assert [len(each) for each in wire.came_back()] == [56, 59, 57]
    assert [size for _, size, _ in port.told("datagrams_refused")] == [60]


@every_form
def test_f25_discard_answers_nothing(wire):
    """It is told as received all the same."""
    port = Gate(wire, DiscardDatagrams())
    for each in numbered(8):
        wire.arrive(each)
    port.read()
    assert wire.came_back() == []
    assert len(port.told("datagrams_received")) == 8


@kernel_forms
@pytest.mark.skipif("sys.platform != 'linux'", reason="only Linux is asked")
@pytest.mark.parametrize("listener", ["0.0.0.0", "::"])
@services()
def test_f42_each_of_a_batch_is_answered_from_the_address_it_asked(form, listener, service):
    """Though they stand side by side, and some have been dropped."""
    wire = Wire(listener)
    port = Gate(wire, service(), refused=frozenset({wire.peers[1][1]}))
    hosts = [f"127.0.0.{number % 5 + 1}" for number in range(30)]
    for number, host in enumerate(hosts):
        wire.arrive(b"%d" % number, number % 2 * 2, host)
        wire.arrive(b"dropped", 1, host)
    port.read()
    for number in (0, 2):
        wanted = [(b"%d" % n, hosts[n]) for n in range(number // 2, 30, 2)]
        assert [(data, peer[0]) for data, peer in wire.came_back_from(number)] == wanted
    assert len(port.told("datagrams_refused")) == 30
    wire.close()


@kernel_forms
@pytest.mark.skipif("sys.platform != 'linux'", reason="only Linux is asked")
@services()
def test_f42_ipv6_and_ipv4_peers_in_one_batch(form, service):
    """A socket for both answers each in its own way."""
    try:
        wire = Wire("::")
        client = bound("::1")
    except OSError:
        pytest.skip("no IPv6 here")
    port = Gate(wire, service())
    with client:
        for each in numbered(10):
            wire.arrive(each)
            client.sendto(each, ("::1", wire.server[1]))
        port.read()
        assert wire.came_back() == numbered(10)
        assert [client.recvfrom(100)[0] for _ in range(10)] == numbered(10)
        for turn in range(4):  # who stood where another stood is still known
            for number in range(6):
                if (turn + number) % 2:
                    wire.arrive(b"again")
                else:
                    client.sendto(b"again", ("::1", wire.server[1]))
            port.read()
    assert form != "batches" or len(port.port._io._kernel_flows) == 2
    peers = {peer for peer, _ in port.told("datagrams_received")}
    assert peers == {("::ffff:127.0.0.1", wire.peers[0][1]), ("::1", client_port(peers))}
    wire.close()


def client_port(peers):
    """The port of the one that is on IPv6."""
    return next(port for host, port in peers if host == "::1")


@kernel_forms
@pytest.mark.skipif("sys.platform != 'linux'", reason="these are options of Linux")
@services()
def test_f42_what_else_the_kernel_tells_is_not_sent_back(form, service):
    """It would refuse its own word (EINVAL)."""
    wire = Wire("0.0.0.0")
    timestamp, rxq_ovfl = 29, 40  # SO_TIMESTAMP, SO_RXQ_OVFL
    for option in (timestamp, rxq_ovfl):
        wire.sock.setsockopt(socket.SOL_SOCKET, option, 1)
    wire.sock.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    port = Gate(wire, service())
    for each in numbered(8):
        wire.arrive(each, 0, "127.0.0.2")
    port.read()
    assert wire.came_back_from() == [(each, ("127.0.0.2", wire.server[1])) for each in numbered(8)]
    assert port.dropped == []
    wire.close()


@every_form
@services()
def test_the_peers_that_are_remembered_are_bounded(monkeypatch, wire, service):
    """A flood from made-up addresses does not fill the memory; who comes again is served."""
    monkeypatch.setattr(single, "FLOW_CACHE_SIZE", 2)
    monkeypatch.setattr(batched, "FLOW_CACHE_SIZE", 2)
    port = Gate(wire, service())
    for number, each in enumerate(numbered(30)):
        wire.arrive(each, number % 3)
    port.read()
    for number in range(3):
        assert wire.came_back(number) == numbered(30)[number::3]
    io = port.port._io
    assert len(io._flows) <= 2
    assert len(getattr(io, "_kernel_flows", ())) <= 2


@pytest.mark.skipif(not BATCHES, reason="this system has no recvmmsg")
def test_the_arrays_are_shared_by_all_ports():
    """A port has no memory of its own for what it receives."""
    wires = [Wire() for _ in range(3)]
    ports = [Port(each, EchoDatagrams()) for each in wires]
    for port in ports:
        port.port._io.prefer_single = 0
    for _ in range(3):
        for wire, port in zip(wires, ports, strict=True):
            wire.arrive(b"x")
            wire.arrive(b"y")
            port.read()
            assert wire.came_back() == [b"x", b"y"]
    assert len(batched._free_arrays) <= 2  # two, after a batch was received during another
    for wire in wires:
        wire.close()


@pytest.mark.skipif(not BATCHES, reason="this system has no recvmmsg")
def test_datagrams_that_came_alone_are_received_alone():
    """A batch of one tells that there is little to do, a larger one that there is more."""
    wire = Wire()
    port = Port(wire, EchoDatagrams())
    io = port.port._io
    assert io.prefer_single == batched.SINGLE_RUN
    for each in numbered(batched.SINGLE_RUN + 4):
        wire.arrive(each)
    port.read()
    assert io.prefer_single == 0
    wire.arrive(b"x")
    port.read()
    assert io.prefer_single == batched.SINGLE_RUN
    assert wire.came_back() == [*numbered(batched.SINGLE_RUN + 4), b"x"]
    wire.close()
