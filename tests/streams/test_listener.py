"""The stream listener: when it is paused at a limit, and when it ends."""

import socket

import pytest
from twisted.internet.protocol import Factory
from zope.interface import implementer

from netsrv.gate import Gate
from netsrv.guards.admission import Admission
from netsrv.guards.capacity import ConnectionSlots
from netsrv.guards.limits import Limits
from netsrv.guards.rates import Rate
from netsrv.streams.listener import StreamListener
from netsrv.uvreactor.interfaces import IStreamAcceptor
from tests.doubles import TCP_INFO, ReactorClock, RecordingObserver
from tests.streams.staging import LineStage, StagedListener


@implementer(IStreamAcceptor)
class Acceptor(ReactorClock):
    """A reactor with a pending connection; it is its own acceptor."""

    pending = True
    accepting = False

    listener_failed = None

    def acceptStreams(self, _sock, _serve, _accept_failed, listener_failed, _may_accept):
        self.listener_failed = listener_failed
        return self

    def drain(self):
        """Do nothing: the backlog is empty."""


def test_f81_a_listener_that_ends_waits_for_a_pending_connection():
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


@pytest.mark.parametrize(
    "change",
    [
        StreamListener.resume,
        lambda listener: listener.set_last_stage(LineStage()),
    ],
)
def test_a_listener_that_waits_for_its_rate_has_one_timer(change):
    """Also if it is resumed meanwhile, or gets its first stage."""
    served = StagedListener(limits=Limits(connection_rate=Rate(0.1, 1)))
    served.connect().reset()
    served.reactor.settle()
    served.connect()
    change(served.listener)
    served.reactor.settle()
    assert served.listener.limit_reached == "connection_rate"
    served.listener.drain()
    assert served.gate.drained
    assert served.clock.getDelayedCalls() == []


def test_a_listener_whose_socket_has_failed_takes_no_part_any_more():
    """Other processes that accept from the socket would leave it connections."""
    reactor = Acceptor()
    gate = Gate(reactor, TCP_INFO, RecordingObserver(), Admission(Limits(), ConnectionSlots(), 0))
    told = []

    class Share:
        def leave(self):
            told.append("left")

    with socket.socket() as sock:
        listener = StreamListener(reactor, sock, gate, Factory(), share=Share())
        reactor.listener_failed(OSError(9, "Bad file descriptor"))
        assert listener.failed
    assert told == ["left"]
