"""Time limits of many connections, on a clock that is stepped, beside a model."""

import gc
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from netsrv.guards.limits import Limits
from netsrv.interfaces import CloseReason
from netsrv.testing import MemoryServer
from netsrv.time_limits import BATCH_SIZE, MAX_EXACT_CONNECTIONS, TimeLimits
from tests.doubles import DONE, Gated


class Permit:
    """A permit as the time limits see it."""

    def __init__(self, limits, since):
        self.limits = limits
        self.since = since


class Connection:
    """A connection with counts that the test sets; it closes, but is not lost by itself."""

    disconnecting = False
    aborted = False
    received = sent = unsent = 0

    def __init__(self, limits, since=0.0):
        self.permit = Permit(limits, since)
        self.closed = []


class House:
    """Time limits on a clock of their own; a connection that reaches a limit notes when."""

    def __init__(self, few=True):
        self.clock = Clock()
        self.time_limits = TimeLimits(self.clock, self.clock.seconds, self.close)
        if not few:
            unlimited = Limits(write_timeout=None)
            for _ in range(MAX_EXACT_CONNECTIONS):
                self.add(unlimited)

    def add(self, limits):
        connection = Connection(limits, self.clock.seconds())
        self.time_limits.add(connection)
        return connection

    def close(self, connection, reason):
        connection.closed.append((reason, self.clock.seconds()))
        if reason in (CloseReason.WRITE_TIMEOUT, CloseReason.CLOSE_GRACE):
            connection.aborted = True
        connection.disconnecting = True
        self.time_limits.start_closing(connection)

    def advance(self, seconds):
        """Advance the clock from one timer to the next, each at its own time."""
        end = self.clock.seconds() + seconds
        while calls := [call for call in self.clock.getDelayedCalls() if call.getTime() <= end]:
            due = min(call.getTime() for call in calls)
            self.clock.advance(max(0.0, due - self.clock.seconds()))
        self.clock.advance(end - self.clock.seconds())


SECONDS = st.one_of(st.none(), st.floats(0.05, 100), st.sampled_from([1.0, 2.0, 60.0]))
EVENTS = st.lists(st.tuples(st.floats(0.01, 30), st.sampled_from(["in", "out", "stuck"])))
ROUNDING = 1e-5
"""Seconds that rounding, and the shortest timer, may add."""


@settings(deadline=None)
@given(
    idle=SECONDS,
    write=SECONDS,
    lifetime=SECONDS,
    grace=st.floats(0.05, 100),
    events=EVENTS,
    few=st.booleans(),
)
def test_each_limit_is_found_at_most_an_eighth_of_itself_late(
    idle, write, lifetime, grace, events, few
):
    """A connection is closed when it is due, not before, and once; then the grace follows."""
    limits = Limits(idle_timeout=idle, write_timeout=write, lifetime=lifetime, close_grace=grace)
    house = House(few)
    connection = house.add(limits)
    moved, stuck = 0.0, None
    for delay, event in events:
        house.advance(delay)
        if connection.closed:
            break
        now = house.clock.seconds()
        if event == "in":
            connection.received += 1
            moved = now
        elif event == "out":
            connection.sent += 1
            moved, stuck, connection.unsent = now, None, 0
        else:
            connection.sent += 1
            connection.unsent += 1
            stuck = now if stuck is None else stuck
    house.advance(500)
    dues = {}
    if idle is not None:
        dues[CloseReason.IDLE_TIMEOUT] = (moved + idle, idle)
    if lifetime is not None:
        dues[CloseReason.LIFETIME] = (lifetime, lifetime)
    if write is not None and stuck is not None:
        dues[CloseReason.WRITE_TIMEOUT] = (stuck + write, write)
    assert bool(connection.closed) == bool(dues)
    if dues:
        reason, when = connection.closed[0]
        assert dues[reason][0] - ROUNDING <= when
        assert when <= min(due + limit / 8 for due, limit in dues.values()) + ROUNDING
        aborts = [] if reason is CloseReason.WRITE_TIMEOUT else [CloseReason.CLOSE_GRACE]
        assert [reason for reason, _ in connection.closed[1:]] == aborts
        for _, ended in connection.closed[1:]:
            assert when + grace - ROUNDING <= ended <= when + grace * 9 / 8 + ROUNDING


def test_a_lifetime_alone_needs_no_look_before_its_end():
    """The time is known from the beginning, so the timer waits for it."""
    house = House()
    connection = house.add(Limits(lifetime=3600, write_timeout=None))
    assert [call.getTime() >= 3600 for call in house.clock.getDelayedCalls()] == [True]
    house.advance(3601)
    assert [reason for reason, _ in connection.closed] == [CloseReason.LIFETIME]


@pytest.mark.parametrize("name", ["idle_timeout", "lifetime"])
@pytest.mark.parametrize("seconds", [0.5, 8, 3600])
def test_with_few_connections_a_limit_is_found_at_most_a_second_late(name, seconds):
    """Also if the limit is an hour, and something has moved in between."""
    house = House()
    connection = house.add(Limits(**{name: seconds}))
    house.advance(seconds * 0.3)
    connection.received += 1
    house.advance(seconds * (0.7 if name == "lifetime" else 1) - ROUNDING)
    assert connection.closed == []
    house.advance(min(1, seconds / 8) + 2 * ROUNDING)
    assert connection.closed[0][0] == CloseReason(name)


@given(grace=st.floats(0.05, 100), before=st.floats(0, 100), lifetime=SECONDS)
def test_a_close_grace_counts_from_the_close_on(grace, before, lifetime):
    """Output that is stuck when the service closes has the whole grace, and no more."""
    house = House()
    limits = Limits(write_timeout=1000, close_grace=grace, lifetime=lifetime)
    connection = house.add(limits)
    connection.sent = connection.unsent = 100
    house.advance(before)
    if connection.closed:
        return
    connection.disconnecting = True
    house.time_limits.start_closing(connection)
    house.advance(500)
    reason, when = connection.closed[0]
    due = before + grace
    if reason is CloseReason.CLOSE_GRACE:
        assert due - ROUNDING <= when <= due + grace / 8 + ROUNDING
    else:
        assert lifetime <= when <= lifetime * 9 / 8 + ROUNDING


def test_a_turn_looks_at_a_batch_of_connections():
    """So many connections that are due together do not stop the loop: other calls come between."""
    house = House()
    turns = []
    connections = [house.add(Limits(lifetime=10)) for _ in range(5 * BATCH_SIZE)]
    house.clock.advance(10)
    while any(not connection.closed for connection in connections):
        house.clock.advance(1e-5)
        turns.append(sum(bool(connection.closed) for connection in connections))
    assert turns == [BATCH_SIZE * number for number in range(2, 6)]


def test_looks_are_spread_evenly():
    """Connections that are accepted together are not looked at together."""
    house = House(few=False)
    for _ in range(1000):
        house.add(Limits())
    looked_at = []
    for connection in house.time_limits.connections:
        type(connection).received = property(lambda self: looked_at.append(self) or 0)
    try:
        counts = []
        for _ in range(70):
            looked_at.clear()
            house.advance(0.5)
            counts.append(len(looked_at))
    finally:
        Connection.received = 0
    assert min(counts) > 0.7 * sum(counts) / len(counts)
    assert max(counts) < 1.3 * sum(counts) / len(counts)


def test_an_ended_connection_is_not_kept():
    """A lifetime of a day keeps no connection, and few slots, that have ended before."""
    gated = Gated(limits=Limits(lifetime=86400, idle_timeout=3600))
    first = weakref.ref(gated.service)
    house = House()
    for _ in range(20_000):
        house.time_limits.discard(house.add(Limits(lifetime=86400, idle_timeout=3600)))
        house.clock.advance(1)
    gated.connection.connectionLost(DONE)
    gated.connection = gated.service = None
    assert first() is None
    gc.collect()
    connections = [each for each in gc.get_objects() if type(each) is Connection]
    assert connections == []
    assert len(house.time_limits._wheel._times) < 1024


@pytest.mark.parametrize("limit", ["idle_timeout", "lifetime"])
@pytest.mark.parametrize("seconds", [0.05, 1, 7, 60, 86400])
def test_a_limit_in_memory_is_exact_on_a_connection_that_is_idle(limit, seconds):
    """The stepped clock shows the limit at its second, and at most a slot later."""
    server = MemoryServer("echo", **{limit: seconds})
    client = server.connect()
    server.advance(seconds * 0.999)
    assert client.close_kind is None
    server.advance(seconds * 0.004)
    assert client.close_kind == "closed"
    assert server.counts.closed[CloseReason(limit)] == 1


def test_write_timeout_and_close_grace_in_memory():
    """A peer that does not read is reset after the limit, and at most an eighth later."""
    server = MemoryServer("chargen", write_timeout=8)
    client = server.connect(reading=False)
    server.advance(8)
    assert server.connections == 1
    server.advance(1.01)
    assert server.connections == 0
    assert client.close_kind == "reset" or server.counts.closed[CloseReason.WRITE_TIMEOUT] == 1
