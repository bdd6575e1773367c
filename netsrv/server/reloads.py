"""The reloads of a server: one at a time, at once or over turns of the reactor."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock, ensureDeferred
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from netsrv.config.model import Configuration, ListenerSettings
from netsrv.registry import Registry, find_services
from netsrv.server.reload import CheckedConfiguration, check_configuration
from netsrv.server.slices import SlicedWork, Steps
from netsrv.sockets.opening import Resolver

REPLACED = "another reload has taken the place of this one"


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
            configuration = await self._check(configuration, registry)
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
        return work

    async def _check(
        self, configuration: Configuration, registry: Registry | None
    ) -> CheckedConfiguration:
        """Check in a thread, if the reactor has threads."""
        running = self._running()

        def check() -> CheckedConfiguration:
            return check_configuration(configuration, running, registry or find_services())

        if not IReactorThreads.providedBy(self._reactor):
            return check()
        return await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), check)
