"""Work that is taken in slices, one in each turn of the reactor, and how it ends before."""

from contextlib import contextmanager

import pytest
from twisted.internet.defer import CancelledError

from netsrv.server.slices import SLICE_DURATION, Phase, SlicedWork


class Reactor:
    """Keeps the calls for its next turns; each call takes a turn."""

    def __init__(self):
        self.calls = []

    def callLater(self, delay, call):
        assert delay == 0
        self.calls.append(call)
        return self

    def cancel(self):
        """Cancel the call that waits: there is never more than one."""
        [_] = self.calls
        self.calls = []


class Bench:
    """Work of ten steps, half of which plan; two of them take longer than a slice."""

    def __init__(self, step_seconds=SLICE_DURATION * 0.6):
        self.reactor = Reactor()
        self.time, self.step_seconds = 0.0, step_seconds
        self.steps, self.on_step = [], {}
        self.inside, self.entries, self.fails_at = False, 0, None
        self.outcomes = []
        self.work = SlicedWork(self.reactor, self.take(), lambda: self.time, self.entered)
        self.work.result.addBoth(self.end)

    def end(self, outcome):
        self.ended_inside = self.inside
        self.outcomes.append(outcome)

    def take(self):
        for number in range(10):
            assert self.inside
            self.steps.append(number)
            self.time += self.step_seconds
            self.on_step.get(number, lambda: None)()
            yield Phase.PLANNING if number < 5 else Phase.APPLYING

    @contextmanager
    def entered(self):
        self.entries += 1
        if self.entries == self.fails_at:
            raise OSError("cannot be entered")
        self.inside = True
        try:
            yield
        finally:
            self.inside = False

    def run(self):
        """Turn the reactor until it has nothing to do; return the number of turns."""
        turns = 0
        while self.reactor.calls:
            self.turn()
            turns += 1
        return turns

    def turn(self):
        """Turn the reactor once."""
        assert not self.inside
        self.reactor.calls.pop()()


@pytest.mark.parametrize(("step_seconds", "turns"), [(0, 0), (SLICE_DURATION * 0.6, 5)])
def test_f132_a_turn_takes_the_steps_of_one_slice(step_seconds, turns):
    """Short work ends within the first turn; long work goes on in the next ones."""
    bench = Bench(step_seconds)
    bench.work.take_slice()
    assert len(bench.steps) == (2 if turns else 10)
    assert bench.run() == turns
    assert (bench.steps, bench.outcomes) == (list(range(10)), [None])


def test_each_slice_runs_in_the_context_and_the_turns_between_do_not():
    """The context is entered once in each slice, and left before the result fires."""
    bench = Bench()
    bench.work.take_slice()
    assert bench.run() + 1 == bench.entries
    assert bench.ended_inside is False


def test_work_that_plans_is_abandoned():
    """Its result is the reason; no step is taken any more."""
    bench, reason = Bench(), RuntimeError("stopped")
    bench.work.take_slice()
    bench.work.settle(reason)
    assert bench.outcomes[0].value is reason
    assert (bench.run(), bench.steps) == (0, [0, 1])


def test_work_that_is_applied_is_completed_at_once():
    """All steps are taken in the present turn, and the reactor keeps no call."""
    bench = Bench()
    bench.work.take_slice()
    bench.turn()
    bench.turn()
    assert bench.steps == list(range(6))
    bench.work.settle(RuntimeError("stopped"))
    assert (bench.steps, bench.outcomes) == (list(range(10)), [None])
    assert bench.run() == 0
    bench.work.settle(RuntimeError("again"))
    assert bench.outcomes == [None]


@pytest.mark.parametrize("number", [3, 7])
def test_a_step_that_settles_the_work_is_the_last_one(number):
    """A service that is called in a step may stop the server."""
    bench, reason = Bench(), RuntimeError("stopped")
    bench.on_step[number] = lambda: bench.work.settle(reason)
    bench.work.take_slice()
    bench.run()
    assert bench.steps == list(range(number + 1))
    assert bench.outcomes[0].value is reason


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit()])
def test_an_error_ends_the_work(error):
    """The result is what the step has raised."""
    bench = Bench()

    def fail():
        raise error

    bench.on_step[3] = fail
    bench.work.take_slice()
    bench.run()
    assert bench.outcomes[0].value is error


@pytest.mark.parametrize(("turns", "steps"), [(0, 2), (2, 10)])
def test_work_whose_result_is_cancelled_is_settled(turns, steps):
    """What is planned is abandoned, what is being applied is completed."""
    bench = Bench()
    bench.work.take_slice()
    for _ in range(turns):
        bench.turn()
    bench.work.result.cancel()
    assert bench.run() == 0
    assert len(bench.steps) == steps
    assert len(bench.outcomes) == 1
    assert (bench.outcomes[0] is None) == (steps == 10)
    assert steps == 10 or bench.outcomes[0].check(CancelledError)


def test_a_step_that_cancels_the_result_is_the_last_one():
    """No step follows, and nothing is reported twice."""
    bench = Bench()
    bench.on_step[3] = bench.work.result.cancel
    bench.work.take_slice()
    bench.run()
    assert bench.steps == [0, 1, 2, 3]


@pytest.mark.parametrize("fails_at", [1, 2, 4])
def test_a_context_that_cannot_be_entered_ends_the_work(fails_at):
    """The result is the error, the steps are told to end, and settling is harmless."""
    bench = Bench()
    bench.fails_at = fails_at
    bench.work.take_slice()
    bench.run()
    assert bench.outcomes[0].check(OSError)
    bench.work.settle(RuntimeError("stopped"))
    assert len(bench.outcomes) == 1
