"""Work in slices: a generator of steps, some of which are taken in each turn of the reactor."""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, nullcontext
from enum import Enum, auto
from inspect import GEN_CLOSED, GEN_RUNNING, getgeneratorstate
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

SLICE_DURATION = 0.005
"""Seconds after which the steps of one turn are over."""

Result = TypeVar("Result")


class Phase(Enum):
    """What may happen to work between two steps, which yield it."""

    PLANNING = auto()
    """It may be abandoned: nothing has changed."""
    APPLYING = auto()
    """It has to be completed."""


Steps = Generator[Phase, None, Result]
"""Work that yields its phase after each step."""


class SlicedWork:
    """Takes the steps of a generator.

    *now* returns seconds of a monotonic clock.  Each slice runs in the context of *entered*.
    Twisted's `Cooperator` cannot complete or abandon its work within the present turn.
    """

    def __init__(
        self,
        reactor: Any,
        steps: Steps[None],
        now: Callable[[], float],
        entered: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.result: Deferred[None] = Deferred(lambda _result: self.settle(CancelledError()))
        """Fires after the last step, or with the error that a step has raised.

        To cancel it settles the work.
        """
        self._reactor = reactor
        self._steps = steps
        self._now = now
        self._entered = entered
        self._phase = Phase.PLANNING
        self._reason: BaseException | None = None
        self._next_slice: Any = None

    def take_slice(self) -> None:
        """Take steps for `SLICE_DURATION`, and go on in the next turn of the reactor."""
        self._next_slice = None
        end = self._now() + SLICE_DURATION
        self._take_steps(lambda: self._now() >= end)

    def take_all(self) -> None:
        """Take all steps that are left in the present turn."""
        if self._next_slice is not None:
            self._next_slice.cancel()
            self._next_slice = None
        self._take_steps(lambda: False)

    def settle(self, reason: BaseException) -> None:
        """End the work now: complete it if it is being applied, else abandon it with *reason*.

        If one of the steps calls this method, that step is the last one.
        """
        state = getgeneratorstate(self._steps)
        if state == GEN_CLOSED:
            return
        if state == GEN_RUNNING:
            self._reason = reason
            return
        if self._phase is Phase.PLANNING:
            self._reason = reason
        self.take_all()

    def _take_steps(self, is_over: Callable[[], bool]) -> None:
        """Take steps, at least one, until *is_over* returns True.

        The result fires outside of the context, and of the steps.
        """
        failure: Failure | None = None
        try:
            with self._entered():
                while self._take_step():
                    if is_over():
                        self._next_slice = self._reactor.callLater(0, self.take_slice)
                        return
        except BaseException:  # a step may call a third party's service
            failure = Failure()
            self._steps.close()
        if not self.result.called:  # a step may have cancelled it
            self.result.callback(failure)

    def _take_step(self) -> bool:
        """Take a step; return False if none is left.  Raises what the step raises."""
        try:
            if self._reason is not None:
                self._steps.throw(self._reason)
            self._phase = next(self._steps)
        except StopIteration:
            return False
        return True
