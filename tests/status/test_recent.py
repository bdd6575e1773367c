"""The last events: bounded, and free of cost when there are many."""

import pytest
from twisted.internet.task import Clock

from netsrv.interfaces import ListenerInfo, RejectReason
from netsrv.observers.dispatch import ObserverDispatcher
from netsrv.status.recent import MAX_A_SECOND, MAX_ENTRIES, RecentRefusals

INFO = ListenerInfo("tcp", "127.0.0.1:7", "echo")


@pytest.fixture
def clock():
    """A clock that the test advances."""
    return Clock()


@pytest.fixture
def observers():
    """A dispatcher without other observers."""
    return ObserverDispatcher()


@pytest.fixture
def recent(clock, observers):
    """The last refusals."""
    refusals = RecentRefusals(clock, lambda: 1000.0 + clock.seconds())
    refusals.start(observers)
    return refusals


def refuse(observers, count):
    """Refuse so many connections."""
    for number in range(count):
        observers.connection_refused(INFO, f"peer {number}", RejectReason.ACCESS)


def peers(recent):
    """Return the peers of the events."""
    return [entry["peer"] for entry in recent.entries(str)]


def test_an_event_has_its_time_listener_and_reason(recent, observers, clock):
    """In plain values."""
    clock.advance(5)
    refuse(observers, 1)
    assert recent.entries(lambda info: f"<{info}>") == [
        {
            "time": 1005.0,
            "listener": "<tcp 127.0.0.1:7 (echo)>",
            "peer": "peer 0",
            "reason": "access",
        }
    ]


def test_f108_more_events_than_a_second_has_room_for_cost_nothing(recent, observers, clock):
    """The observer leaves the dispatcher until the second is over."""
    refuse(observers, 1000)
    assert peers(recent) == [f"peer {number}" for number in range(MAX_A_SECOND)]
    assert clock.getDelayedCalls()
    calls = []
    recent.connection_refused = lambda *arguments: calls.append(arguments)
    refuse(observers, 5)
    assert calls == []
    clock.advance(1)
    refuse(observers, 5)
    assert len(calls) == 5


def test_f108_the_events_are_bounded(recent, observers, clock):
    """The oldest go first."""
    for _ in range(10):
        refuse(observers, MAX_A_SECOND)
        clock.advance(1)
    assert len(peers(recent)) == MAX_ENTRIES
    assert peers(recent)[-1] == f"peer {MAX_A_SECOND - 1}"


def test_a_slow_stream_of_events_needs_no_timer(recent, observers, clock):
    """And all of them are taken."""
    for _ in range(30):
        refuse(observers, 1)
        clock.advance(0.5)
    assert len(peers(recent)) == 30
    assert not clock.getDelayedCalls()


@pytest.mark.parametrize("count", [0, 1, MAX_A_SECOND])
def test_after_the_end_there_are_no_events(count, recent, observers, clock):
    """And nothing is left in the reactor."""
    refuse(observers, count)
    recent.stop()
    assert not clock.getDelayedCalls()
    clock.advance(5)
    refuse(observers, 3)
    assert len(peers(recent)) == count
