"""Loops between two servers: which flows get a pause, and which never do."""

from heapq import heappop, heappush

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netsrv.guards import loops
from netsrv.guards.access import Access
from netsrv.guards.datagrams import MAX_CACHED_VERDICTS, DatagramGuard
from netsrv.guards.loops import FlowCount, LoopGuard
from netsrv.guards.rates import Rate
from netsrv.guards.sources import Flow, source_of
from netsrv.interfaces import DropReason

PEER = ("192.0.2.1", 40_000)
FLOW = Flow(PEER)
UNREACHED = Rate(1e8, 1e8)
WITHIN = 10.0
"""Seconds in which a loop is to be ended."""


def guard_with(rate=UNREACHED, safe=True):
    """Return a guard with no other rule."""
    return DatagramGuard(Access(), frozenset(), frozenset(), rate, safe)


def loop(guard, round_trip, contents, seconds, flow=FLOW, start=1000.0):
    """Forge datagrams with *contents*, and let the peer answer each reply after *round_trip*.

    Returns when the last datagram was answered, or None if that goes on.
    """
    waiting = []
    for number, content in enumerate(contents):
        heappush(waiting, (start + round_trip * number / len(contents), number, content))
    last = start
    while waiting:
        now, number, content = heappop(waiting)
        if now > start + seconds:
            return None
        if guard.drop(flow, now, content) is None:
            last = now
            heappush(waiting, (now + round_trip, number, content))
    return last - start


def answered(guard, times, content, flow=FLOW):
    """Return what is decided about datagrams at *times*; *content* is that of a number."""
    return [guard.drop(flow, now, content(number)) for number, now in enumerate(times)]


@pytest.mark.parametrize("round_trip", [0.001, 0.004, 0.03, 0.15, 0.24])
@pytest.mark.parametrize("forged", [1, 5, 50])
def test_f127_a_loop_is_ended_however_slow_it_is(round_trip, forged):
    """One or many datagrams that go round end within seconds, far below the rate."""
    contents = [b"%d" % number for number in range(min(forged, int(round_trip * 2000)) or 1)]
    assert loop(guard_with(), round_trip, contents, WITHIN) is not None


@settings(max_examples=30, deadline=None)
@given(
    st.floats(0.004, 0.24),
    st.lists(st.binary(max_size=3), min_size=1, max_size=8),
    st.floats(0, 1e6),
)
def test_f127_a_loop_is_ended_whatever_goes_round(round_trip, contents, start):
    """Neither the contents, nor the time at which it begins, save it."""
    assert loop(guard_with(), round_trip, contents, WITHIN, start=start) is not None


def test_f127_a_loop_with_a_clock_is_ended():
    """`daytime` answers a loop with other contents each second."""
    guard = guard_with()
    times = [1000 + number * 0.05 for number in range(200)]
    decided = answered(guard, times, lambda number: b"%d" % (number * 0.05))
    assert DropReason.LOOP in decided


def test_f127_a_loop_that_brings_back_our_replies_is_ended():
    """An `echo` returns what `chargen` or `qotd` has sent, which seldom repeats."""
    guard, reply, dropped = guard_with(), b"x", None
    for number in range(80):
        dropped = guard.drop(FLOW, 1000 + number / 10, reply)
        if dropped:
            break
        reply = b"%d" % number
        guard.sent(PEER, reply)
    assert dropped is DropReason.LOOP


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.334, 4), min_size=20, max_size=200), st.booleans())
def test_f127_a_client_at_the_rhythm_of_a_monitor_is_always_answered(gaps, equal):
    """Up to three datagrams a second are served for ever, also equal ones."""
    now, times = 1000.0, []
    for gap in gaps:
        now += gap
        times.append(now)
    decided = answered(guard_with(), times, lambda number: b"x" if equal else b"%d" % number)
    assert set(decided) == {None}


@settings(max_examples=20, deadline=None)
@given(st.floats(0.001, 0.3), st.integers(0, 7))
def test_f127_a_client_with_different_data_is_always_answered(gap, repeats):
    """At any rhythm; a few repetitions, as a client sends them, are no loop."""
    guard = guard_with()
    for number in range(int(20 / gap)):
        assert guard.drop(FLOW, 1000 + number * gap, b"%d" % max(0, number - repeats)) is None
        guard.sent(PEER, b"a quote")


def test_f127_a_client_that_pauses_is_always_answered():
    """Bursts of equal datagrams with a second of silence between them are no loop."""
    times = [1000 + 2.5 * burst + number / 100 for burst in range(20) for number in range(20)]
    assert set(answered(guard_with(), times, lambda number: b"x")) == {None}


def test_f127_the_pauses_of_a_flow_grow_and_are_forgotten():
    """A peer that goes on is served less and less; a quiet one is like a new one."""
    guard = LoopGuard()
    pauses = []
    now = 1000.0

    def find_loop():
        nonlocal now
        while not guard.is_loop(PEER, b"x", now):
            count = FlowCount(source_of(PEER[0]), PEER)
            count.count = 1
            if now >= guard.next_interval:
                guard.end_interval(now)
            guard.add([count])
            now += 0.1
        return guard.paused[PEER].until - now

    for _ in range(7):
        pauses.append(find_loop())
        assert guard.is_paused(PEER, now)
        now = guard.paused[PEER].until
        assert not guard.is_paused(PEER, now)
    assert [round(pause) for pause in pauses] == [2, 4, 8, 16, 32, 64, 64]
    now += loops.FORGET_AFTER
    assert find_loop() == pytest.approx(loops.FIRST_PAUSE)


def test_f127_only_the_flow_of_the_loop_gets_a_pause():
    """Another port, or another address, of the same source is answered."""
    guard = guard_with()
    assert loop(guard, 0.01, [b"x"], WITHIN) is not None
    later = 1000 + loops.STEADY_INTERVALS + 2
    assert guard.drop(FLOW, later, b"y") is DropReason.LOOP
    assert guard.drops([FLOW, FLOW], later) == {0: DropReason.LOOP, 1: DropReason.LOOP}
    for peer in (("192.0.2.1", 40_001), ("192.0.2.2", 40_000)):
        assert guard.drop(Flow(peer), later, b"x") is None


def test_f127_the_datagrams_of_a_batch_are_judged_alike():
    """The contents of a batch are read for suspected flows only."""
    guard, other = guard_with(), Flow(("192.0.2.2", 1))
    read = []

    def contents(index):
        read.append(index)
        return b"x"

    drops = {}
    for turn in range(60):
        batch = [FLOW, FLOW, FLOW, other] if turn % 5 == 0 else [FLOW, FLOW, FLOW]
        drops = guard.drops(batch, 1000 + turn / 10, contents)
        if drops:
            break
    assert set(read) == {0, 1, 2}
    assert drops == dict.fromkeys(range(min(drops), 3), DropReason.LOOP)
    later = 1000 + turn / 10
    assert guard.drops([other, FLOW], later, contents) == {1: DropReason.LOOP}


def test_f127_a_flood_of_other_flows_does_not_hide_a_loop():
    """What is known of a flow outlives the verdicts that are remembered."""
    guard = guard_with()
    answers = 0
    for turn in range(40):
        now = 1000 + turn / 4.1
        answers += guard.drop(Flow(PEER), now, b"x") is None
        for number in range(0, MAX_CACHED_VERDICTS + 100, 4):
            forged = (f"198.51.{number % 200}.{turn % 200}", 1024 + number)
            guard.drops([Flow(forged)] * 2, now)
    assert answers < 40


@pytest.mark.parametrize(
    ("guard", "host"),
    [
        (guard_with(safe=False), "192.0.2.1"),
        (guard_with(rate=None), "192.0.2.1"),
        (guard_with(), "127.0.0.1"),
    ],
    ids=["a protocol of the user", "no rate", "this machine"],
)
def test_f127_where_there_is_no_rate_no_loop_is_ended(guard, host):
    """As documented: these send what they want."""
    assert loop(guard, 0.01, [b"x"], WITHIN, Flow((host, 40_000))) is None


def test_f127_the_memory_of_the_guard_is_bounded(monkeypatch):
    """A flood from forged addresses, each of them like a loop, fills the tables and no more."""
    for name in ("MAX_COUNTED", "MAX_WATCHED", "MAX_PAUSED", "MAX_CONTENTS"):
        monkeypatch.setattr(loops, name, 10)
    guard = guard_with()
    flows = [Flow((f"192.0.2.{number}", 40_000)) for number in range(40)]
    for turn in range(150):
        guard.drops(flows, 1000 + turn / 10, lambda index, turn=turn: b"%d" % (turn % 5))
    tables = guard._loops
    assert len(tables._runs) <= 10
    assert len(tables._counts) <= 10
    assert len(tables.watched) <= 10
    assert 0 < len(tables.paused) <= 10
