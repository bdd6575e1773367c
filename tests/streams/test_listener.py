"""The datagram listener, when its socket dies; the stream listener, when it ends."""

import errno
import socket

import pytest
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.logger import globalLogPublisher
from zope.interface import implementer

from netsrv.datagrams.listener import AGAIN, DatagramListener
from netsrv.gate import Gate
from netsrv.guards.access import Access
from netsrv.guards.admission import Admission
from netsrv.guards.capacity import ConnectionSlots
from netsrv.guards.datagrams import DatagramGuard
from netsrv.guards.limits import Limits
from netsrv.sockets.steps import AddressUnavailable
from netsrv.streams.listener import StreamListener
from netsrv.uvreactor.interfaces import IStreamAcceptor
from tests.datagrams.test_port import Socket
from tests.doubles import ReactorClock
from tests.test_gate import Observer


class Reopened:
    """A started listener; *script* is what its reopening gives: sockets, or reasons why not."""

    def __init__(self, sock, *script):
        self.reactor = ReactorClock()
        self.script = list(script)
        self.tries = []
        gate = Gate(
            self.reactor,
            "udp 127.0.0.1:7 (test)",
            Observer(),
            Admission(Limits(), ConnectionSlots(), 0),
            now=self.reactor.seconds,
        )
        guard = DatagramGuard(Access(), frozenset(), frozenset(), None)
        service = DatagramProtocol()
        service.noisy = False
        self.listener = DatagramListener(self.reactor, sock, gate, service, guard, self.reopen)
        self.listener.start()

    def reopen(self):
        """Open it, as the script says."""
        self.tries.append(self.reactor.seconds())
        step = self.script.pop(0)
        if isinstance(step, str):
            raise AddressUnavailable(step)
        return step

    def read(self):
        """Receive what is there."""
        for each in list(self.reactor.readers):
            each.doRead()


@pytest.fixture
def lines():
    """The lines of the log."""
    seen = []

    def see(event):
        if event.get("log_namespace") == "netsrv.datagrams.listener.DatagramListener":
            seen.append(event["log_format"].format(**event).partition(": ")[2])

    globalLogPublisher.addObserver(see)
    yield seen
    globalLogPublisher.removeObserver(see)


def test_f38_a_dead_socket_is_tried_every_second_until_it_works(lines):
    """One line when it dies, one for each new reason why not, one when it is back."""
    new = Socket(b"next")
    reopened = Reopened(Socket(errno.EBADF), "no", "no", "never", new)
    reopened.read()
    for _ in range(40):
        reopened.reactor.advance(AGAIN / 8)
    assert reopened.tries == [AGAIN / 8, AGAIN * 9 / 8, AGAIN * 17 / 8, AGAIN * 25 / 8]
    assert lines == [
        "the socket failed: Bad file descriptor; it is opened again",
        "cannot be opened again: no; tried every second",
        "cannot be opened again: never; tried every second",
        "the socket is open again",
    ]
    reopened.read()
    assert new.script == []


def test_f38_a_socket_that_dies_at_once_is_not_opened_in_a_loop(lines):
    """There is a second between two tries, also if the first one worked."""
    reopened = Reopened(Socket(errno.EBADF), Socket(errno.EBADF), Socket(errno.EBADF), Socket())
    for _ in range(25):
        reopened.read()
        reopened.reactor.advance(AGAIN / 8)
    assert reopened.tries == [AGAIN / 8, AGAIN * 9 / 8, AGAIN * 17 / 8]
    assert lines.count("the socket is open again") == 3


def test_f38_a_listener_that_ends_tries_no_more():
    """Nothing is left behind of a socket that could not be opened again."""
    reopened = Reopened(Socket(errno.EBADF), "no")
    reopened.read()
    reopened.reactor.advance(AGAIN)
    reopened.listener.suspend()
    reopened.listener.finish()
    assert reopened.reactor.getDelayedCalls() == []


@implementer(IStreamAcceptor)
class Acceptor(ReactorClock):
    """A reactor that has accepted somebody who is on the way; and its own accept loop."""

    pending = True
    accepting = False

    def acceptStreams(self, *_arguments):
        return self

    def drain(self):
        """Nobody else waits."""


def test_f81_a_listener_that_ends_waits_for_who_is_on_the_way():
    """It is not empty before the next turn of the reactor, and leaves no timer."""
    reactor = Acceptor()
    admission = Admission(Limits(), ConnectionSlots(), 0)
    gate = Gate(reactor, "tcp 127.0.0.1:7 (test)", Observer(), admission, now=reactor.seconds)
    factory = Factory()
    factory.noisy = False
    with socket.socket() as sock:
        listener = StreamListener(reactor, sock, gate, factory)
        factory.doStart()
        listener.finish()
    emptied = []
    gate.when_empty().addCallback(emptied.append)
    assert (emptied, gate.occupied) == ([], True)
    reactor.advance(0)
    assert (emptied, gate.occupied) == ([None], False)
    assert reactor.getDelayedCalls() == []
