"""The status of a server: what it is asked for by its status server, and by programs."""

import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread
from twisted.python import threadable
from twisted.python.failure import Failure
from zope.interface import implementer

from netsrv import __version__
from netsrv.config.model import Configuration
from netsrv.config.status import StatusSettings
from netsrv.gate import Gate
from netsrv.guards.capacity import ConnectionSlots
from netsrv.interfaces import IServerAware, IServerStatus, ListenerInfo, ListenerState
from netsrv.observers.counters import Counters
from netsrv.observers.dispatch import ObserverDispatcher
from netsrv.server.announcements import Announcement
from netsrv.server.listener_set import Listeners
from netsrv.server.logs import ServerLogs
from netsrv.server.reloads import ReloadHistory
from netsrv.server.slices import SlicedWork, Steps
from netsrv.server.snapshots import ListenerReader
from netsrv.server.watchdog import StallDetector
from netsrv.status.document import decode_listeners
from netsrv.status.opening import PreparedStatus
from netsrv.status.process import process_facts
from netsrv.status.source import Sample, ServerState, Snapshot

if TYPE_CHECKING:
    from netsrv.status.service import StatusService

T = TypeVar("T")

CONTRACT = 1
"""The version of the form of a snapshot: keys are only added to one version."""

NOT_READY = (ListenerState.FAILED, ListenerState.SUSPENDED)


@implementer(IServerStatus)
@define(kw_only=True, eq=False)
class ServerStatus:
    """The status of one server, made of its parts.

    *configuration* returns the configuration in effect; *now* returns seconds of a monotonic
    clock; *descriptors* are those that the process may have.
    """

    reactor: Any
    listeners: Listeners
    slots: ConnectionSlots
    counters: Counters
    stall_detector: StallDetector
    reloads: ReloadHistory
    logs: ServerLogs
    observers: ObserverDispatcher
    configuration: Callable[[], Configuration]
    descriptors: int
    now: Callable[[], float]

    state: ServerState = ServerState.STARTING
    """What the server does."""
    _started_at: float = field(factory=time.time, init=False)
    _most_connections: int = field(default=0, init=False)
    _reader: ListenerReader = field(init=False)
    _waiters: list[Deferred[Snapshot]] = field(factory=list, init=False)
    _service: "StatusService | None" = field(default=None, init=False)
    _reading: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._reader = ListenerReader(self.listeners, self.counters, self.descriptors)

    # The status server

    def start(self, prepared: PreparedStatus) -> None:
        """Note that the server starts, and start its status server if it has one."""
        self.state, self._started_at = ServerState.STARTING, time.time()
        if prepared.settings.wanted:
            from netsrv.status.service import StatusService  # twisted.web takes 100 ms to import

            self._service = StatusService(self.reactor, prepared, self, self.observers, self.now)
            self._service.start()

    def stop(self) -> None:
        """Stop the status server."""
        if self._service is not None:
            self._service.stop()
            self._service = None

    @property
    def urls(self) -> dict[str, str]:
        """Where ``status`` and ``health`` are served, while they are."""
        return self._service.urls if self._service is not None else {}

    def announcements(self) -> Iterator[Announcement]:
        """Yield a line of the log for each address of the status server."""
        for what, url in self.urls.items():
            yield "Serving {what} on {url}", {"what": what, "url": url}

    def read_token(self, settings: StatusSettings) -> str | None:
        """Return the token for other *settings*.  Raises `ConfigurationError`."""
        return None if self._service is None else self._service.read_token(settings)

    def update(self, settings: StatusSettings, token: str | None) -> list[str]:
        """Use other settings; return a line for each that needs a restart."""
        names = [name for name in ("address", "health") if getattr(settings, name) is not None]
        if self._service is not None:
            names = self._service.update(settings, token)
        return [f"status.{name} changes with a restart" for name in names]

    # Readiness

    @property
    def ready(self) -> bool:
        """True if the server is started, not ending, and all of its listeners serve."""
        return not self.reasons()

    @property
    def free_share(self) -> float:
        """The free part of the slots at the fullest listener: see `IServerStatus`."""
        shares = (
            listener.gate.admission.free_share
            for listener in self.listeners.running
            if not IServerAware.providedBy(listener.service)
        )
        return min(shares, default=1.0)

    def reasons(self) -> list[str]:
        """Return the reasons why the server is not ready, a line each."""
        state = [] if self.state is ServerState.READY else [f"the server is {self.state}"]
        return [*state, *self.failed_listeners()]

    def failed_listeners(self) -> list[str]:
        """Return a line for each listener that has failed, or was suspended by its owner."""
        lines = []
        for listener in self.listeners.running:
            state, reason = listener.state
            if state in NOT_READY:
                name = self.id_of(listener.listener_info)
                lines.append(f"{name}: {state}{f': {reason}' if reason else ''}")
        return lines

    # Snapshots

    def id_of(self, listener: ListenerInfo) -> str:
        """Return the unique name of a listener in the status and in metrics."""
        return self._reader.id_of(listener)

    @property
    def lag(self) -> float:
        """The delay of the last timer of a second, in seconds."""
        return self.stall_detector.lags[-1] if self.stall_detector.lags else 0.0

    def take_snapshot(self) -> Deferred[Snapshot]:
        """Take a snapshot in slices; it has all that happened before the call.

        Callers that come during one share the next one.
        """
        waiter: Deferred[Snapshot] = Deferred()
        self._waiters.append(waiter)
        if not self._reading:
            self._begin_reading()
        return waiter

    def read_snapshot(self) -> Snapshot:
        """Take a snapshot at once, in the reactor's thread, with listeners as plain values.

        Any thread may call.
        """
        in_other_thread = threadable.ioThread not in (None, threadable.getThreadID())
        if in_other_thread and self.reactor.running:
            snapshot: Snapshot = blockingCallFromThread(self.reactor, self.read_snapshot)
            return snapshot
        return decode_listeners(_take_all(self._read_steps()))

    def read_last(self, gates: Sequence[Gate]) -> Snapshot:
        """Take a snapshot at once, with the listeners of *gates*, which are closed."""
        return {**self._read_server(), **_take_all(self._reader.read_closed(gates))}

    def take_samples(self) -> Deferred[Sequence[Sample]]:
        """Read the counts of all listeners in slices."""
        return self._in_slices(self._sample_steps())

    def reload_events(self) -> list[dict[str, Any]]:
        """Return the last reloads, in the form of the events of the status."""
        return self.reloads.events()

    def _begin_reading(self) -> None:
        waiters, self._waiters = self._waiters, []
        self._reading = True

        def finished(result: Snapshot | Failure) -> None:
            self._reading = False
            if self._waiters:
                self._begin_reading()
            for waiter in waiters:
                waiter.callback(result)

        self._in_slices(self._read_steps()).addBoth(finished)

    def _in_slices(self, steps: Steps[T]) -> Deferred[T]:
        results: list[T] = []

        def keep() -> Steps[None]:
            results.append((yield from steps))

        work = SlicedWork(self.reactor, keep(), self.now)
        work.take_slice()
        return work.result.addCallback(lambda _none: results[0])

    def _sample_steps(self) -> Steps[Sequence[Sample]]:
        samples = yield from self._reader.read_samples()
        self._note_connections()
        return samples

    def _note_connections(self) -> None:
        self._most_connections = max(self._most_connections, self.listeners.connections)

    def _read_steps(self) -> Steps[Snapshot]:
        listeners = yield from self._reader.read()
        return {**self._read_server(), **listeners}

    def _read_server(self) -> Snapshot:
        self._note_connections()
        reasons = self.reasons()
        return {
            "contract": CONTRACT,
            "version": __version__,
            "reactor": type(self.reactor).__name__,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "start": self._started_at,
            "now": time.time(),
            "state": str(self.state),
            "ready": not reasons,
            "reasons": reasons,
            "connections": {
                "now": self.listeners.connections,
                "most": self._most_connections,
                "limit": int(self.slots.limit),
            },
            "config": describe_reloads(self.configuration(), self.reloads, self._started_at),
            "loop": {
                "lag": self.lag,
                "lag_most": max(self.stall_detector.lags, default=0.0),
                "stalls": self.counters.stalls,
                "stalled_seconds": self.counters.stalled_seconds,
            },
            "process": process_facts(),
            **self._read_logs(),
            **self._read_certificates(),
            "faults": [],
            "workers": None,
        }

    def _read_certificates(self) -> dict[str, Any]:
        stores = self.listeners.certificates
        return {
            "certificates": [certificate for store in stores for certificate in store.describe()],
            "certificate_renewals": dict(sum((store.renewals for store in stores), Counter())),
        }

    def _read_logs(self) -> dict[str, Any]:
        access_log = self.logs.access_log.file if self.logs.access_log else None
        lost = sum(getattr(stream, "dropped", 0) for stream in (sys.stdout, sys.stderr))
        return {
            "log_lines_dropped": {
                "log_rate": self.logs.suppressed_lines,
                "output": lost,
                "access_log": access_log.dropped if access_log else 0,
            },
            "access_log": access_log and {"path": access_log.path, "dropped": access_log.dropped},
        }


def describe_reloads(
    configuration: Configuration, reloads: ReloadHistory, started_at: float
) -> dict[str, Any]:
    """Return the keys of ``config`` in the status."""
    last = reloads.last[-1] if reloads.last else None
    return {
        "file": configuration.file,
        "last_reload": last and {"time": last.time, "result": last.result, "error": last.error},
        "reloads": dict(reloads.counts),
        "success_at": started_at if reloads.success_at is None else reloads.success_at,
    }


def _take_all(steps: Generator[Any, None, T]) -> T:
    """Take all steps at once, and return the result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
