"""The stream listener, when it ends."""

import socket

from twisted.internet.protocol import Factory
from zope.interface import implementer

from netsrv.gate import Gate
from netsrv.guards.admission import Admission
from netsrv.guards.capacity import ConnectionSlots
from netsrv.guards.limits import Limits
from netsrv.streams.listener import StreamListener
from netsrv.uvreactor.interfaces import IStreamAcceptor
from tests.doubles import TCP_INFO, ReactorClock, RecordingObserver


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
