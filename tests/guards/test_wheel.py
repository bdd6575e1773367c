"""The timing wheel, beside a model that searches all items."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from netsrv.guards.wheel import NEVER, Pace, Wheel

ITEMS = st.integers(0, 20)
DELAYS = st.one_of(st.floats(0, 10), st.sampled_from([0.0, 0.5, 1.0, NEVER]))
WIDTHS = st.sampled_from([2.0**exponent for exponent in range(-8, 3)])


class Comparison(RuleBasedStateMachine):
    """Items wait in a wheel and in a dict: no item is lost, early, more than a slot late or twice.

    The time begins at an odd number, as a monotonic clock's.
    """

    def __init__(self):
        super().__init__()
        self.wheel = Wheel()
        self.now = 12345.678901
        self.waiting = {}

    @rule(item=ITEMS, delay=DELAYS, width=WIDTHS)
    def is_put(self, item, delay, width):
        """An item waits, or waits for another time."""
        if item in self.waiting:
            assert self.wheel.take(item) == self.waiting[item]
        due = self.now + delay
        self.waiting[item] = value = (due, due + width)
        self.wheel.put(item, value, due, width)

    @rule(item=ITEMS)
    def is_discarded(self, item):
        """An item is no longer in the wheel, whether it was or not."""
        self.waiting.pop(item, None)
        self.wheel.discard(item)

    @rule(seconds=st.one_of(st.just(0.0), st.floats(0, 12)))
    def passes(self, seconds):
        """Time passes: every item whose slot has passed is popped, once, and none before."""
        self.now += seconds
        popped = set()
        while (entry := self.wheel.pop_due(self.now)) is not None:
            item, (due, _) = entry
            assert due <= self.now
            assert item not in popped
            assert entry == (item, self.waiting.pop(item))
            popped.add(item)
            self.wheel.discard(item)
        assert all(self.now < latest for due, latest in self.waiting.values())

    @rule()
    def forgets(self):
        """The wheel forgets empty slots: then its next time is that of an item."""
        self.wheel.forget_empty_slots()
        earliest = min((due for due, _ in self.waiting.values()), default=NEVER)
        latest = min((latest for _, latest in self.waiting.values()), default=NEVER)
        assert earliest <= self.wheel.next_time <= latest

    @invariant()
    def items_are_known(self):
        """The wheel's items are those that wait."""
        assert set(self.wheel.slot_of) == set(self.waiting)


TestComparison = Comparison.TestCase
TestComparison.settings = settings(max_examples=60, stateful_step_count=30)

LIMITS = st.one_of(st.none(), st.floats(0.001, 1e7))


@given(watched=st.tuples(LIMITS, LIMITS), fixed=LIMITS)
def test_an_interval_and_two_slots_are_an_eighth_of_each_limit(watched, fixed):
    """So no limit is found later, and a limit that is due at a known time causes no looks."""
    pace = Pace.of(watched, fixed)
    restarting = [limit for limit in watched if limit is not None]
    for limit in restarting:
        assert pace.interval + 2 * pace.slot_width <= limit / 8
    if not restarting:
        assert pace.interval == NEVER
    if fixed is not None:
        assert pace.slot_width <= fixed / 8
    assert math.frexp(pace.slot_width)[0] == 0.5
