"""The datagram port, with every error that a socket may raise."""

import errno
import socket

import pytest
from twisted.internet.error import InvalidAddressError
from twisted.internet.interfaces import IListeningPort, IMulticastTransport, ISystemHandle
from twisted.internet.protocol import DatagramProtocol
from zope.interface.verify import verifyObject

from netsrv.datagrams.batch import BATCH_SIZE
from netsrv.datagrams.port import DEAD, EARLIER_SEND, RETRY_DELAY, DatagramPort
from netsrv.interfaces import DropReason
from tests.doubles import PEER, ReactorClock, ScriptedDatagramSocket


class Echo(DatagramProtocol):
    """Echoes and records datagrams; raises at ``raise``, and stops the port at ``stop``."""

    noisy = False

    def __init__(self):
        self.received = []
        self.refused = 0

    def datagramReceived(self, datagram, addr):
        self.received.append((datagram, addr))
        if datagram == b"raise":
            raise RuntimeError("raised on purpose")
        if datagram == b"stop":
            self.transport.stopListening()
            return
        self.transport.write(datagram, addr)

    def connectionRefused(self):
        self.refused += 1


class Port:
    """A started port, which records its callbacks."""

    def __init__(self, *script, on_dead_socket=None, **options):
        self.reactor = ReactorClock()
        self.sock = ScriptedDatagramSocket(*script, **options)
        self.dropped, self.exceptions = [], []
        self.protocol = Echo()
        self.port = DatagramPort(
            self.reactor,
            self.sock,
            self.protocol,
            self.drop,
            lambda: self.exceptions.append(1),
            on_dead_socket=on_dead_socket,
        )
        self.port.startListening()

    def drop(self, reason, error):
        """Record a drop: its reason, and the name of the error if there was one."""
        self.dropped.append((reason, errno.errorcode[error.errno]) if error else reason)

    @property
    def watching(self):
        """True if the reactor watches the socket."""
        return self.port in self.reactor.readers


def test_each_datagram_goes_to_the_protocol_and_back():
    """Datagrams keep their boundaries, and empty ones count."""
    port = Port(b"a", b"", b"bc")
    port.port.doRead()
    assert port.sock.sent == [(b"a", PEER), (b"", PEER), (b"bc", PEER)]


def test_others_get_their_turn_under_a_flood_of_empty_datagrams():
    """F26: at most `BATCH_SIZE`, empty or not, are served in one turn of the reactor."""
    port = Port(*[b""] * (BATCH_SIZE + 5))
    port.port.doRead()
    assert len(port.protocol.received) == BATCH_SIZE
    port.port.doRead()
    assert len(port.protocol.received) == BATCH_SIZE + 5


def test_a_truncated_datagram_is_dropped_and_counted():
    """F28: a datagram that is longer than the buffer is not served in part."""
    port = Port(b"x" * 10, flags=socket.MSG_TRUNC)
    port.port.doRead()
    assert (port.protocol.received, port.dropped) == ([], [DropReason.TOO_LONG])


def test_a_protocol_that_raises_gets_the_next_datagram():
    """F40: an exception concerns one datagram."""
    port = Port(b"raise", b"next")
    port.port.doRead()
    assert port.exceptions == [1]
    assert port.sock.sent == [(b"next", PEER)]


@pytest.mark.parametrize("number", sorted(EARLIER_SEND), ids=errno.errorcode.get)
def test_a_late_error_of_an_earlier_send_is_counted(number):
    """F37: after an error that came from the network, the same turn receives on."""
    port = Port(number, b"next")
    port.port.doRead()
    assert port.dropped == [(DropReason.RECEIVE_ERROR, errno.errorcode[number])]
    assert port.sock.sent == [(b"next", PEER)]


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EIO, errno.EBADF, errno.EFAULT])
def test_any_other_error_pauses_and_the_port_stays_open(number):
    """F38: no error closes the port, or makes it spin."""
    port = Port(number, b"next")
    port.port.doRead()
    assert (port.dropped, port.watching) == (
        [(DropReason.RECEIVE_ERROR, errno.errorcode[number])],
        False,
    )
    port.reactor.advance(RETRY_DELAY)
    assert port.watching
    port.port.doRead()
    assert port.sock.sent == [(b"next", PEER)]


@pytest.mark.parametrize("number", sorted(DEAD), ids=errno.errorcode.get)
def test_f38_a_dead_socket_is_abandoned_and_replaced(number):
    """The port waits without it, and goes on with the next one."""
    errors = []
    port = Port(number, b"never", on_dead_socket=errors.append)
    port.port.doRead()
    assert port.dropped == [(DropReason.RECEIVE_ERROR, errno.errorcode[number])]
    assert [error.errno for error in errors] == [number]
    assert (port.sock.open, port.watching) == (False, False)
    for call in (port.port.suspend, port.port.resume, port.port.doRead):
        call()
    assert (port.watching, port.protocol.received, port.reactor.getDelayedCalls()) == (
        False,
        [],
        [],
    )
    new = ScriptedDatagramSocket(b"next")
    port.port.replace_socket(new)
    assert port.watching
    port.port.doRead()
    assert new.sent == [(b"next", PEER)]


def test_f38_a_stopped_port_takes_no_new_socket():
    """A new socket that comes too late is closed."""
    port = Port(errno.EBADF, on_dead_socket=lambda error: None)
    port.port.doRead()
    port.port.stopListening()
    late = ScriptedDatagramSocket(b"never")
    port.port.replace_socket(late)
    assert (late.open, port.watching) == (False, False)


@pytest.mark.parametrize(
    "name", ["EAGAIN", "ENOBUFS", "EPERM", "ENETUNREACH", "EINVAL", "EMSGSIZE", "ECONNREFUSED"]
)
def test_a_packet_that_cannot_be_sent_is_dropped_and_counted(name):
    """F39: the packet is not queued, and no error is raised into the protocol."""
    port = Port(b"a", b"b", sending=getattr(errno, name))
    port.port.doRead()
    assert port.dropped == [(DropReason.SEND_ERROR, name)] * 2
    assert (port.exceptions, port.watching) == ([], True)


def test_a_name_is_not_looked_up():
    """A host name raises: to wait for a name server would block the reactor."""
    port = Port()
    with pytest.raises(InvalidAddressError):
        port.port.write(b"x", ("localhost", 7))
    with pytest.raises(InvalidAddressError):
        port.port.connect("localhost", 7)
    with pytest.raises(InvalidAddressError):
        port.port.write(b"x")
    assert port.sock.sent == []


def test_a_connected_port_sends_to_its_peer_and_reports_refusals():
    """No address is needed after `connect`, and an ICMP refusal reaches the protocol."""
    port = Port(errno.ECONNREFUSED)
    port.port.connect(*PEER)
    port.port.writeSequence([b"a", b"b"])
    assert port.sock.sent == [(b"ab", None)]
    port.port.doRead()
    port.sock.sending = errno.ECONNREFUSED
    port.port.write(b"c")
    assert port.protocol.refused == 2
    with pytest.raises(RuntimeError, match="already connected"):
        port.port.connect(*PEER)


def test_a_protocol_may_stop_its_port_while_it_is_served():
    """After `stopListening` no datagram is received, and the socket is closed."""
    port = Port(b"stop", b"never")
    port.port.doRead()
    assert [data for data, _ in port.protocol.received] == [b"stop"]
    assert (port.watching, port.sock.open) == (False, False)
    port.port.stopListening()


def test_stopping_during_a_pause_leaves_no_timer():
    """A suspended port does not resume by itself."""
    port = Port(errno.ENOMEM)
    port.port.doRead()
    port.port.suspend()
    assert port.reactor.getDelayedCalls() == []


def test_a_stopped_port_receives_nothing():
    """A last turn of the reactor at a stopped port has no effect, and leaves no timer."""
    port = Port(b"never")
    port.port.stopListening()
    port.port.doRead()
    assert port.protocol.received == []
    assert (port.dropped, port.reactor.getDelayedCalls()) == ([], [])


def test_an_error_that_waits_in_the_socket_is_collected():
    """F37: epoll reports it like a lost connection; the port collects it and goes on."""
    port = Port(errno.ECONNREFUSED, b"next")
    port.port.connect(*PEER)
    port.reactor.running = True
    port.reactor.removeReader(port.port)
    port.port.connectionLost(None)
    assert (port.protocol.refused, port.watching) == (1, True)
    assert [data for data, _ in port.protocol.received] == [b"next"]


def test_a_link_local_peer_keeps_its_scope():
    """F41: a reply to the address goes over the interface of the request."""
    port = Port(b"x", peer=("fe80::1", 40000, 0, 2))
    port.port.doRead()
    assert port.sock.sent == [(b"x", ("fe80::1", 40000, 0, 2))]


def test_the_port_provides_twisteds_interfaces_whole():
    """Every method has the parameters of its interface."""
    port = Port().port
    for interface in (IListeningPort, IMulticastTransport, ISystemHandle):
        assert verifyObject(interface, port)
