"""Limits of the server as a whole: each worker's admission beside a model of one server."""

import os
from collections import Counter
from mmap import PAGESIZE

import pytest
from hypothesis import given, settings, strategies
from twisted.internet.task import Clock

from netsrv.guards.capacity import ConnectionSlots
from netsrv.guards.limits import Limits
from netsrv.guards.rates import Rate, TokenBucket
from netsrv.guards.sources import source_of
from netsrv.interfaces import RejectReason
from netsrv.workers.limits import POLL_INTERVAL, SharedAdmission, SharedBucket
from netsrv.workers.memory import ColumnAllocator, LimitMemory, table_size
from tests.timeouts import EXAMPLE_DEADLINE

ADDRESSES = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "2001:db8::2", "2001:db8:1::"]


class Workers:
    """The admissions of one listener in several workers, each with its own map of the memory."""

    def __init__(self, count, **limits):
        self.clock = Clock()
        self.clock.advance(1000.0)
        self.allocator = ColumnAllocator(1024)
        self.limits = Limits(**limits)
        self.block = self.allocator.block_of("tcp 0.0.0.0:7")
        self.memories = []
        self.admissions = [self.start(number) for number in range(count)]

    def start(self, number):
        """Return the admission of a new process."""
        [column] = self.allocator.take(number, 1)
        memory = LimitMemory(*self.allocator.memory.descriptors, self.allocator.sources)
        self.memories.append(memory)
        return SharedAdmission(
            self.limits, ConnectionSlots(), self.now, memory, self.block, column, self.clock
        )

    @property
    def now(self):
        return self.clock.seconds()

    def close(self):
        for descriptor in self.allocator.memory.descriptors:
            os.close(descriptor)


@pytest.fixture
def workers():
    """Make `Workers`, whose files are closed after the test."""
    started = []

    def start(count, **limits):
        started.append(Workers(count, **limits))
        return started[-1]

    yield start
    for one in started:
        one.close()


def test_max_connections_is_that_of_the_server(workers):
    """What one worker holds, another one lacks."""
    first, second = workers(2, max_connections=3).admissions
    assert [first.admit(None, 0.0) for _ in range(2)] == [None, None]
    assert second.may_accept
    assert second.admit(None, 0.0) is None
    assert not first.may_accept
    assert not second.may_accept
    assert first.admit(None, 0.0) is RejectReason.MAX_CONNECTIONS
    second.release(None)
    assert first.may_accept
    assert first.limit == second.limit == 3


def test_a_connection_that_may_be_accepted_is_admitted(workers):
    """Another worker may have taken the last slot meanwhile: the limit is exceeded by one."""
    first, second = workers(2, max_connections=1).admissions
    assert first.may_accept
    assert second.may_accept
    assert first.admit(None, 0.0) is None
    assert second.admit(None, 0.0) is None
    assert second.admit(None, 0.0) is RejectReason.MAX_CONNECTIONS


def test_a_worker_that_waits_is_served_before_one_that_does_not(workers):
    """The worker that releases a slot does not take it again at once."""
    both = workers(2, max_connections=1)
    first, second = both.admissions
    accepted = []

    def try_again():
        if second.may_accept:
            accepted.append(second.admit(None, both.now))
        else:
            second.slots[0].on_release(try_again)

    assert first.admit(None, both.now) is None
    try_again()
    both.clock.advance(POLL_INTERVAL)
    first.release(None)
    assert not first.may_accept
    both.clock.advance(POLL_INTERVAL)
    assert accepted == [None]
    second.release(None)
    assert first.may_accept


def test_a_dead_workers_connections_are_forgotten(workers):
    """The master clears its column, and its successor counts from zero."""
    both = workers(2, max_connections=2, per_source=1)
    first, second = both.admissions
    source = source_of("192.0.2.1")
    assert first.admit(source, 0.0) is None
    assert second.admit(source, 0.0) is RejectReason.PER_SOURCE
    both.allocator.give_back(0)
    assert second.admit(source, 0.0) is None
    successor = both.start(2)
    assert successor.admit(source, 0.0) is RejectReason.PER_SOURCE
    assert successor.admit(source_of("192.0.2.2"), 0.0) is None


def test_workers_that_admit_a_source_at_the_same_moment_count_both_connections(workers):
    """The limit is exceeded by one, and neither connection keeps its slot when it has ended."""
    first, second = workers(2, per_source=1).admissions
    source = source_of("192.0.2.1")
    assert first.allows(source)
    assert second.allows(source)
    assert first.reserve_batch(1, 0.0) == second.reserve_batch(1, 0.0) == 1
    first.enter(source)
    second.enter(source)
    assert not first.allows(source)
    first.release(source)
    second.release(source)
    assert first.allows(source)
    assert not first.sources
    assert not second.sources


def test_the_memory_of_a_process_is_given_back_when_it_ends():
    """Clearing a table touches none of its pages, of which there may be thousands."""
    allocator = ColumnAllocator(table_size(1 << 30))
    block = allocator.block_of("tcp 0.0.0.0:7")
    [column] = allocator.take(0, 1)
    memory = allocator.memory
    start = memory.table_at(block, column)
    memory.tables[start : start + 8 * PAGESIZE] = bytes([1]) * 8 * PAGESIZE
    descriptor = memory.descriptors[1]
    before = os.fstat(descriptor).st_blocks
    allocator.give_back(0)
    assert before - os.fstat(descriptor).st_blocks == 8 * PAGESIZE // 512
    assert memory.tables[start : start + 8 * PAGESIZE] == bytes(8 * PAGESIZE)
    for descriptor in memory.descriptors:
        os.close(descriptor)


OPERATIONS = strategies.lists(
    strategies.tuples(
        strategies.integers(0, 2), strategies.booleans(), strategies.sampled_from(ADDRESSES)
    ),
    max_size=80,
)


@given(OPERATIONS)
@settings(deadline=EXAMPLE_DEADLINE * 1000, max_examples=50)
def test_per_source_is_that_of_one_server(operations):
    """Whichever worker a source comes to, as many of its connections are admitted."""
    three = Workers(3, per_source=3)
    model: Counter[bytes] = Counter()
    open_connections = []
    for number, comes, address in operations:
        admission, source = three.admissions[number], source_of(address)
        if comes:
            assert admission.allows(source) == (model[source.key] < 3)
            reason = admission.admit(source, 0.0)
            assert (reason is None) == (model[source.key] < 3)
            if reason is None:
                model[source.key] += 1
                open_connections.append((admission, source))
        elif open_connections:
            admission, source = open_connections.pop()
            admission.release(source)
            model[source.key] -= 1
    three.close()


ARRIVALS = strategies.lists(
    strategies.tuples(
        strategies.integers(0, 2), strategies.floats(0, 2), strategies.integers(1, 4)
    ),
    max_size=60,
)


@given(ARRIVALS)
@settings(deadline=EXAMPLE_DEADLINE * 1000, max_examples=50)
def test_the_connection_rate_is_that_of_one_bucket(operations):
    """All workers take from the same tokens."""
    rate = Rate(3.0, 5.0)
    three = Workers(3, connection_rate=rate)
    model = TokenBucket(rate, three.now)
    for number, seconds, wanted in operations:
        three.clock.advance(seconds)
        admission = three.admissions[number]
        for _ in range(wanted):
            reason = admission.admit(None, three.now)
            assert (reason is None) == model.take(three.now)
        bucket = SharedBucket(rate, three.now, three.memories[0], three.block)
        assert bucket.wait(three.now) == pytest.approx(model.wait(three.now))
    three.close()


@given(ARRIVALS)
@settings(deadline=EXAMPLE_DEADLINE * 1000, max_examples=50)
def test_acceptors_exceed_the_rate_by_no_more_than_their_number(operations):
    """However long it goes on: a connection that was accepted too many is owed."""
    three = Workers(3, connection_rate=Rate(3.0, 5.0))
    model, owed = TokenBucket(Rate(3.0, 5.0), three.now), 0
    for number, seconds, wanted in operations:
        three.clock.advance(seconds)
        admission = three.admissions[number]
        for _ in range(wanted):
            if admission.may_accept or not admission.retry_after(three.now):
                assert admission.admit(None, three.now) is None
                owed += not model.take(three.now)
        while owed and model.take(three.now):
            owed -= 1
        assert owed <= 3
    three.close()


def test_tokens_that_are_owed_are_paid_back(workers):
    """A connection beyond the rate is admitted once, and the next ones wait for longer."""
    first, second = workers(2, connection_rate=Rate(1.0, 1.0)).admissions
    assert first.may_accept
    assert second.may_accept
    now = 1000.0
    assert first.admit(None, now) is None
    assert second.admit(None, now) is None
    assert first.retry_after(now) == pytest.approx(2.0)


def test_more_sources_than_a_bucket_has_room_for_are_counted_by_their_worker(workers):
    """The limit holds in each worker at least."""
    first, _ = workers(2, per_source=1).admissions
    sources = [source_of(f"10.0.{number >> 8}.{number & 255}") for number in range(4000)]
    assert [first.admit(source, 0.0) for source in sources] == [None] * 4000
    assert [first.admit(source, 0.0) for source in sources] == [RejectReason.PER_SOURCE] * 4000
    for source in sources:
        first.release(source)
    assert not first.sources
