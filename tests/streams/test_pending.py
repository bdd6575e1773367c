"""Connections whose service has not begun: stages, in memory."""

import pytest
from twisted.internet.protocol import Factory, Protocol

from netsrv.guards.limits import Limits, Overload
from netsrv.interfaces import CloseReason
from netsrv.services.daytime import DaytimeService
from netsrv.services.echo import EchoService
from tests.streams.staging import LineStage, StagedListener


class Pauser(Protocol):
    """Pauses as soon as it is connected."""

    def __init__(self):
        self.events = []

    def connectionMade(self):
        self.transport.pauseProducing()

    def dataReceived(self, data):
        self.events.append(data)

    def connectionLost(self, reason):
        self.events.append(reason.type.__name__)


class PauserFactory(Factory):
    """Builds pausers, and keeps them."""

    noisy = False

    def __init__(self):
        self.protocols = []

    def buildProtocol(self, addr):
        self.protocols.append(Pauser())
        return self.protocols[-1]


def test_a_service_begins_after_the_stage_with_the_bytes_that_are_left():
    """The service knows nothing of a connection before, and then gets what is left, at once."""
    served = StagedListener(LineStage())
    client = served.connect(b"g", b"o")
    assert (served.events, dict(served.gate.pending), served.slots) == ([], {"proxy": 1}, 1)
    client.send(b"\nhello")
    assert served.events == [["made", b"hello"]]
    assert (dict(served.gate.pending), served.slots, len(served.gate.connections)) == ({}, 1, 1)
    client.send(b" again")
    client.close()
    assert served.events == [["made", b"hello", b" again", "read lost"]]


def test_two_stages_share_a_segment():
    """What is left after one stage belongs to the next, and then to the service."""
    stages = LineStage("proxy"), LineStage("tls")
    served = StagedListener(*stages)
    served.connect(b"go\ngo\nhello")
    served.connect(b"go\ng")
    assert served.events == [["made", b"hello"]]
    assert dict(served.gate.pending) == {"tls": 1}
    assert stages[0].started == stages[1].started  # the same pending connections


def test_each_stage_has_its_time_limit():
    """A connection is closed when its stage takes too long; the next stage has its own."""
    served = StagedListener(LineStage("proxy"), LineStage("tls"))
    client = served.connect()
    served.reactor.advance(4)
    client.send(b"go\n")
    served.reactor.advance(4.9)
    assert client.close_kind is None
    served.reactor.advance(0.2)
    assert client.close_kind == "closed"
    assert (served.refused, served.slots) == (["proxy_timeout"], 0)
    assert served.events == []


def test_peers_that_stall_are_freed_on_time():
    """All slots are free again after the time limit, and no timer is left."""
    served = StagedListener(LineStage())
    for _ in range(100):
        served.connect(b"g")
    assert served.slots == 100
    served.reactor.advance(5.1)
    assert (served.slots, dict(served.gate.pending)) == (0, {})
    served.listener.drain()
    assert served.clock.getDelayedCalls() == []


@pytest.mark.parametrize("leave", ["close", "end", "reset"])
def test_a_peer_that_leaves_before_is_rejected_once(leave):
    """Its slot is free, and one rejection is reported, however the peer leaves."""
    served = StagedListener(LineStage())
    client = served.connect(b"g")
    getattr(client, leave)()
    served.reactor.settle()
    assert (served.refused, served.slots) == (["proxy_header"], 0)
    assert served.events == []


def test_a_stage_may_say_why_it_rejects():
    """What it has written is sent before the close, and what the peer sends later is dropped."""
    served = StagedListener(LineStage())
    client = served.connect(b"no\n", keep_open=True)
    assert (client.received, client.close_kind) == (b"bad line\n", "closed")
    assert (served.refused, served.slots) == (["proxy_header"], 0)


def test_a_rejected_peer_that_does_not_read_is_aborted():
    """After the close grace its slot is free."""
    served = StagedListener(stage := LineStage())
    client = served.connect()
    client.pause()
    [connection] = stage.started
    connection.transport.write(bytes(1_000_000))
    client.send(b"no\n")
    served.reactor.advance(5.1)
    assert (served.slots, served.refused) == (0, ["proxy_header"])


def test_a_service_that_pauses_gets_the_bytes_when_it_resumes():
    """They come after `resumeProducing` has returned, in order, and FIN after them."""
    served = StagedListener(LineStage(), factory=PauserFactory())
    client = served.connect(b"go\nhello", keep_open=True)
    client.send(b" world")
    client.end()
    [protocol] = served.factory.protocols
    assert served.events == [[]]
    protocol.transport.resumeProducing()
    assert protocol.events == []
    assert served.events == [[b"hello", b" world", "ConnectionDone"]]


def test_a_half_close_that_comes_with_the_bytes_waits_for_a_paused_service():
    """A reactor may report FIN although reading is paused; the bytes come first."""
    served = StagedListener(stage := LineStage(), factory=PauserFactory())
    served.connect(b"go\nhello")
    [pending] = stage.started
    [protocol] = served.factory.protocols
    pending.transport.protocol.readConnectionLost()
    assert served.events == [[]]
    protocol.transport.resumeProducing()
    assert served.events == [[b"hello", "ConnectionDone"]]


def test_a_half_close_after_resume_waits_for_the_bytes():
    """They are delivered in the next turn; the service gets them before its end."""
    served = StagedListener(stage := LineStage(), factory=PauserFactory())
    served.connect(b"go\nhello")
    [pending] = stage.started
    [protocol] = served.factory.protocols
    protocol.transport.resumeProducing()
    pending.transport.protocol.readConnectionLost()
    served.reactor.settle()
    assert served.events == [[b"hello", "ConnectionDone"]]


def test_a_paused_service_that_closes_does_not_wait_for_its_bytes():
    """The connection is over with the half-close of the peer, without a linger."""
    served = StagedListener(LineStage(), factory=PauserFactory())
    client = served.connect(b"go\nhello", keep_open=True)
    [protocol] = served.factory.protocols
    protocol.transport.write(b"busy")
    protocol.transport.loseConnection()
    served.reactor.settle()
    assert (client.received, served.slots) == (b"busy", 1)
    client.end()
    assert (served.events, served.slots) == ([["ConnectionDone"]], 0)


def test_echo_returns_the_bytes_that_are_left_first():
    """Echo on a listener with stages returns every byte, in order, and ends with its peer."""
    factory = EchoService().stream(None)
    factory.protocols = []
    served = StagedListener(LineStage(), factory=factory)
    client = served.connect(b"go\nhello", keep_open=True)
    client.send(b" world")
    client.end()
    assert (client.received, client.close_kind) == (b"hello world", "closed")


def test_a_message_service_waits_for_its_stages():
    """Its message is not sent in the accept loop."""
    served = StagedListener(LineStage(), factory=DaytimeService().stream(None))
    client = served.connect(b"g")
    assert client.received == b""
    client.send(b"o\n")
    assert client.received.endswith(b"-UTC\r\n")


def test_pending_connections_take_slots():
    """They count against max_connections; under close, the next one is closed."""
    limits = Limits(max_connections=1, overload=Overload.CLOSE)
    served = StagedListener(LineStage(), limits=limits)
    first, second = served.connect(), served.connect()
    assert (first.close_kind, second.close_kind) == (None, "closed")
    first.reset()
    assert served.connect().close_kind is None


def test_a_service_that_builds_no_protocol_ends_the_connection():
    """Its slot is free, and the peer sees a close."""
    factory = Factory()
    factory.noisy = False
    factory.buildProtocol = lambda addr: None
    served = StagedListener(LineStage(), factory=factory)
    assert served.connect(b"go\n").close_kind == "closed"
    assert (served.slots, served.refused) == (0, [])


def test_f81_a_drain_waits_for_pending_connections():
    """The gate is drained when the last of them has ended, also if it was served meanwhile."""
    served = StagedListener(LineStage())
    first, second = served.connect(), served.connect()
    served.listener.drain()
    drained = []
    served.gate.when_drained().addCallback(drained.append)
    first.reset()
    second.send(b"go\n")
    assert (served.events, drained, served.gate.drained) == ([["made"]], [], False)
    second.reset()
    served.reactor.settle()
    assert (drained, served.gate.drained) == ([None], True)
    assert served.clock.getDelayedCalls() == []


def test_f81_a_drain_aborts_pending_connections():
    """`abort_all` counts and resets them; they are drained then."""
    served = StagedListener(LineStage())
    client = served.connect()
    served.listener.drain()
    assert (served.gate.open_connections, served.gate.abort_all(), served.gate.abort_all()) == (
        1,
        1,
        0,
    )
    assert (client.close_kind, served.slots) == ("reset", 0)
    assert served.gate.drained
    assert served.refused == []


def test_a_transport_that_raises_is_given_up():
    """A pending connection whose transport fails at the abort frees its slot."""
    served = StagedListener(stage := LineStage())
    served.connect()
    [connection] = stage.started

    def fail():
        raise RuntimeError

    connection.transport.abortConnection = fail
    served.listener.drain()
    served.gate.abort_all()
    assert (served.slots, served.gate.drained) == (0, True)
    assert [event[0] for event in served.observer.told].count("transport_failed") == 1


def test_functions_at_the_end_are_called_once():
    """They are called at the end of a connection, served or not."""
    served = StagedListener(stage := LineStage())
    served_one, rejected = served.connect(), served.connect()
    ended = []
    for index, connection in enumerate(stage.started):
        connection.at_end(lambda index=index: ended.append(index))
    rejected.send(b"no\n")
    assert ended == [1]
    served_one.send(b"go\n")
    assert ended == [1]
    served_one.reset()
    served.reactor.settle()
    assert ended == [1, 0]


def test_other_stages_hold_for_new_connections():
    """A pending connection keeps its stage, also if the listener ceases to have stages."""
    served = StagedListener(old := LineStage("old"))
    client = served.connect()
    new = LineStage("new")
    served.listener.set_stages((new,))
    served.connect()
    assert (len(old.started), len(new.started)) == (1, 1)
    assert dict(served.gate.pending) == {"old": 1, "new": 1}
    client.send(b"go\n")
    assert served.events == [["made"]]
    served.listener.set_stages(())
    served.connect()
    assert served.events == [["made"], ["made"]]


def test_the_idle_time_counts_from_the_accept():
    """The limits of a connection hold as on any listener once it is served."""
    served = StagedListener(LineStage(), limits=Limits(idle_timeout=10))
    client = served.connect(b"go\n")
    served.reactor.advance(11.1)
    assert client.close_kind == "closed"
    [closed] = [event for event in served.observer.told if event[0] == "connection_closed"]
    assert closed[2].close_reason is CloseReason.IDLE_TIMEOUT
