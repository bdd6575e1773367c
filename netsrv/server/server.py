"""The server: listeners started together, watched, changed while they run, and drained.

A start has two steps: `netsrv.server.prepare` builds the services and binds the sockets,
without a reactor; then the `Server` here serves on them.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from attrs import evolve
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from netsrv import __version__
from netsrv.config.model import Configuration, ListenerSettings, LogLevel
from netsrv.guards.admission import Admission
from netsrv.guards.capacity import ConnectionSlots
from netsrv.guards.limits import Limits
from netsrv.interfaces import IObserver
from netsrv.observers.counters import Counters
from netsrv.observers.dispatch import ObserverDispatcher
from netsrv.observers.waiter import ConnectionWaiter
from netsrv.registry import Registry, find_services
from netsrv.server.additions import prepare_listener
from netsrv.server.announcements import Announcer, announce_listeners, announce_start
from netsrv.server.checked import CheckedConfiguration
from netsrv.server.control import ServerControl
from netsrv.server.descriptors import connection_limit, descriptor_limit
from netsrv.server.drain import Drained, Drains
from netsrv.server.listener_set import Listeners
from netsrv.server.listeners import RunningListener
from netsrv.server.logs import ServerLogs
from netsrv.server.prepare import Prepared, open_access_log, prepare
from netsrv.server.reload import plan_reload
from netsrv.server.reloads import Reloads
from netsrv.server.renewals import Renewals
from netsrv.server.slices import Phase, Steps
from netsrv.server.status import ServerStatus
from netsrv.server.watchdog import StallDetector
from netsrv.sockets.addresses import printable
from netsrv.sockets.opening import OpenSocket
from netsrv.status.source import ServerState

NOT_RUNNING = "the server is not running"


class Server(Service):
    """Serves a configuration.  An `IService`, on its own or with a parent.

    *reactor* provides IReactorTime, IReactorFDSet and IReactorSocket.  *configuration* may
    also be the listeners alone, each made by `listener`, or one listener.  *prepared* is the
    result of `prepare`; without it, `startService` binds the sockets, and raises what `prepare`
    does.  *observers* receive all events, as the built-in ones do.  *now* returns seconds of a
    monotonic clock.  Unless *announces*, the log does not tell of the start.  *make_admission* is
    called as `Admission`.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        configuration: Configuration | ListenerSettings | Iterable[ListenerSettings],
        prepared: Prepared | None = None,
        observers: Iterable[IObserver] = (),
        now: Callable[[], float] = time.monotonic,
        announces: bool = True,
        make_admission: Callable[[Limits, ConnectionSlots, float], Admission] = Admission,
    ) -> None:
        if isinstance(configuration, ListenerSettings):
            configuration = (configuration,)
        if not isinstance(configuration, Configuration):
            configuration = Configuration(tuple(configuration))
        self.aborted = 0
        """Connections that were aborted because a drain's time was over."""
        self.counters = Counters()
        self.observers = ObserverDispatcher([self.counters, *observers])
        """All observers; add and remove some at any time."""
        self._configuration = configuration
        self._reactor = reactor
        self._prepared = prepared
        self._descriptors = descriptor_limit(reactor)
        slots = ConnectionSlots(connection_limit(self._descriptors))
        counts = self.counters.listeners.__getitem__
        self._listeners = Listeners(reactor, self.observers, slots, counts, now, make_admission)
        self._reloads = Reloads(reactor, self._reload_steps, lambda: self._running_settings, now)
        self._stall_detector = StallDetector(reactor, now, self._stalled)
        self._renewals = Renewals(reactor, lambda: self._listeners.certificates)
        self._logs = ServerLogs(reactor, self.observers, lambda: self._has_several)
        self.status = ServerStatus(
            reactor=reactor,
            listeners=self._listeners,
            slots=slots,
            counters=self.counters,
            stall_detector=self._stall_detector,
            reloads=self._reloads.history,
            logs=self._logs,
            observers=self.observers,
            configuration=lambda: self._configuration,
            descriptors=self._descriptors,
            now=now,
        )
        """Whether the server is ready, and its state in plain values."""
        self._listeners.server_status = self.status
        self.control = ServerControl(reactor, self, now)
        self._announcer = Announcer(reactor, self.log if announces else None)
        self._had_several = False
        self._serving = False
        self._drains = Drains(reactor, self._abort, lambda: self.aborted)

    @property
    def log_level(self) -> LogLevel:
        """The level of the log in effect."""
        return self._configuration.level

    @property
    def configuration(self) -> Configuration:
        """The configuration in effect, with the listeners that are running now."""
        running = self._running_settings
        if self._serving and running != self._configuration.listeners:
            self._configuration = evolve(self._configuration, listeners=running)
        return self._configuration

    @property
    def listeners(self) -> list[RunningListener]:
        """The running listeners, in the configuration's order at the start, later ones last."""
        return list(self._listeners.running)

    @property
    def _running_settings(self) -> tuple[ListenerSettings, ...]:
        return tuple(listener.settings for listener in self._listeners.running)

    @property
    def sockets(self) -> list[OpenSocket]:
        """The sockets of the running listeners, in the order of `listeners`."""
        return [listener.socket for listener in self._listeners.running]

    @property
    def connections(self) -> int:
        """The number of live connections."""
        return self._listeners.connections

    @property
    def _has_several(self) -> bool:
        """True if lines about peers name the listener, also while the last one is drained."""
        return self._had_several or len(self._listeners.running) > 1

    # Start

    def startService(self) -> None:
        """Start all listeners, or none: raises what one of them raises."""
        if self._serving or self._drains.active:
            raise RuntimeError("the server is running; wait for the Deferred of stopService")
        prepared = self._prepared or prepare(self._configuration)
        self._prepared = None
        self.aborted = 0
        self._drains.reset()
        for problem in prepared.problems:
            self.log.warn("{problem}", problem=problem)
        self._had_several = False
        self._logs.start(self._configuration, prepared.access_log)
        try:
            self.status.start(prepared.status)
            self.control.start(prepared.control)
            for listener in prepared.listeners:
                self._listeners.add(listener)
        except BaseException:
            for running in self.listeners:
                running.suspend()  # do not serve the backlog of a server that does not start
                self._listeners.remove(running)
            self.status.stop()
            self.control.stop()
            prepared.close()
            self._logs.stop()
            raise
        super().startService()
        self._serving = True
        self.status.state = ServerState.READY
        self._stall_detector.start()
        self._renewals.start()
        start = self._reactor, self._configuration, self.listeners, self._descriptors
        self._announcer.add(announce_start(*start))
        self._announcer.add(self.status.announcements())
        self._announcer.add(self.control.announcements())

    # Drain

    def stopService(self) -> Deferred[None]:
        """Drain for the times that the configuration gives: see `drain`."""
        super().stopService()
        times = self._configuration.shutdown_timeout, self._configuration.shutdown_delay
        return self.drain(*times).addCallback(lambda _drained: None)

    def drain(self, timeout: float, delay: float = 0.0) -> Deferred[Drained]:
        """Fire when the live connections have ended, or are aborted after *timeout* seconds.

        The server is not ready from now on, but serves for *delay* seconds more.  Then all
        listeners take their backlog and are closed before any connection is waited for.  A
        reload in progress is completed first, or abandoned if it has changed nothing yet.
        `abort`, and another drain without a delay, end the delay.
        """
        self.status.state = ServerState.DRAINING
        self._reloads.end_all(NOT_RUNNING)
        self._announcer.forget()
        self._configuration = self.configuration
        self._serving = False
        if not (delay and self._listeners.running):
            return self._drain_now(timeout)
        return self._drains.delay(delay).addCallback(lambda _none: self._drain_now(timeout))

    def _drain_now(self, timeout: float) -> Deferred[Drained]:
        self._drains.end_delays()
        self._had_several = self._has_several
        self._stall_detector.stop()
        self._renewals.stop()
        if self._prepared is not None:
            self._prepared.close()
            self._prepared = None
        for listener in self.listeners:
            self._listeners.remove(listener)
        return self._drains.begin(self._listeners.gates, timeout).addCallback(self._drained)

    def _drained(self, drained: Drained) -> Drained:
        if not self._drains.active:
            self.status.stop()
            self.control.stop()
            self._logs.stop()
        return drained

    def abort(self) -> None:
        """Abort the live connections now, and those of a drain that is yet to start."""
        self._drains.abort()

    def _abort(self) -> None:
        self.aborted += sum(gate.abort_all() for gate in self._listeners.gates)

    def _stalled(self, seconds: float) -> None:
        self.observers.stalled(seconds)

    # While it runs

    def listener_for(self, settings: ListenerSettings) -> RunningListener:
        """Return the running listener of *settings*: its operations, its address in effect.

        Raises LookupError if there is none.
        """
        if (listener := self._listeners.find(settings)) is not None:
            return listener
        raise LookupError(f"{settings.address_label} is not among the running listeners")

    def add_listener(self, settings: ListenerSettings) -> RunningListener:
        """Serve one more listener; the others are not touched.  To look up a host name blocks.

        Raises `ConfigurationError`, `netsrv.sockets.SocketError` or what its factory's start
        raises, and then nothing has changed; RuntimeError unless the server is running.
        """
        if not self._serving:
            raise RuntimeError("the server is not running; give it its listeners when it is made")
        registry = Registry() if settings.embedded else find_services()
        prepared = prepare_listener(settings, self.listeners, registry)
        try:
            listener = self._listeners.add(prepared)
        except BaseException:
            prepared.socket.close()
            raise
        self._renewals.start()
        self._announcer.add(announce_listeners([listener]))
        return listener

    def remove_listener(self, settings: ListenerSettings) -> Deferred[None]:
        """Close the listener of *settings*: see `RunningListener.close`.

        Raises LookupError if there is no such listener.
        """
        return self.listener_for(settings).close()

    def suspend(self) -> None:
        """Stop accepting.  The sockets stay bound: new connections wait in the kernel."""
        self._listeners.suspend()

    def resume(self) -> None:
        """Accept again, first the connections that have waited."""
        self._listeners.resume()

    def wait_for_connections(self, predicate: Callable[[int], bool]) -> Deferred[int]:
        """Fire with the number of live connections, as soon as *predicate* is true of it."""
        return ConnectionWaiter(self.observers, lambda: self.connections, predicate).result

    def reload(
        self,
        configuration: Configuration | CheckedConfiguration,
        registry: Registry | None = None,
    ) -> None:
        """Serve another configuration, as a whole or not at all.

        A listener stays if its transport and address do: its socket stays open.  Live
        connections are not touched.  All is done before this returns, also the look-up of host
        names of new listeners; `reload_in_turns` blocks for neither.  A reload in progress is
        completed first, or abandoned if it has changed nothing yet.  Raises `ConfigurationError`
        or `netsrv.sockets.SocketError`, and then nothing has changed; RuntimeError if the server
        is not running.
        """
        self._reloads.reload_at_once(configuration, registry)

    def reload_in_turns(
        self,
        configuration: Configuration | CheckedConfiguration,
        registry: Registry | None = None,
        entered: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> Deferred[None]:
        """Serve another configuration as `reload` does, and peers meanwhile.

        Host names are looked up in a thread, and the rest takes a few milliseconds of each turn of
        the reactor, besides a service that blocks.  Another such reload follows this one.
        Listeners that are added or closed meanwhile stay so, as does an update of one that stays.
        The Deferred fires when all is done, with what `reload` would raise, or with RuntimeError if
        nothing has changed because the server is stopped or `reload` is called.  To cancel it
        abandons the reload, or completes it if it has changed something.  *configuration* may also
        be the result of `netsrv.server.checked.check_configuration`.  Each part of the work runs in
        the context of *entered*.
        """
        return self._reloads.reload_in_turns(configuration, registry, entered)

    def _reload_steps(self, checked: CheckedConfiguration) -> Steps[None]:
        """Return the steps of a reload.  Raises RuntimeError if the server is not running."""
        if not self._serving:
            raise RuntimeError(NOT_RUNNING)
        return self._plan_and_apply(checked)

    def _plan_and_apply(self, checked: CheckedConfiguration) -> Steps[None]:
        configuration = checked.configuration
        plan = yield from plan_reload(checked, self.listeners)
        try:
            other_log = configuration.access_log != self._configuration.access_log
            token = self.status.read_token(configuration.status)
            control_token = self.control.read_token(configuration.control)
            access_log = open_access_log(configuration) if other_log else None
        except BaseException:
            plan.discard()
            raise
        for name in ("log_format", "workers", "worker_selection"):
            if getattr(configuration, name) != (value := getattr(self._configuration, name)):
                self.log.warn("{name} changes with a restart", name=name)
                configuration = evolve(configuration, **{name: value})
        self._configuration = configuration
        problems = self.status.update(configuration.status, token)
        problems += self.control.update(configuration.control, control_token)
        self._logs.configure(configuration)
        if other_log:
            self._logs.open_access_log(access_log, configuration.access_log_datagrams)
        try:
            yield from plan.apply(self._listeners)
        except BaseException:  # a service has stopped the server meanwhile
            plan.discard()
            raise
        self._renewals.check()
        counts = plan.counts()
        while plan.closed:
            plan.closed.popleft().report_closed()  # free one in each step
            yield Phase.APPLYING
        for problem in (*checked.registry.problems, *plan.problems, *problems):
            self.log.warn("{problem}", problem=printable(problem))
            yield Phase.APPLYING
        line = "Reloaded: {listeners} as before, {changed} changed, {added} added, {gone} closed"
        self.log.info(line, **counts)
        for listener in plan.serving:
            self._announcer.add(announce_listeners([listener]))
            yield Phase.APPLYING

    def reopen_files(self) -> None:
        """Reopen the access log under its name, after it was moved away."""
        if self._logs.access_log is not None:
            self._logs.access_log.reopen()

    def info(self) -> dict[str, Any]:
        """Describe the server: plain values, ready for JSON."""
        access_log = self._logs.access_log.file if self._logs.access_log else None
        return {
            "version": __version__,
            "reactor": type(self._reactor).__name__,
            "connections": self.connections,
            "listeners": [listener.info() for listener in self.listeners],
            "access_log": access_log and {"path": access_log.path, "dropped": access_log.dropped},
            "stalls": self.counters.stalls,
            "stalled_seconds": self.counters.stalled_seconds,
        }
