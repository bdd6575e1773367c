"""The master: it owns the sockets, and says which workers there are to be.

It serves no peer itself.  It is a service of Twisted on Twisted's default reactor, so that the
status server, signals and twistd work as they do without workers.
"""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from netsrv import __version__
from netsrv.config.model import MAX_WORKERS, Configuration, ConfigurationError, LogLevel
from netsrv.server.descriptors import descriptor_limit
from netsrv.server.drain import ShutdownDelay
from netsrv.server.reloads import ReloadHistory
from netsrv.settings import count_of
from netsrv.sockets.steps import SocketError
from netsrv.status.source import ServerState
from netsrv.workers.memory import ColumnAllocator, table_size
from netsrv.workers.orders import Order
from netsrv.workers.origin import Manager, NoManager, Origin
from netsrv.workers.plans import FIRST_GENERATION, Plan, Plans
from netsrv.workers.pool import Process, WorkerPool
from netsrv.workers.preparation import PreparedWorkers, worker_count
from netsrv.workers.relay import relay_lines
from netsrv.workers.sockets import (
    SharedListener,
    close_shared,
)
from netsrv.workers.status import WorkersStatus
from netsrv.workers.supervision import HOLDING, Target, Worker
from netsrv.workers.upgrade import (
    HandedListener,
    Handover,
    check_program,
    execute,
    hand_socket,
)


class Master(Service):
    """Keeps the workers of a configuration running."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        configuration: Configuration,
        prepared: PreparedWorkers,
        file_text: str | None,
        origin: Origin,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.aborted = 0
        """Connections that were aborted because a drain's time was over."""
        self.manager: Manager = NoManager()
        """The service manager of the process."""
        self.error = ""
        """Why the master has given up; empty if it has not."""
        self._reactor = reactor
        self._now = now
        self._urls: dict[str, str] = {}
        self._prepared = prepared
        self._origin = origin
        self._limits = ColumnAllocator(table_size(descriptor_limit()))
        if prepared.handover is not None:
            self._limits.take_over(prepared.handover.limits)
        plan = Plan(configuration, file_text, prepared.listeners, prepared.access_log)
        self._plans = Plans(origin, plan, self._limits)
        handover = prepared.handover
        count = slots = worker_count(configuration)
        if handover is not None:
            count, slots = handover.target
        timeout = configuration.shutdown_timeout
        self.pool = WorkerPool(reactor, self, Target(FIRST_GENERATION, count, slots), timeout, now)
        """The processes of the workers."""
        self.reloads = ReloadHistory()
        """How the changes of the configuration have ended."""
        self.status = WorkersStatus(
            reactor=reactor,
            pool=self.pool,
            configuration=lambda: self._plans.current.configuration,
            reloads=self.reloads,
            access_log=lambda: self._plans.current.access_log,
        )
        """Whether the server is ready, and its state in plain values."""
        self._announced = handover is not None
        self._checking = self._ending = self._aborting = self._upgrade_wanted = False
        self._delay: ShutdownDelay | None = None
        self._ended: list[Deferred[None]] = []

    @property
    def log_level(self) -> LogLevel:
        """The level of the log in effect."""
        return self._plans.current.configuration.level

    @property
    def _target(self) -> Target:
        return self.pool.supervisor.target

    # Service

    def startService(self) -> None:
        """Start all workers, as soon as the reactor runs."""
        super().startService()
        for problem in self._prepared.problems:
            self.log.warn("{problem}", problem=problem)
        self._urls = self.status.start(self._prepared.status, self._now)
        self._reactor.callWhenRunning(self._start)

    def _start(self) -> None:
        handover = self._prepared.handover
        if handover is not None:
            self.pool.adopt(handover.workers, FIRST_GENERATION)
            self.status.take_over(handover.status)
            self.manager.ready()
        self.pool.run()
        if handover is not None:
            self.log.info("netsrv {version} has taken over", version=__version__)
            self.reload()

    def stopService(self) -> Deferred[None]:
        """Drain all workers, after ``shutdown_delay``; fires when the last one has ended."""
        super().stopService()
        ended: Deferred[None] = Deferred()
        self._ended.append(ended)
        self.status.state = ServerState.DRAINING
        seconds = self._plans.current.configuration.shutdown_delay
        if seconds and not self._aborting:
            self.pool.leave()
            self._delay = ShutdownDelay(self._reactor, seconds)
            self._delay.over.addCallback(lambda _none: self._drain())
        else:
            self._drain()
        return ended

    def _drain(self) -> None:
        self._ending = True
        self.pool.end()
        for plan in self._plans.all:  # new clients are refused once the workers have left
            close_shared(one for one in plan.listeners if one.settings.transport.takes_port)
        self._close_left()

    def _close_left(self) -> None:
        """Close the unix sockets, and remove their files, once no worker reads from them."""
        if not any(worker.phase in HOLDING for worker in self.pool.supervisor.workers):
            for plan in self._plans.all:
                close_shared(plan.listeners)

    def abort(self) -> None:
        """Abort the connections of all workers now, and end a delay."""
        self._aborting = True
        self.pool.abort()
        if self._delay is not None:
            self._delay.end()

    def reopen_files(self) -> None:
        """Reopen the access log under its name, after it was moved away."""
        access_log = self._plans.current.access_log
        if access_log is not None:
            access_log.reopen()

    # Changes

    def reload(self) -> None:
        """Read the configuration, and replace the workers one after the other.

        If it cannot be used, or one of the workers cannot start by it, nothing is changed.
        """
        try:
            target = self._plans.read(self._target)
        except (ConfigurationError, SocketError, OSError) as error:
            self.reloads.add(error)
            self.manager.reloading()
            self.manager.reloaded()
            self._report_unchanged(self._origin.error_lines(error))
            return
        self._change(target)

    def resize(self, by: int) -> None:
        """Have one worker more, or one fewer.

        The slots of a worker that is removed are served by another one, so there are never fewer
        slots.  Another slot needs sockets, which may need privileges that the process has dropped.
        """
        target = self._target
        count = target.count + by
        if not 1 <= count <= MAX_WORKERS:
            self.log.warn("{workers} as before", workers=count_of(target.count, "worker"))
            return
        if count > target.slots:
            try:
                self._plans.add_slot(target)
            except SocketError as error:
                self._report_unchanged([f"no socket for another worker: {error}"])
                return
        self._change(Target(target.generation, count, max(target.slots, count)))

    def _change(self, target: Target) -> None:
        self.manager.reloading()
        self.pool.change(target, self._plans.timeout_of(target))

    def _report_unchanged(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.log.error("{line}", line=line)
        self.log.error("Nothing is changed: the workers are as before")

    # An upgrade

    def upgrade(self) -> None:
        """Execute the program again, in this process, once it has passed ``--check``."""
        origin = self._origin
        if origin.variable is None:
            self._report_unchanged(["only netsrv serve can execute its program again"])
        elif self._checking:
            pass
        elif not self.pool.supervisor.settled:
            self._upgrade_wanted = True  # the workers would have two configurations
        else:
            self._upgrade_wanted = False
            self.log.info("Checking the program")
            try:
                check_program(self._reactor, origin.environ, origin.variable, self._checked)
                self._checking = True
            except OSError as error:
                self._report_unchanged([f"{sys.executable}: {error.strerror}"])

    def _checked(self, lines: Sequence[str] | None) -> None:
        self._checking = False
        if not self.running:  # SIGTERM has come meanwhile: the next program would not know it
            return
        if lines is not None:
            self._report_unchanged(lines)
        elif not self.pool.supervisor.settled:  # a reload has begun meanwhile
            self.upgrade()
        else:
            self._execute()

    def _execute(self) -> None:
        origin, target, status = self._origin, self._target, self._prepared.status
        handover = Handover(
            (target.count, target.slots),
            self._plans.current.file_text,
            [
                HandedListener(listener.index, [*map(hand_socket, listener.sockets)])
                for listener in self._plans.current.listeners
            ],
            [hand_socket(one) for one in (status.status, status.health) if one is not None],
            self.pool.hand_over(),
            self._limits.hand_over(),
            self.status.hand_over(),
        )
        try:
            execute(handover, origin.environ, str(origin.variable), origin.signals)
        except OSError as error:
            self._report_unchanged([f"{sys.executable}: {error.strerror}"])

    def describe(self, draining: bool) -> str:
        """Return the state as a line: ``Serving 2 listeners by 2 workers: 3 connections``."""
        counts = [process.counts for process in self.pool.processes.values()]
        connections = sum(count.get("connections", 0) for count in counts)
        text = count_of(connections, "connection")
        if draining:
            return f"Draining: {text}"
        listeners = count_of(len(self._plans.current.listeners), "listener")
        workers = count_of(self.pool.supervisor.serving, "worker")
        return f"Serving {listeners} by {workers}: {text}"

    # What the pool asks for, and reports

    def writes_access_log(self, worker: Worker) -> bool:
        """Return True if a worker writes an access log."""
        return self._plans.find(worker).access_log is not None

    def order_for(self, worker: Worker, control: int, access_log: int | None) -> Order:
        """Return the order of a worker; *control* and *access_log* are descriptors."""
        return self._plans.order_for(worker, self._target, control, access_log)

    def log_lines(self, worker: Worker, data: bytes) -> None:
        """Log what a worker has written."""
        relay_lines(worker.index, data)

    def write_access_log(self, worker: Worker, data: bytes) -> None:
        """Write lines of a worker for the access log."""
        access_log = self._plans.find(worker).access_log
        if access_log is not None:
            for line in data.decode(errors="backslashreplace").splitlines(keepends=True):
                access_log.add(line)
            access_log.flush()

    def state_received(self, process: Process, state: Any) -> None:
        """Note the state of a worker."""
        self.status.received(process, state)

    def worker_serves(self, process: Process) -> None:
        """Note that a worker is about to serve; for a program that asks its workers."""

    def worker_told(self, process: Process, message: Any) -> None:
        """Take a message of the worker's program; that of ``netsrv serve`` sends none."""

    def worker_released(self) -> None:
        """Note that a worker has left its sockets."""
        if self._ending:
            self._close_left()

    def worker_not_started(self, worker: Worker) -> None:
        """Note that there is no process by the order of a worker."""
        self._limits.give_back(worker.number)

    def worker_ended(self, process: Process) -> None:
        """Note that a process has ended, and its last counts."""
        self.aborted += process.drained.get("aborted", 0)
        self._limits.give_back(process.worker.number)
        self.status.worker_ended(process)
        if self._ending:
            self._close_left()

    def target_reached(self, target: Target) -> None:
        """Note that the workers are those of *target*."""
        change = self._plans.keep(target)
        workers = count_of(target.count, "worker")
        if not self._announced:
            self._announced = True
            self.status.state = ServerState.READY
            self._announce(workers)
            self.manager.ready()
            return
        self.manager.reloaded()
        if change is not None:
            self.status.update(self._plans.current.configuration.status)
            self.reloads.add()
            listeners = count_of(len(self._plans.current.listeners), "listener")
            line = "Reloaded: {listeners}, {workers} replaced"
            self.log.info(line, listeners=listeners, workers=workers)
            for name in change.closed:
                self.log.info("Closed {listener}; its connections may go on", listener=name)
            self._announce_listeners(change.added)
        else:
            self.log.info("{workers} now", workers=workers)
        if self._upgrade_wanted:
            self.upgrade()

    def target_missed(self, reason: str) -> None:
        """Note that the workers of before are restored, because of *reason*."""
        if self._plans.changing:
            self.reloads.add(ConfigurationError(reason))
        self._plans.keep(self._target)
        self.manager.reloaded()
        self._report_unchanged([reason])

    def ended(self, reason: str) -> None:
        """Note that no worker is left; *reason* is empty after a drain."""
        self.status.stop()
        self._prepared.close()
        if reason:
            self.error = reason
            self.log.critical("{reason}", reason=reason)
            self._reactor.stop()
        ended, self._ended = self._ended, []
        for waiter in ended:
            waiter.callback(None)

    def _announce(self, workers: str) -> None:
        """Log what the server waits for, once all workers serve."""
        self.log.info("netsrv {version} with {workers}", version=__version__, workers=workers)
        self._announce_listeners(self._plans.current.listeners)
        for what, url in self._urls.items():
            self.log.info("Serving {what} on {url}", what=what, url=url)

    def _announce_listeners(self, listeners: Sequence[SharedListener]) -> None:
        for listener in listeners:
            what = "connections" if listener.settings.transport.is_stream else "datagrams"
            line = "Waiting for {what} on {listener}"
            self.log.info(line, what=what, listener=str(listener.info))
