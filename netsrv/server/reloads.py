"""The reloads of a server: one at a time, at once or over turns of the reactor."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred, DeferredLock, ensureDeferred
from twisted.python.failure import Failure

from netsrv.config.model import Configuration, ListenerSettings
from netsrv.in_thread import call_in_thread
from netsrv.registry import Registry, find_services
from netsrv.server.checked import CheckedConfiguration, check_configuration
from netsrv.server.slices import SlicedWork, Steps
from netsrv.settings import MAX_TEXT_LENGTH, shorten
from netsrv.sockets.opening import Resolver

REPLACED = "another reload has taken the place of this one"

SUCCESS, FAILURE, ABANDONED = RESULTS = ("success", "failure", "abandoned")
"""How a reload may end; an abandoned one has changed nothing because another event came first."""

MAX_REMEMBERED = 10

MAX_ERROR_LENGTH = 4 * MAX_TEXT_LENGTH
"""Characters of the error of a reload that are remembered."""


@frozen
class ReloadResult:
    """How a reload has ended: Unix time, one of `RESULTS`, and the lines of the error."""

    time: float
    result: str
    error: str


class ReloadHistory:
    """How the reloads of a server have ended."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(RESULTS, 0)
        self.last: deque[ReloadResult] = deque(maxlen=MAX_REMEMBERED)
        """The last results, the newest at the end."""
        self.success_at: float | None = None
        """Unix time of the last successful reload."""

    def add(self, error: BaseException | None = None) -> None:
        """Add a reload that has succeeded, or has failed with *error*."""
        result = SUCCESS if error is None else FAILURE
        if isinstance(error, CancelledError | RuntimeError):
            result = ABANDONED
        self.counts[result] += 1
        text = "" if error is None else str(error) or type(error).__name__
        self.last.append(ReloadResult(time.time(), result, shorten(text, MAX_ERROR_LENGTH)))
        if error is None:
            self.success_at = self.last[-1].time

    def events(self) -> list[dict[str, Any]]:
        """Return the last reloads, in the form of the events of the status."""
        return [
            {
                "time": result.time,
                "listener": "",
                "event": "reload_failed" if result.result == FAILURE else "reloaded",
                "text": result.error,
            }
            for result in self.last
        ]


class Reloads:
    """The reloads of one server.

    *steps* returns the steps of a reload, and raises if there can be none.  *running* returns
    the settings of the running listeners.  *now* returns seconds of a monotonic clock.
    """

    def __init__(
        self,
        reactor: Any,
        steps: Callable[[CheckedConfiguration], Steps[None]],
        running: Callable[[], Sequence[ListenerSettings]],
        now: Callable[[], float],
    ) -> None:
        self._reactor = reactor
        self._steps = steps
        self._running = running
        self._now = now
        self._lock = DeferredLock()
        self._present: SlicedWork | None = None
        self._reason = ""
        self._ended = 0
        self.history = ReloadHistory()

    def end_all(self, reason: str) -> None:
        """End the present reload, see `SlicedWork.settle`, and those that wait for it."""
        self._ended += 1
        self._reason = reason
        if self._present is not None:
            self._present.settle(RuntimeError(reason))

    def reload_at_once(
        self, configuration: Configuration | CheckedConfiguration, registry: Registry | None
    ) -> None:
        """Reload in the present turn; a reload in progress is ended first."""
        if not isinstance(configuration, CheckedConfiguration):
            registry = registry or find_services()
            configuration = CheckedConfiguration(configuration, registry, Resolver())
        steps = self._steps(configuration)
        self.end_all(REPLACED)
        work = self._begin(steps)
        failures: list[Failure] = []
        work.result.addErrback(failures.append)
        work.take_all()
        for failure in failures:
            failure.raiseException()

    def reload_in_turns(
        self,
        configuration: Configuration | CheckedConfiguration,
        registry: Registry | None,
        entered: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> Deferred[None]:
        """Reload over turns of the reactor, after the reloads that were begun before."""
        ended = self._ended

        def start() -> Deferred[None]:
            return ensureDeferred(self._reload(configuration, registry, entered, ended))

        return self._lock.run(start)

    async def _reload(
        self,
        configuration: Configuration | CheckedConfiguration,
        registry: Registry | None,
        entered: Callable[[], AbstractContextManager[None]],
        ended: int,
    ) -> None:
        if not isinstance(configuration, CheckedConfiguration):
            try:
                configuration = await self._check(configuration, registry)
            except BaseException as error:
                self.history.add(error)
                raise
        if ended != self._ended:
            raise RuntimeError(self._reason)
        work = self._begin(self._steps(configuration), entered)
        work.take_slice()
        await work.result

    def _begin(
        self,
        steps: Steps[None],
        entered: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> SlicedWork:
        self._present = work = SlicedWork(self._reactor, steps, self._now, entered)
        work.result.addBoth(self._record)
        return work

    def _record(self, result: Failure | None) -> Failure | None:
        self.history.add(None if result is None else result.value)
        return result

    async def _check(
        self, configuration: Configuration, registry: Registry | None
    ) -> CheckedConfiguration:
        """Check in a thread."""
        running = self._running()

        def check() -> CheckedConfiguration:
            return check_configuration(configuration, running, registry or find_services())

        return await call_in_thread(self._reactor, check)
