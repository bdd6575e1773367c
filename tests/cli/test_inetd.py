"""The end of a process that inetd has started for many peers."""

from types import SimpleNamespace

from twisted.internet.task import Clock

from netsrv.cli.inetd import IDLE_TIMEOUT, IdleStop
from netsrv.observers.counters import Counts


class Reactor(Clock):
    """A clock that can be stopped."""

    stopped = False

    def stop(self):
        """Remember that it was stopped."""
        self.stopped = True


def test_it_ends_when_no_peer_has_come_for_a_while():
    """A connection that is open, or a new peer since the last look, keeps it."""
    reactor, counts = Reactor(), Counts()
    counters = SimpleNamespace(listeners={"one": counts})
    server = SimpleNamespace(counters=counters, connections=1, running=True)
    IdleStop(reactor, server).look()
    reactor.advance(IDLE_TIMEOUT)
    server.connections = 0
    counts.datagrams_received = 1
    reactor.advance(IDLE_TIMEOUT)
    counts.accepted = 1
    reactor.advance(IDLE_TIMEOUT)
    assert not reactor.stopped
    reactor.advance(IDLE_TIMEOUT)
    assert reactor.stopped
    assert reactor.getDelayedCalls() == []


def test_a_server_that_ends_is_left_alone():
    """A signal has stopped the reactor already."""
    reactor = Reactor()
    server = SimpleNamespace(counters=SimpleNamespace(listeners={}), connections=0, running=True)
    IdleStop(reactor, server).look()
    server.running = False
    reactor.advance(IDLE_TIMEOUT)
    assert not reactor.stopped
