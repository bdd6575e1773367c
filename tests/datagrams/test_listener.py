"""The datagram listener, when its socket dies."""

import errno

from twisted.internet.protocol import DatagramProtocol

from netsrv.datagrams.listener import REOPEN_INTERVAL, DatagramListener
from netsrv.gate import Gate
from netsrv.guards.access import Access
from netsrv.guards.admission import Admission
from netsrv.guards.capacity import ConnectionSlots
from netsrv.guards.datagrams import DatagramGuard
from netsrv.guards.limits import Limits
from netsrv.sockets.steps import AddressUnavailable
from tests.doubles import UDP_INFO, ReactorClock, RecordingObserver, ScriptedDatagramSocket


class Reopening:
    """A started listener; its *script* has the results of reopening: sockets, or error texts."""

    def __init__(self, sock, *script):
        self.reactor = ReactorClock()
        self.script = list(script)
        self.attempts = []
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
        """Return the next socket of the script, or raise its error."""
        self.attempts.append(self.reactor.seconds())
        step = self.script.pop(0)
        if isinstance(step, str):
            raise AddressUnavailable(step)
        return step

    @property
    def events(self):
        """The events of the listener itself: names and details."""
        events = [(name, *details) for name, info, *details in self.observer.told]
        return [event for event in events if event[0].startswith("listener_")]

    def read(self):
        """Run one turn of the reactor at each reader."""
        for reader in list(self.reactor.readers):
            reader.doRead()


def dead():
    """Return a socket that is dead at its first use."""
    return ScriptedDatagramSocket(errno.EBADF)


def times(count):
    """Return the times of so many attempts; the first one comes in the next turn."""
    return [REOPEN_INTERVAL * (1 / 8 + number) for number in range(count)]


def test_f38_a_dead_socket_is_reopened_every_second_until_it_works():
    """There is an event for its death, for each new reason against reopening, and at the end."""
    new = ScriptedDatagramSocket(b"next")
    reopening = Reopening(dead(), "no", "no", "never", new)
    reopening.read()
    for _ in range(40):
        reopening.reactor.advance(REOPEN_INTERVAL / 8)
    assert reopening.attempts == times(4)
    (failed, error, is_reopened), *events = reopening.events
    assert (failed, error.errno, is_reopened) == ("listener_failed", errno.EBADF, True)
    assert events == [
        ("listener_reopen_failed", "no"),
        ("listener_reopen_failed", "never"),
        ("listener_reopened",),
    ]
    assert {info for _name, info, *_details in reopening.observer.told} == {UDP_INFO}
    reopening.read()
    assert new.script == []


def test_f38_a_socket_that_keeps_dying_is_reopened_once_a_second():
    """There is a second between two attempts, also if the first one succeeded."""
    reopening = Reopening(dead(), dead(), dead(), ScriptedDatagramSocket())
    for _ in range(25):
        reopening.read()
        reopening.reactor.advance(REOPEN_INTERVAL / 8)
    assert reopening.attempts == times(3)
    assert reopening.events.count(("listener_reopened",)) == 3


def test_f38_a_listener_that_ends_does_not_reopen():
    """No timer is left for a socket that could not be reopened."""
    reopening = Reopening(dead(), "no")
    reopening.read()
    reopening.reactor.advance(REOPEN_INTERVAL)
    reopening.listener.suspend()
    reopening.listener.drain()
    assert reopening.reactor.getDelayedCalls() == []
