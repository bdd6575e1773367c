"""Token buckets, and the tables of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from netsrv.guards.rates import Rate, SourceRateLimiter, TokenBucket, parse_rate
from netsrv.guards.sources import source_of


@pytest.mark.parametrize(
    ("text", "rate"),
    [("50", Rate(50, 50)), ("50:100", Rate(50, 100)), ("0.5", Rate(0.5, 1)), ("1:1", Rate(1, 1))],
)
def test_a_rate_is_so_many_a_second_and_a_burst(text, rate):
    """Without a burst it is one second's worth, and at least one."""
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text", ["", "x", "0", "-1", "50:", "50:0", "inf", "nan", "1:nan", "1:2:3"]
)
def test_what_is_no_rate_is_refused(text):
    """A rate that is none is a ValueError."""
    with pytest.raises(ValueError, match="rate"):
        parse_rate(text)


def test_a_bucket_gives_its_burst_and_then_its_rate():
    """After the burst a token comes every 1/rate seconds, and `wait` says when."""
    bucket = TokenBucket(Rate(10, 3), 0)
    assert [bucket.take(0) for _ in range(4)] == [True, True, True, False]
    assert bucket.wait(0) == pytest.approx(0.1)
    assert not bucket.take(0.05)
    assert bucket.take(0.11)
    assert bucket.wait(100) == 0
    assert bucket.full(100)


@given(
    st.floats(0.1, 1000),
    st.floats(1, 100),
    st.lists(st.floats(-5, 5), min_size=1, max_size=50),
)
def test_a_bucket_never_gives_more_than_burst_and_rate(per_second, burst, steps):
    """Whatever the times, also a clock that goes back, no more come than were earned."""
    bucket = TokenBucket(Rate(per_second, burst), 0)
    now = latest = 0.0
    taken = 0
    for step in steps:
        now += step
        latest = max(latest, now)
        taken += bucket.take(now)
    assert taken <= burst + per_second * latest + 1e-6


def test_each_source_has_a_bucket_of_its_own():
    """F12: an IPv4 address is a source, and so is an IPv6 /64 as a whole."""
    rates = SourceRateLimiter(Rate(1, 1))
    one, same = source_of("2001:db8::1"), source_of("2001:db8::ffff:1")
    other, ipv4 = source_of("2001:db8:0:1::1"), source_of("192.0.2.1")
    assert [rates.take(each, 0) for each in (one, same, other, ipv4)] == [True, False, True, True]
    assert not rates.take(source_of("::ffff:192.0.2.1"), 0)
    assert len(rates) == 3


def test_a_full_table_forgets_only_quiet_sources():
    """F14: a source with its whole burst makes room; without one, a new source is rejected."""
    rates = SourceRateLimiter(Rate(1, 2), max_sources=2)
    a, b, c = (source_of(f"192.0.2.{number}") for number in (1, 2, 3))
    assert rates.take(a, 0)
    assert rates.take(b, 0.5)
    assert not rates.take(c, 0.6)
    assert rates.take(source_of("2001:db8::1"), 0.6)  # IPv6 has a table of its own
    assert rates.take(c, 1.0)  # a has earned its token back
    assert len(rates) == 3


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0, 1)), max_size=100))
def test_a_table_stays_bounded_and_fair(visits):
    """F14: for any arrivals the table keeps its size, and no source gets more than its share."""
    rates = SourceRateLimiter(Rate(1, 3), max_sources=8)
    now = 0.0
    taken: dict[int, int] = {}
    for number, step in visits:
        now += step
        taken[number] = taken.get(number, 0) + rates.take(source_of(f"192.0.2.{number}"), now)
        assert len(rates) <= 8
    assert all(count <= 3 + now + 1e-6 for count in taken.values())


class RatesMachine(RuleBasedStateMachine):
    """Sources send and time passes, beside a table that never forgets a source.

    All times and rates are such that no number is rounded.
    """

    MOST = 3
    RATE = Rate(0.5, 2)

    def __init__(self):
        super().__init__()
        self.rates = SourceRateLimiter(self.RATE, max_sources=self.MOST)
        self.now = 0.0
        self.tokens = {}
        self.given = {}

    @rule(number=st.integers(1, 6), ipv6=st.booleans())
    def comes(self, number, ipv6):
        """A source asks: it gets a token if it has one, unless the table has no room for it."""
        source = source_of(f"2001:db8:0:{number}::1" if ipv6 else f"192.0.2.{number}")
        before = len(self.rates)
        given = self.rates.take(source, self.now)
        tokens = self.tokens.setdefault(source.key, self.RATE.burst)
        if given:
            assert tokens >= 1
            self.tokens[source.key] = tokens - 1
            self.given[source.key] = self.given.get(source.key, 0) + 1
        else:
            no_room = before >= self.MOST and len(self.rates) == before
            assert tokens < 1 or no_room

    @rule(steps=st.integers(0, 12))
    def waits(self, steps):
        """Time passes."""
        self.now += steps / 4
        earned = steps / 4 * self.RATE.per_second
        for key, tokens in self.tokens.items():
            self.tokens[key] = min(self.RATE.burst, tokens + earned)

    @invariant()
    def tables_are_bounded_and_fair(self):
        """Each family's table keeps its size, and no source has had more than it earned."""
        assert len(self.rates) <= 2 * self.MOST
        most = self.RATE.burst + self.RATE.per_second * self.now
        assert all(0 < given <= most for given in self.given.values())
        assert all(0 <= tokens <= self.RATE.burst for tokens in self.tokens.values())


TestRates = RatesMachine.TestCase
