"""A drain: live connections end in their own time, and are aborted after a deadline.

Before it there may be a delay, in which the server serves and says that it is not ready.
"""

from collections.abc import Callable, Sequence
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.logger import Logger

from netsrv.gate import Gate
from netsrv.settings import count_of


@frozen
class Drained:
    """The result of a drain: connections that ended, and connections that were aborted."""

    ended: int
    aborted: int


ABORT_TIMEOUT = 1.0
"""Seconds from the abort to the end of a drain, whatever is left."""


class ShutdownDelay:
    """The delay of a drain: *delay* seconds of *clock* from when it is made."""

    log = Logger()

    def __init__(self, clock: Any, delay: float) -> None:
        self.over: Deferred[None] = Deferred(lambda _over: self.end())
        """Fires when the time is over, or at `end`."""
        self._timer = clock.callLater(delay, self.end)
        self.log.info(
            "Not ready: still serving for {delay:g} s, then draining; a second signal ends it now "
            "(--shutdown-delay)",
            delay=delay,
        )

    def end(self) -> None:
        """End the delay now."""
        if self._timer.active():
            self._timer.cancel()
        if not self.over.called:
            self.over.callback(None)


class Drain:
    """One drain of *gates*, which are closed or will be; it starts when it is made.

    After *timeout* seconds of *clock* it calls *abort_all*.  *aborted* returns how many
    connections the server has aborted so far.
    """

    log = Logger()

    def __init__(
        self,
        clock: Any,
        gates: Sequence[Gate],
        timeout: float,
        abort_all: Callable[[], None],
        aborted: Callable[[], int],
    ) -> None:
        self._clock = clock
        self._gates = gates
        self._abort_all = abort_all
        self._left = sum(gate.open_connections for gate in gates)
        self._aborted = aborted
        self._aborted_before = aborted()
        if self._left:
            self.log.info(
                "Draining: {left}, at most {timeout:g} s; a second signal ends it now",
                left=count_of(self._left, "connection"),
                timeout=timeout,
            )
        self._timer = clock.callLater(timeout, self.abort)
        self._aborting = False
        self.result: Deferred[Drained] = DeferredList(
            [gate.when_drained() for gate in gates]
        ).addCallback(self._ended)
        """Fires when the last connection has ended."""

    def abort(self) -> None:
        """Abort the connections that are left, and give them up `ABORT_TIMEOUT` later."""
        self._abort_all()
        if not (self._aborting or self.result.called):
            self._aborting = True
            if self._timer.active():
                self._timer.cancel()
            self._timer = self._clock.callLater(ABORT_TIMEOUT, self._give_up)

    def _give_up(self) -> None:
        for gate in self._gates:
            gate.give_up_all()

    def _ended(self, _results: Any) -> Drained:
        if self._timer.active():
            self._timer.cancel()
        aborted = self._aborted() - self._aborted_before
        drained = Drained(self._left - aborted, aborted)
        if self._left:
            self.log.info(
                "Drained: {ended} ended, {aborted} aborted",
                ended=count_of(drained.ended, "connection"),
                aborted=drained.aborted,
            )
        return drained


class Drains:
    """The delays and drains of a server that are not over.

    The arguments are those of `Drain`.
    """

    def __init__(
        self, clock: Any, abort_all: Callable[[], None], aborted: Callable[[], int]
    ) -> None:
        self._clock = clock
        self._abort_all = abort_all
        self._aborted = aborted
        self._delays: list[ShutdownDelay] = []
        self._drains: list[Drain] = []
        self._at_once = False

    @property
    def active(self) -> bool:
        """True while a delay or a drain is not over."""
        return bool(self._delays or self._drains)

    def reset(self) -> None:
        """Give delays and drains their time again, after `abort`."""
        self._at_once = False

    def delay(self, seconds: float) -> Deferred[None]:
        """Fire after *seconds*, or when `end_delays` is called; immediately after `abort`."""
        if self._at_once:
            return succeed(None)
        delay = ShutdownDelay(self._clock, seconds)
        self._delays.append(delay)
        return delay.over

    def end_delays(self) -> None:
        """End all delays now: a drain begins."""
        delays, self._delays = self._delays, []
        for delay in delays:
            delay.end()

    def begin(self, gates: Sequence[Gate], timeout: float) -> Deferred[Drained]:
        """Start a drain, and fire with its result; it has no time after `abort`."""
        limit = 0 if self._at_once else timeout
        drain = Drain(self._clock, gates, limit, self._abort_all, self._aborted)
        self._drains.append(drain)

        def over(drained: Drained) -> Drained:
            self._drains.remove(drain)
            return drained

        return drain.result.addCallback(over)

    def abort(self) -> None:
        """Abort all connections now, and those of a drain that is yet to start."""
        self._at_once = True
        self.end_delays()
        self._abort_all()
        for drain in list(self._drains):
            drain.abort()
