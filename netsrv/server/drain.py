"""A drain: live connections end in their own time, and are aborted after a deadline."""

from collections.abc import Callable, Sequence
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, DeferredList
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
