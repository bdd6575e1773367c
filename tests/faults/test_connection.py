"""A connection with faults holds little, pauses its senders, and removes faults at any time."""

import pytest

from netsrv.faults.connection import MAX_HELD_BYTES
from tests.faults.lines import Line, make_fault

CHUNK = bytes(65536)


class Producer:
    """A producer that writes as long as it is not paused, or once when it is asked."""

    def __init__(self, connection, streaming):
        self.connection = connection
        self.paused = False
        self.written = 0
        connection.registerProducer(self, streaming)

    def pauseProducing(self):
        self.paused = True

    def resumeProducing(self):
        self.paused = False
        self.connection.write(CHUNK)
        self.written += len(CHUNK)

    def stopProducing(self):
        self.paused = True


class Registering:
    """Lets the transport take producers."""

    producer = None

    def registerProducer(self, producer, streaming):
        self.producer = producer

    def unregisterProducer(self):
        self.producer = None


@pytest.fixture
def line():
    """Return a connection whose data takes a second in both directions."""
    line = Line(make_fault("latency", "l", "both", latency=1000))
    registering = Registering()
    line.peer.registerProducer = registering.registerProducer
    line.peer.unregisterProducer = registering.unregisterProducer
    line.lower = registering
    return line


def test_reading_pauses_while_much_is_held_and_goes_on_after_it(line):
    """Reading pauses while much is held and goes on after it."""
    for _ in range(MAX_HELD_BYTES // len(CHUNK) + 1):
        line.connection.dataReceived(CHUNK)
    assert line.peer.events == [(0, "pause")]
    line.step(1100)
    assert line.peer.events[1:] == [(1000, "resume")]


def test_a_push_producer_pauses_while_much_is_held(line):
    """A push producer pauses while much is held."""
    producer = Producer(line.connection, True)
    while not producer.paused:
        producer.resumeProducing()
    assert MAX_HELD_BYTES < producer.written <= MAX_HELD_BYTES + len(CHUNK)
    assert line.connection.unsent == producer.written
    written = producer.written
    line.step(1001)
    assert not producer.paused or producer.written > written


def test_a_pull_producer_is_asked_until_much_is_held(line):
    """A pull producer is asked until much is held."""
    producer = Producer(line.connection, False)
    line.step(500)
    assert MAX_HELD_BYTES < producer.written <= MAX_HELD_BYTES + len(CHUNK)
    line.connection.unregisterProducer()
    assert line.lower.producer is None


def test_a_pull_producer_is_asked_no_more_once_the_connection_is_lost(line):
    """Nor is one that is registered then, which is stopped at once."""
    producer = Producer(line.connection, False)
    assert line.clock.getDelayedCalls()
    line.peer.abortConnection()
    assert not line.clock.getDelayedCalls()
    assert not producer.written
    late = Producer(line.connection, False)
    assert late.paused
    assert not line.clock.getDelayedCalls()


def test_what_is_written_after_the_loss_is_dropped(line):
    """It is not held, and starts no timer."""
    line.peer.abortConnection()
    line.connection.write(b"late")
    assert line.connection.unsent == 0
    assert not line.clock.getDelayedCalls()


def test_a_full_transport_pauses_the_producer(line):
    """A full transport pauses the producer."""
    producer = Producer(line.connection, True)
    line.lower.producer.pauseProducing()
    assert producer.paused
    line.lower.producer.resumeProducing()
    assert not producer.paused


@pytest.mark.parametrize(
    "kind",
    "latency bandwidth slow_close timeout reset_peer slicer limit_data limit_time stall".split(),
)
def test_a_fault_is_removed_at_once_while_much_is_held(kind):
    """No peer has to read for that."""
    values = {
        "latency": {"latency": 60_000},
        "bandwidth": {"rate": 1},
        "slicer": {"average_size": 10, "delay": 1_000_000},
        "limit_data": {"bytes": 10**9},
        "limit_time": {"time": 10**6},
        "slow_close": {"delay": 10**6},
        "reset_peer": {"timeout": 10**6},
    }
    fault = make_fault(kind, **values.get(kind, {}))
    line = Line(fault)
    line.connection.write(bytes(MAX_HELD_BYTES * 2))
    line.step(5)
    line.connection.remove(fault)
    ends = ("timeout", "reset_peer")
    assert len(line.peer.data) == (0 if kind in ends else MAX_HELD_BYTES * 2)
    assert line.connection.unsent == 0
    assert not line.clock.getDelayedCalls()


def test_what_comes_while_the_service_has_paused_waits_in_order(line):
    """What comes while the service has paused waits in order."""
    line.connection.pauseProducing()
    line.connection.dataReceived(b"a")
    line.connection.dataReceived(b"b")
    line.connection.readConnectionLost()
    line.step(1100)
    assert not line.service.events
    line.connection.resumeProducing()
    assert [event[1:] for event in line.service.events] == [
        ("data", b"a"),
        ("data", b"b"),
        ("fin",),
    ]


def test_a_lost_connection_leaves_no_timer_and_passes_nothing(line):
    """A lost connection leaves no timer and passes nothing."""
    line.connection.write(b"x")
    line.connection.dataReceived(b"x")
    line.peer.abortConnection()
    assert not line.clock.getDelayedCalls()
    assert [event[1] for event in line.service.events] == ["lost"]


def test_a_close_after_a_half_close_closes_the_transport_at_once():
    """A close after a half close closes the transport at once."""
    line = Line(make_fault("latency", latency=100))
    line.connection.write(b"x")
    line.connection.loseWriteConnection()
    line.step(100)
    line.connection.loseConnection()
    assert [event[1] for event in line.peer.events] == ["data", "fin", "close"]
