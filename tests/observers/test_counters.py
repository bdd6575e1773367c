"""The counters of each listener."""

import errno

from zope.interface.verify import verifyObject

from netsrv.batches import Datagrams
from netsrv.guards.sources import Flow
from netsrv.interfaces import CloseReason, DropReason, IObserver, ListenerInfo, RejectReason
from netsrv.observers.counters import DURATION_BUCKETS, Counters
from tests.doubles import ObservedConnection

HERE = ListenerInfo("tcp", "0.0.0.0:7", "echo")
THERE = ListenerInfo("udp", "0.0.0.0:7", "echo")
PEER = ("192.0.2.1", 40000)


def seen(*sizes):
    """Return datagrams of these sizes, as observers see them."""
    return Datagrams([Flow(PEER)] * len(sizes), sizes)


def test_connections_are_counted_from_their_beginning_to_their_end():
    """Accepted and active ones, close reasons, bytes and durations are counted."""
    counters = Counters()
    assert verifyObject(IObserver, counters)
    connections = [
        ObservedConnection(5, 7, 0.0005, CloseReason.PEER),
        ObservedConnection(1, 0, 0.01, CloseReason.IDLE_TIMEOUT),
        ObservedConnection(0, 0, 7200, CloseReason.PEER),
        ObservedConnection(),
    ]
    for each in connections:
        counters.connection_made(HERE, each)
    for each in connections[:3]:
        counters.connection_closed(HERE, each)
    counters.connection_refused(HERE, "192.0.2.9:1", RejectReason.ACCESS)
    counts = counters.listeners[HERE]
    assert (counts.accepted, counts.active) == (4, 1)
    assert counts.closed == {"peer": 2, "idle_timeout": 1}
    assert counts.refused == {"access": 1}
    assert (counts.received_bytes, counts.sent_bytes) == (6, 7)
    assert counts.duration_buckets == [1, 1, *[0] * (len(DURATION_BUCKETS) - 2), 1]
    assert counts.seconds == 7200.0105


def test_datagrams_are_counted_each_way():
    """Received, sent and dropped datagrams are counted, the last by reason."""
    counters = Counters()
    counters.datagrams_received(THERE, seen(5, 0))
    counters.datagrams_sent(THERE, seen(7))
    counters.datagram_dropped(THERE, DropReason.SEND_ERROR, OSError(errno.EPERM, "no"))
    counters.datagram_dropped(THERE, DropReason.STOPPED, None)
    counters.datagrams_refused(THERE, seen(1, 1), DropReason.SOURCE_PORT)
    counts = counters.listeners[THERE]
    assert (counts.datagrams_received, counts.datagrams_sent) == (2, 1)
    assert (counts.received_bytes, counts.sent_bytes) == (5, 7)
    assert counts.datagrams_dropped == {"send_error": 1, "stopped": 1, "source_port": 2}


def test_what_goes_wrong_is_counted_and_what_is_the_case_is_known():
    """Accept errors, failures of a service and stalls are counted; suspension is shown."""
    counters = Counters()
    counters.accept_failed(HERE, OSError())
    counters.service_failed(HERE, "dataReceived")
    counters.stalled(2.5)
    counters.suspended(HERE, None)
    counters.suspended(THERE, RejectReason.MAX_CONNECTIONS)
    counters.resumed(THERE)
    assert counters.listeners[HERE].accept_errors == 1
    assert counters.listeners[HERE].service_failures == 1
    assert (counters.stalls, counters.stalled_seconds) == (1, 2.5)
    assert counters.listeners[HERE].suspended
    assert not counters.listeners[THERE].suspended


def test_the_counts_of_a_closed_listener_are_forgotten():
    """A server that adds and removes listeners keeps the counts of the running ones only."""
    counters = Counters()
    for _ in range(20):
        listener = ListenerInfo("tcp", "0.0.0.0:7", "echo")
        counters.connection_refused(listener, "192.0.2.9:1", RejectReason.ACCESS)
        counters.listener_closed(listener)
    counters.listener_closed(HERE)
    counters.connection_refused(THERE, "192.0.2.9:1", RejectReason.ACCESS)
    assert list(counters.listeners) == [THERE]
