"""The datagram listener, when its socket fails; the stream listener, when it drains."""

import errno
import socket

from twisted.internet.protocol import DatagramProtocol, Factory
from zope.interface import implementer

from netsrv.datagrams.listener import REOPEN_INTERVAL, DatagramListener
from netsrv.gate import Gate
from netsrv.guards.access import Access
from netsrv.guards.admission import Admission
from netsrv.guards.capacity import ConnectionSlots
from netsrv.guards.datagrams import DatagramGuard
from netsrv.guards.limits import Limits
from netsrv.sockets.steps import AddressUnavailable
from netsrv.streams.listener import StreamListener
from netsrv.uvreactor.interfaces import IStreamAcceptor
from tests.doubles import (
    TCP_INFO,
    UDP_INFO,
    ReactorClock,
    RecordingObserver,
    ScriptedDatagramSocket,
)


class Reopened:
    """A started listener; *script* has the results of its reopening: sockets, or errors."""

    def __init__(self, sock, *script):
        self.reactor = ReactorClock()
        self.script = list(script)
        self.tries = []
        self.observer = RecordingObserver()
        gate = Gate(
            self.reactor,
            UDP_INFO,
            self.observer,
            Admission(Limits(), ConnectionSlots(), 0),
            now=self.reactor.seconds,
        )
        guard = DatagramGuard(Access(), frozenset(), frozenset(), None)
        service = DatagramProtocol()
        service.noisy = False
        self.listener = DatagramListener(self.reactor, sock, gate, service, guard, self.reopen)
        self.listener.start()

    def reopen(self):
        """Return the script's next socket, or raise its error."""
        self.tries.append(self.reactor.seconds())
        step = self.script.pop(0)
        if isinstance(step, str):
            raise AddressUnavailable(step)
        return step

    @property
    def events(self):
        """The events of the listener: names and details."""
        return [(name, *details) for name, info, *details in self.observer.told if info is UDP_INFO]

    def read(self):
        """Call the readers once."""
        for each in list(self.reactor.readers):
            each.doRead()


def test_f38_a_dead_socket_is_tried_every_second_until_it_works():
    """It logs one line at the failure, one for each new error, and one when it is open again."""
    new = ScriptedDatagramSocket(b"next")
    reopened = Reopened(ScriptedDatagramSocket(errno.EBADF), "no", "no", "never", new)
    reopened.read()
    for _ in range(40):
        reopened.reactor.advance(REOPEN_INTERVAL / 8)
    assert reopened.tries == [
        REOPEN_INTERVAL / 8,
        REOPEN_INTERVAL * 9 / 8,
        REOPEN_INTERVAL * 17 / 8,
        REOPEN_INTERVAL * 25 / 8,
    ]
    (failed, error, reopening), *events = [
        event for event in reopened.events if event[0].startswith("listener_")
    ]
    assert (failed, error.errno, reopening) == ("listener_failed", errno.EBADF, True)
    assert events == [
        ("listener_reopen_failed", "no"),
        ("listener_reopen_failed", "never"),
        ("listener_reopened",),
    ]
    reopened.read()
    assert new.script == []


def test_f38_a_socket_that_dies_at_once_is_not_opened_in_a_loop():
    """Two attempts are a second apart, even if the first succeeded."""
    reopened = Reopened(
        ScriptedDatagramSocket(errno.EBADF),
        ScriptedDatagramSocket(errno.EBADF),
        ScriptedDatagramSocket(errno.EBADF),
        ScriptedDatagramSocket(),
    )
    for _ in range(25):
        reopened.read()
        reopened.reactor.advance(REOPEN_INTERVAL / 8)
    assert reopened.tries == [
        REOPEN_INTERVAL / 8,
        REOPEN_INTERVAL * 9 / 8,
        REOPEN_INTERVAL * 17 / 8,
    ]
    assert reopened.events.count(("listener_reopened",)) == 3


def test_f38_a_listener_that_ends_tries_no_more():
    """A closed listener leaves no timer."""
    reopened = Reopened(ScriptedDatagramSocket(errno.EBADF), "no")
    reopened.read()
    reopened.reactor.advance(REOPEN_INTERVAL)
    reopened.listener.suspend()
    reopened.listener.drain()
    assert reopened.reactor.getDelayedCalls() == []


@implementer(IStreamAcceptor)
class Acceptor(ReactorClock):
    """A reactor with a connection accepted and not yet served, and its own acceptor."""

    pending = True
    accepting = False

    def acceptStreams(self, *_arguments):
        return self

    def drain(self):
        """The backlog is empty."""


def test_f81_a_drain_waits_for_a_pending_connection():
    """It is not empty before the next turn of the reactor, and leaves no timer."""
    reactor = Acceptor()
    admission = Admission(Limits(), ConnectionSlots(), 0)
    gate = Gate(reactor, TCP_INFO, RecordingObserver(), admission, now=reactor.seconds)
    factory = Factory()
    factory.noisy = False
    with socket.socket() as sock:
        listener = StreamListener(reactor, sock, gate, factory)
        factory.doStart()
        listener.drain()
    emptied = []
    gate.when_drained().addCallback(emptied.append)
    assert (emptied, gate.drained) == ([], False)
    reactor.advance(0)
    assert (emptied, gate.drained) == ([None], True)
    assert reactor.getDelayedCalls() == []
