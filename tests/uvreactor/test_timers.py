"""Delayed calls of the uvloop reactor: cheap, in order, and moved by no clock."""

import sys
import time

import pytest
import uvloop
from twisted.internet.base import DelayedCall

from netsrv.uvreactor import timerfd, timers
from netsrv.uvreactor.timerfd import KernelTimer
from netsrv.uvreactor.timers import MAX_CANCELLED, TimedCalls

DAY = 86_400.0


class Loop:
    """An event loop that counts what is asked of it, on a clock stepped by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.asked: list[tuple[float, object]] = []

    def call_soon(self, function, context=None):
        """Call it in the next turn."""
        return self.call_later(0.0, function, context)

    def call_later(self, delay, function, context=None):
        """Call it in so many seconds."""
        self.asked.append((self.now + delay, function))
        return self

    def cancel(self):
        """Forget the last timer: there is one at most."""
        self.asked[-1] = (float("inf"), None)

    def advance(self, seconds):
        """Step the clock, and do what is due."""
        self.now += seconds
        while self.asked[-1:] and self.asked[-1][0] <= self.now:
            function = self.asked[-1][1]
            self.asked[-1] = (float("inf"), None)
            function()


@pytest.fixture
def loop(monkeypatch):
    """The loop, whose clock is the one of the timers."""
    loop = Loop()
    monkeypatch.setattr(timers, "monotonic", lambda: loop.now)
    return loop


@pytest.fixture
def calls(loop):
    """Timed calls on that loop."""

    def wake():
        calls.run_due()
        calls.arm()

    calls = TimedCalls(loop, wake)
    return calls


@pytest.fixture
def expected_failures(request):
    """What is logged in tests of what raises."""
    return ["ZeroDivisionError"] if "raises" in request.node.name else []


def test_calls_are_made_in_their_order(calls, loop):
    """By time, and those of one time as they came."""
    called = []
    for delay, name in [(2, "c"), (1, "a"), (1, "b"), (0, "now")]:
        calls.add(delay, called.append, (name,), {})
    loop.advance(0)
    assert called == ["now"]
    loop.advance(1)
    assert called == ["now", "a", "b"]
    loop.advance(1)
    assert called == ["now", "a", "b", "c"]
    assert calls.pending() == []
    assert calls.timeout() is None


def test_a_call_that_is_due_later_asks_nothing_of_the_loop(calls, loop):
    """One timer serves them all: only an earlier call sets another."""
    calls.add(1, list, (), {})
    for _ in range(1000):
        calls.add(2, list, (), {}).cancel()
    assert len(loop.asked) == 1
    assert len(calls._heap) < 2 * MAX_CANCELLED + 2


def test_a_call_made_by_a_call_waits_for_the_next_turn(calls, loop):
    """With no delay; nothing else would get its turn."""
    called = []

    def again():
        called.append(loop.now)
        loop.now += 0.001
        calls.add(0, again, (), {})

    calls.add(0, again, (), {})
    calls.run_due()
    assert len(called) == 1


def test_a_call_can_be_moved(calls, loop):
    """Sooner and later."""
    called = []
    sooner = calls.add(10, called.append, ("sooner",), {})
    later = calls.add(5, called.append, ("later",), {})
    sooner.reset(1)
    later.delay(10)
    assert set(calls.pending()) == {sooner, later}
    loop.advance(1)
    assert called == ["sooner"]
    loop.advance(5)
    assert called == ["sooner"]
    loop.advance(9)
    assert called == ["sooner", "later"]


def test_a_call_that_raises_is_logged_and_the_next_is_made(calls, loop):
    """As with Twisted's reactors."""
    called = []
    calls.add(1, lambda: 1 // 0, (), {})
    calls.add(1, called.append, ("next",), {})
    loop.advance(1)
    assert called == ["next"]


@pytest.mark.parametrize("step", [DAY, -DAY])
def test_the_date_moves_no_call(runner, monkeypatch, step):
    """A clock that is set a day forward or back (F104)."""
    called = []
    reactor = runner.reactor
    hour = reactor.callLater(3600, called.append, "hour")
    soon = reactor.callLater(0.01, called.append, "soon")
    date = time.time()
    monkeypatch.setattr(time, "time", lambda: date + step)
    monkeypatch.setattr(timers, "time", lambda: date + step)
    runner.until(lambda: called)
    assert called == ["soon"]
    assert hour.active()
    assert not soon.active()
    assert abs(hour.getTime() - (date + step + 3600)) < 60
    assert isinstance(hour, DelayedCall)
    hour.cancel()


@pytest.fixture
def running():
    """An event loop of uvloop."""
    loop = uvloop.new_event_loop()
    yield loop
    loop.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has timers of this kind")
def test_the_kernels_timer_fires_at_its_time_and_never_before(running):
    """A part of a millisecond counts; a time that is over fires in the next turn."""
    fired = []

    def note():
        fired.append(time.monotonic() - timer.wanted)
        running.stop()

    timer = KernelTimer(running, note)
    for seconds in (0.0104, 0.0005, 0.0, -1.0):
        timer.wanted = time.monotonic() + seconds
        timer.set(timer.wanted)
        running.run_forever()
    assert len(fired) == 4
    assert min(fired) >= 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has timers of this kind")
def test_a_time_that_is_set_later_replaces_the_one_before(running):
    """Also if the timer has expired, and that was not read."""
    fired = []
    timer = KernelTimer(running, lambda: fired.append(time.monotonic()))
    timer.set(1.0)
    at = time.monotonic() + 0.01
    timer.set(at)
    running.call_at(running.time() + 0.02, running.stop)
    running.run_forever()
    assert len(fired) == 1
    assert fired[0] >= at


def test_a_timer_of_the_loop_takes_the_place_of_one_that_the_kernel_refuses(running, monkeypatch):
    """As in a sandbox without timerfd_create(2)."""
    monkeypatch.setattr(timerfd, "CLOCK_MONOTONIC", 12345)  # EINVAL
    assert timers.make_kernel_timer(running, lambda: None) is None
    done = []

    def wake():
        calls.run_due()
        calls.arm()

    calls = TimedCalls(running, wake)
    calls.add(0.001, lambda: (done.append(True), running.stop()), (), {})
    running.run_forever()
    assert done == [True]
