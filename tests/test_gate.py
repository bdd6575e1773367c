"""The gate, with a transport that records its calls."""

import gc

import pytest
from twisted.internet.interfaces import IPushProducer, ITCPTransport
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.internet.task import Clock

from netsrv.datagrams.gate import DatagramGate
from netsrv.datagrams.port import DatagramPort
from netsrv.gate import LINGER_TIMEOUT, Gate
from netsrv.guards.access import Access, parse_network
from netsrv.guards.admission import Admission
from netsrv.guards.capacity import ConnectionSlots
from netsrv.guards.datagrams import DatagramGuard
from netsrv.guards.limits import Limits
from netsrv.interfaces import CloseReason, RejectReason
from netsrv.streams.factory import GatedFactory
from netsrv.testing.memory import DatagramSocket, MemoryReactor
from tests.doubles import (
    DONE,
    PEER,
    TCP_INFO,
    UDP_INFO,
    Gated,
    HalfCloseableRecorder,
    Recorder,
    RecordingObserver,
    RecordingTransport,
)


class Producer:
    """Records whether it was stopped."""

    stopped = False

    def stopProducing(self):
        self.stopped = True


def test_bytes_pass_both_ways_and_are_counted():
    """The service sees what the peer sends, the peer what the service writes."""
    gated = Gated()
    gated.connection.dataReceived(b"abc")
    gated.service.transport.write(b"de")
    gated.service.transport.writeSequence([b"f", b"g"])
    assert gated.service.events == ["made", b"abc"]
    assert gated.calls == [("write", b"de"), ("write", b"fg")]
    assert (gated.connection.received, gated.connection.sent) == (3, 4)
    assert [each[0] for each in gated.observer.told] == ["connection_made"]


def test_the_service_sees_a_tcp_transport():
    """A service finds the interfaces that it would find without a gate."""
    gated = Gated()
    for interface in (ITCPTransport, IPushProducer):
        assert interface.providedBy(gated.service.transport)
    gated.service.transport.setTcpNoDelay(True)
    assert gated.calls == [("setTcpNoDelay", True)]


def test_closing_without_a_byte_on_either_side_is_immediate():
    """A connection on which nothing can be lost is closed at once."""
    gated = Gated()
    gated.service.transport.loseConnection()
    gated.service.transport.loseConnection()
    assert gated.calls == [("loseConnection",)]
    assert gated.service.transport.disconnecting


def test_closing_after_the_service_has_spoken_lingers():
    """F5b: after our last byte FIN is sent; reading goes on for `LINGER_TIMEOUT` at most."""
    gated = Gated()
    gated.service.transport.write(b"reply")
    gated.service.transport.loseConnection()
    assert gated.calls[1:] == [("resumeProducing",), ("loseWriteConnection",)]
    gated.connection.dataReceived(b"late")
    gated.service.transport.pauseProducing()
    assert gated.service.events == ["made"]
    gated.clock.advance(LINGER_TIMEOUT * 2)  # FIN is not sent yet: the peer reads slowly
    gated.connection.writeConnectionLost()
    gated.clock.advance(LINGER_TIMEOUT - 0.1)
    assert len(gated.calls) == 3
    gated.clock.advance(0.1)
    assert gated.calls[3:] == [("loseConnection",)]
    gated.connection.connectionLost(DONE)
    gated.gate.close()
    assert gated.clock.getDelayedCalls() == []


def test_lingering_ends_when_the_peer_ends():
    """A peer that answers our FIN with its own has everything: no timer is left."""
    gated = Gated()
    gated.service.transport.write(b"reply")
    gated.service.transport.loseConnection()
    gated.connection.writeConnectionLost()
    gated.connection.readConnectionLost()
    assert gated.calls[-1] == ("loseConnection",)
    gated.connection.connectionLost(DONE)
    assert gated.service.events == ["made", "ConnectionDone"]
    gated.gate.close()
    assert gated.clock.getDelayedCalls() == []


def test_one_timer_serves_all_lingering_connections():
    """Each is closed in its own time."""
    gated = Gated()
    others = [Gated(beside=gated) for _ in range(2)]
    for each in (gated, *others):
        each.service.transport.write(b"reply")
        each.service.transport.loseConnection()
        each.connection.writeConnectionLost()
        gated.clock.advance(0.5)
    lingering = [each for each in gated.clock.getDelayedCalls() if "linger" in str(each.func)]
    assert len(lingering) == 1
    others[0].connection.connectionLost(DONE)
    gated.clock.advance(0.5)
    assert gated.calls[-1] == ("loseConnection",)
    assert others[1].calls[-1] == ("loseWriteConnection",)
    gated.connection.connectionLost(DONE)
    gated.clock.advance(1)
    assert others[1].calls[-1] == ("loseConnection",)
    others[1].connection.connectionLost(DONE)
    gated.gate.close()
    assert gated.clock.getDelayedCalls() == []


def test_a_service_that_knows_half_closed_connections_is_told():
    """The end of input and of output reach a service that asks for them."""
    gated = Gated(HalfCloseableRecorder)
    gated.connection.readConnectionLost()
    gated.service.transport.loseWriteConnection()
    gated.connection.writeConnectionLost()
    assert gated.service.events == ["made", "read lost", "write lost"]
    gated.service.transport.loseConnection()
    assert gated.calls == [("loseWriteConnection",), ("loseConnection",)]


def test_after_the_end_of_input_reading_is_not_taken_up_again():
    """A service that resumes reading does not see the same end twice."""
    gated = Gated(HalfCloseableRecorder)
    gated.connection.readConnectionLost()
    gated.service.transport.resumeProducing()
    assert gated.calls == []


def test_for_other_services_the_end_of_input_is_the_end():
    """Its producer is stopped, what was written goes out, and then it is told."""
    gated = Gated()
    producer = Producer()
    gated.service.transport.registerProducer(producer, True)
    gated.connection.readConnectionLost()
    assert producer.stopped
    assert gated.calls[1:] == [("unregisterProducer",), ("loseConnection",)]
    assert gated.service.events == ["made"]


def test_a_producer_that_cannot_stop_does_no_harm():
    """F83: the transport is lost all the same, and the service's exception told."""
    gated = Gated()
    producer = Producer()
    producer.stopProducing = raise_something
    gated.service.transport.registerProducer(producer, True)
    wrapped = gated.calls[0][1]
    wrapped.stopProducing()
    assert gated.observer.told[-1] == ("service_failed", gated.gate.listener_info, "stopProducing")


def test_a_peer_that_ends_does_not_cut_what_a_producer_still_sends():
    """After our close, the peer's end waits for the producer, as with any transport."""
    gated = Gated()
    producer = Producer()
    gated.service.transport.registerProducer(producer, False)
    gated.service.transport.write(b"a")
    gated.service.transport.loseConnection()
    gated.connection.readConnectionLost()
    assert not producer.stopped
    assert gated.calls[-1] == ("loseConnection",)


def test_a_service_may_unregister_its_producer_at_the_end():
    """Nothing is asked of a transport that is lost."""
    gated = Gated()
    gated.service.transport.registerProducer(Producer(), True)
    gated.service.transport.write(b"a")
    gated.service.transport.loseConnection()
    gated.connection.connectionLost(DONE)
    gated.service.transport.unregisterProducer()
    assert gated.calls[-1] == ("unregisterProducer",)


def test_a_half_close_and_then_a_close_linger_once():
    """FIN that the service has sent itself is not sent again."""
    gated = Gated(HalfCloseableRecorder)
    gated.service.transport.write(b"a")
    gated.service.transport.loseWriteConnection()
    gated.connection.writeConnectionLost()
    gated.service.transport.loseConnection()
    assert gated.calls[1:] == [("loseWriteConnection",), ("resumeProducing",)]
    gated.clock.advance(LINGER_TIMEOUT)
    assert gated.calls[-1] == ("loseConnection",)
    gated.connection.connectionLost(DONE)


def test_tls_closes_in_its_own_way():
    """A half-close would cut TLS off before its close_notify."""
    gated = Gated()
    gated.transport.TLS = True
    gated.service.transport.write(b"a")
    gated.service.transport.loseConnection()
    assert gated.calls[-1] == ("loseConnection",)


def test_data_that_a_service_cannot_take_ends_its_connection():
    """F21: dataReceived that raises is told to the observer, and the connection aborted."""
    gated = Gated(type("Raising", (Recorder,), {"dataReceived": raise_something}))
    gated.connection.dataReceived(b"x")
    assert gated.calls == [("abortConnection",)]
    assert gated.observer.told[-1] == ("service_failed", gated.gate.listener_info, "dataReceived")
    assert gated.gate.abort_all() == 0


def raise_something(*arguments):
    """Stand in for a method of a service that fails."""
    raise RuntimeError("as told")


def test_a_close_waits_for_the_producer():
    """What a registered producer still writes goes out before FIN, as with any transport."""
    gated = Gated()
    transport = gated.service.transport
    transport.registerProducer(Producer(), False)
    transport.write(b"a")
    transport.loseConnection()
    transport.write(b"b")
    transport.unregisterProducer()
    assert [each[0] for each in gated.calls] == [
        "registerProducer",
        "write",
        "resumeProducing",
        "loseWriteConnection",
        "write",
        "unregisterProducer",
        "loseWriteConnection",
    ]


def test_an_abort_is_an_abort():
    """A reset is passed on at once, and nothing more reaches the service but its end."""
    gated = Gated()
    gated.service.transport.abortConnection()
    gated.connection.dataReceived(b"late")
    gated.connection.connectionLost(DONE)
    assert gated.calls == [("abortConnection",)]
    assert gated.service.events == ["made", "ConnectionDone"]


def test_a_service_that_raises_at_the_start_loses_that_connection():
    """F20: connectionMade that raises is told to the observer, and the connection aborted."""
    gated = Gated(type("Raising", (Recorder,), {"connectionMade": raise_something}))
    assert gated.calls == [("abortConnection",)]
    assert gated.observer.told[-1] == ("service_failed", gated.gate.listener_info, "connectionMade")


@pytest.mark.parametrize(
    ("build", "told"), [(raise_something, ["buildProtocol"]), (lambda *arguments: None, [])]
)
def test_a_factory_without_a_protocol_loses_the_connection(build, told):
    """F19: a factory that raises or returns None costs that connection only."""
    gated = Gated(Recorder)
    gated.observer.told.clear()
    service = Factory()
    service.buildProtocol = build
    permit = gated.gate.admit(PEER)
    assert GatedFactory(permit, service).buildProtocol(None) is None
    assert gated.gate.admission.slots[0].in_use == 1
    assert [each[2] for each in gated.observer.told] == told


def test_the_gate_knows_when_it_is_empty():
    """`when_drained` fires when the last connection has gone, and at once if none is there."""
    gated = Gated()
    fired = []
    gated.gate.when_drained().addCallback(fired.append)
    gated.gate.close()
    assert fired == []
    assert gated.gate.abort_all() == 1
    gated.connection.connectionLost(DONE)
    gated.gate.when_drained().addCallback(fired.append)
    assert fired == [None, None]


def test_a_service_that_raises_at_the_end_is_counted_out_all_the_same():
    """F21: connectionLost that raises does not keep its slot in the gate."""
    gated = Gated(type("Raising", (Recorder,), {"connectionLost": raise_something}))
    gated.connection.connectionLost(DONE)
    assert len(gated.gate.connections) == 0
    assert gated.observer.told[-2] == ("service_failed", gated.gate.listener_info, "connectionLost")


def test_datagrams_are_told_and_handed_on():
    """A datagram's sender and size are told before the service has it."""
    admission = Admission(Limits(), ConnectionSlots(), 0)
    gate = Gate(Clock(), UDP_INFO, RecordingObserver(), admission)
    got = []

    class Answer(DatagramProtocol):
        def datagramReceived(self, datagram, addr):
            got.append((datagram, addr))

        def connectionRefused(self):
            got.append("refused")

    service = Answer()
    service.noisy = False
    gated = DatagramGate(gate, service, DatagramGuard(Access(), frozenset(), frozenset(), None))
    sock = DatagramSocket(("127.0.0.1", 7))
    port = DatagramPort(MemoryReactor(Clock()), sock, gated, lambda *_drop: None, lambda: None)
    port.startListening()
    sock.arrive(b"abc", ("192.0.2.1", 9))
    port.doRead()
    gated.connectionRefused()
    port.stopListening()
    assert got == [(b"abc", ("192.0.2.1", 9)), "refused"]
    [(event, listener, datagrams)] = gate.observer.told
    assert (event, listener) == ("datagrams_received", UDP_INFO)
    assert list(datagrams) == [(("192.0.2.1", 9), 3)]


def step(gated, seconds):
    """Let time go by, a tenth of a second at once."""
    for _ in range(round(seconds * 10)):
        gated.clock.advance(0.1)


def test_an_idle_connection_ends():
    """F8: when no byte has moved either way for so long, and not before."""
    gated = Gated(limits=Limits(idle_timeout=10))
    step(gated, 9)
    gated.connection.dataReceived(b"x")
    step(gated, 9)
    gated.service.transport.write(b"y")
    step(gated, 9)
    assert gated.connection.close_reason is None
    step(gated, 3)
    assert gated.connection.close_reason is CloseReason.IDLE_TIMEOUT
    assert gated.calls[-1] == ("loseWriteConnection",)


def test_a_lifetime_ends_whatever_happens():
    """F9: one byte every second does not help."""
    gated = Gated(limits=Limits(lifetime=10, idle_timeout=5))
    for _ in range(9):
        step(gated, 1)
        gated.connection.dataReceived(b"x")
    assert gated.connection.close_reason is None
    step(gated, 2.5)
    assert gated.connection.close_reason is CloseReason.LIFETIME


def test_a_peer_that_does_not_close_is_aborted_after_the_grace():
    """F2: a close by us is followed by an abort, whatever the peer does."""
    gated = Gated(limits=Limits(lifetime=10, close_grace=3))
    producer = Producer()
    gated.service.transport.registerProducer(producer, True)
    gated.service.transport.write(b"x")
    step(gated, 11)
    assert producer.stopped
    assert ("abortConnection",) not in gated.calls
    step(gated, 4)
    assert gated.connection.close_reason is CloseReason.LIFETIME
    assert gated.calls[-1] == ("abortConnection",)
    step(gated, 10)
    assert gated.calls.count(("abortConnection",)) == 1


def test_output_that_is_stuck_aborts():
    """F1: waiting output without progress for the write timeout, not a peer that reads slowly."""
    gated = Gated(limits=Limits(write_timeout=10))
    gated.service.transport.write(b"x" * 100)
    gated.transport.dataBuffer = b"x" * 100
    for offset in range(0, 50, 10):  # ten bytes every nine seconds
        gated.transport.offset = offset
        step(gated, 9)
    assert gated.connection.close_reason is None
    step(gated, 2.5)
    assert gated.connection.close_reason is CloseReason.WRITE_TIMEOUT
    assert gated.calls[-1] == ("abortConnection",)


def test_a_service_that_writes_on_does_not_hide_that_output_is_stuck():
    """What the service writes is no progress; what the peer takes is."""
    gated = Gated(limits=Limits(write_timeout=10))
    for size in range(1, 13):
        gated.service.transport.write(b"x")
        gated.transport._tempDataLen = size
        step(gated, 1)
    assert gated.connection.close_reason is CloseReason.WRITE_TIMEOUT


def test_a_close_by_the_service_has_its_grace_for_output_that_is_stuck():
    """F2: after loseConnection a peer that takes nothing is aborted, one that reads is not."""
    gated = Gated(limits=Limits(close_grace=3))
    gated.service.transport.write(b"x" * 100)
    gated.transport.dataBuffer = b"x" * 100
    gated.service.transport.loseConnection()
    for offset in (10, 20, 30):
        gated.transport.offset = offset
        step(gated, 2)
    assert gated.connection.close_reason is CloseReason.SERVICE
    step(gated, 4)
    assert gated.connection.close_reason is CloseReason.CLOSE_GRACE


@pytest.mark.parametrize("own", [True, False])
def test_a_connection_that_is_lost_leaves_no_circle(own):
    """It holds neither its service nor itself: the garbage collector has nothing to find."""
    gated = Gated()
    gated.service.producer = Producer()
    gated.service.transport.registerProducer(
        gated.service.transport if own else gated.service.producer, True
    )
    gated.connection.connectionLost(DONE)
    held = list(map(id, gc.get_referents(gated.connection)))
    for each in (gated.connection, gated.service):
        assert id(each) not in held
    assert gated.connection.protocol is not gated.service
    assert gated.connection._producer is None


def test_the_timer_of_time_limits_runs_only_while_there_are_connections():
    """There is one timer, and after the last connection it is not set again."""
    gated = Gated(limits=Limits(idle_timeout=1000))
    for _ in range(100):
        assert len(gated.clock.getDelayedCalls()) == 1
        gated.clock.advance(5)
    gated.connection.connectionLost(DONE)
    gated.clock.advance(125)
    assert gated.clock.getDelayedCalls() == []


def test_no_timer_is_set_for_a_limit_that_cannot_be_reached():
    """Without a limit for an open connection nothing looks at it until it is closed."""
    gated = Gated(limits=Limits(write_timeout=None))
    assert gated.clock.getDelayedCalls() == []
    gated.service.transport.write(b"x")
    gated.service.transport.loseConnection()
    assert len(gated.clock.getDelayedCalls()) == 1


@pytest.mark.parametrize("closed_first", [True, False])
def test_a_gate_that_is_closed_leaves_no_timer(closed_first):
    """Be it closed before the last connection has gone, or after."""
    gated = Gated()
    gated.service.transport.write(b"reply")
    gated.service.transport.loseConnection()
    gated.connection.writeConnectionLost()
    assert len(gated.clock.getDelayedCalls()) == 2
    for step in (gated.gate.close, lambda: gated.connection.connectionLost(DONE))[
        :: 1 if closed_first else -1
    ]:
        step()
    assert gated.clock.getDelayedCalls() == []


def two_step_gate(**limits):
    """Return a gate with one slot, and its observer."""
    observer, clock = RecordingObserver(), Clock()
    admission = Admission(Limits(max_connections=1, **limits), ConnectionSlots(), 0)
    return Gate(clock, TCP_INFO, observer, admission, now=clock.seconds), observer


def test_a_reservation_holds_a_slot_before_the_source_is_known():
    """The source counts once it is identified; the end of the connection frees both."""
    gate, _ = two_step_gate(per_source=1)
    permit = gate.reserve(("10.0.0.5", 1))
    assert gate.reserve(("10.0.0.5", 2)) is RejectReason.MAX_CONNECTIONS
    assert permit.identify(PEER) is None
    connection = GatedFactory(permit, Factory.forProtocol(Recorder)).buildProtocol(None)
    connection.makeConnection(RecordingTransport())
    assert connection.peer == "192.0.2.1:40000"
    permit.cancel()
    assert gate.admission.slots[0].in_use == 1
    connection.connectionLost(DONE)
    assert gate.admission.slots[0].in_use == 0
    assert not isinstance(gate.admit(PEER), RejectReason)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"no_access": (parse_network("192.0.2.0/24"),)}, RejectReason.ACCESS),
        ({"per_source": 0}, RejectReason.PER_SOURCE),
    ],
)
def test_a_source_that_is_rejected_later_gives_its_slot_back_once(limits, reason):
    """The rejection is reported with the peer's own address."""
    gate, observer = two_step_gate(**limits)
    permit = gate.reserve(("10.0.0.5", 1))
    assert permit.identify(PEER) is reason
    permit.cancel()
    assert gate.admission.slots[0].in_use == 0
    assert observer.told == [("connection_refused", TCP_INFO, "192.0.2.1:40000", reason)]


def test_a_connection_that_is_lost_during_a_look_is_not_tracked_again():
    """Closing one connection may end another one that is looked at in the same turn."""
    first = Gated(limits=Limits(lifetime=1))
    second = Gated(beside=first)
    for one, other in ((first, second), (second, first)):
        one.transport.loseConnection = lambda other=other: other.connection.connectionLost(DONE)
    first.clock.advance(1)
    assert len(first.gate.connections) == 1


@pytest.mark.parametrize("peer_first", [True, False])
def test_f128_a_connection_is_over_when_both_sides_are_closed(peer_first):
    """F128: the service has closed one half and the peer the other, in either order."""
    gated = Gated(HalfCloseableRecorder)
    gated.service.transport.loseWriteConnection()
    ends = [gated.connection.readConnectionLost, gated.connection.writeConnectionLost]
    for end in ends if peer_first else reversed(ends):
        assert gated.calls[-1] == ("loseWriteConnection",)
        end()
    assert gated.calls[-1] == ("loseConnection",)
    gated.connection.connectionLost(DONE)
    assert gated.connection.close_reason is CloseReason.PEER
    assert gated.gate.admission.slots[0].in_use == 0


def test_f130_a_lifetime_holds_for_a_connection_that_is_closing():
    """F130: a slow reader has the close grace from the end of the lifetime on, and no more."""
    gated = Gated(limits=Limits(lifetime=10, close_grace=3))
    gated.service.transport.write(b"x" * 1000)
    gated.transport.dataBuffer = b"x" * 1000
    gated.service.transport.loseConnection()
    for offset in range(1, 13):
        gated.transport.offset = offset  # progress each second
        step(gated, 1)
    assert ("abortConnection",) not in gated.calls
    gated.transport.offset = 20
    step(gated, 2)
    assert gated.calls[-1] == ("abortConnection",)
    assert gated.connection.close_reason is CloseReason.LIFETIME
