"""The processes of the workers: started, watched, and spoken to, as the supervisor decides."""

import math
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

from attrs import define, field
from twisted.logger import Logger

from netsrv.workers.channel import Channel, Message, open_channel
from netsrv.workers.orders import Order, write_order
from netsrv.workers.process import LinePipe, reason_of, spawn, watch
from netsrv.workers.supervision import Phase, Processes, Supervisor, Target, Worker
from netsrv.workers.upgrade import HandedPipe, HandedWorker

BEAT_INTERVAL = 1.0
"""Seconds from one look for heartbeats to the next."""


class Owner(Protocol):
    """The master, as the pool sees it."""

    def writes_access_log(self, worker: Worker) -> bool:
        """Return True if a worker writes an access log."""

    def order_for(self, worker: Worker, control: int, access_log: int | None) -> Order:
        """Return the order of a worker; *control* and *access_log* are descriptors."""

    def log_lines(self, worker: Worker, data: bytes) -> None:
        """Log what a worker has written."""

    def write_access_log(self, worker: Worker, data: bytes) -> None:
        """Write lines of a worker for the access log."""

    def state_received(self, process: "Process", state: Message) -> None:
        """Note the state of a worker."""

    def worker_serves(self, process: "Process") -> None:
        """Note that a worker is about to serve."""

    def worker_told(self, process: "Process", message: Any) -> None:
        """Take a message of the worker's program."""

    def worker_released(self) -> None:
        """Note that a worker has left its sockets."""

    def worker_not_started(self, worker: Worker) -> None:
        """Note that there is no process by the order of a worker."""

    def worker_ended(self, process: "Process") -> None:
        """Note that a process has ended, and its last counts."""

    def target_reached(self, target: Target) -> None:
        """Note that the workers are those of *target*."""

    def target_missed(self, reason: str) -> None:
        """Note that the workers of before are restored, because of *reason*."""

    def ended(self, reason: str) -> None:
        """Note that no worker is left; *reason* is empty after a drain."""


@define(eq=False)
class Process:
    """The process of a worker."""

    worker: Worker
    pid: int
    channel: Channel
    pipes: list[LinePipe]
    counts: Message = field(factory=dict)
    """What it has counted, as its last message has it."""
    state: Message | None = None
    """Its state, as its last message has it; None if it has sent none, or no state is wanted."""
    drained: Message = field(factory=dict)
    """How many connections have ended and were aborted in its drain."""


class WorkerPool(Processes):
    """The workers of *target*; *owner* says what they are told, and hears of them."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        owner: Owner,
        target: Target,
        drain_timeout: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.processes: dict[Worker, Process] = {}
        """All processes that have not ended, in the order of their starts."""
        self.supervisor = Supervisor(self, target, drain_timeout)
        self._reactor = reactor
        self._owner = owner
        self._now = now
        self._leaving = False
        self._tick_timer: Any = None
        self._beat_timer: Any = None

    # What the master asks for

    def run(self) -> None:
        """Start all workers that are not there."""
        self.supervisor.start(self._now())
        self._schedule_tick()
        self._look_for_beats()

    def change(self, target: Target, drain_timeout: float) -> None:
        """Replace the workers by those of *target*."""
        self.supervisor.drain_timeout = drain_timeout
        self.supervisor.change(target, self._now())
        self._schedule_tick()

    def leave(self) -> None:
        """Have all workers say that the server is about to end, while they serve."""
        self._leaving = True
        for process in self.processes.values():
            process.channel.send(leaving=True)

    def end(self) -> None:
        """Drain all workers."""
        self.supervisor.end(self._now())
        self._schedule_tick()

    def abort(self) -> None:
        """Abort the connections of all workers."""
        for process in self.processes.values():
            process.channel.send(abort=True)

    # What the supervisor decides

    def start(self, worker: Worker) -> None:
        """Start the process of a worker; if there is no descriptor or process, it has failed."""
        try:
            pid, control, pipes = self._spawn(worker)
        except OSError as error:
            line = "Worker {index} cannot be started: {program}: {error}"
            reason = error.strerror or error
            self.log.error(line, index=worker.index, program=sys.executable, error=reason)
            self._owner.worker_not_started(worker)
            self._reactor.callLater(0, self._failed, worker)
            return
        self._follow(worker, pid, control, pipes)

    def serve(self, worker: Worker) -> None:
        """Have a worker serve its slots."""
        process = self.processes[worker]
        self._owner.worker_serves(process)
        process.channel.send(serve=True)
        if self._leaving:
            process.channel.send(leaving=True)
        if self.supervisor.settled:
            line = "Worker {index} (pid {pid}) has taken its place"
            self.log.info(line, index=worker.index, pid=process.pid)

    def drain(self, worker: Worker) -> None:
        """Have a worker leave its sockets and end with its last connection."""
        self.processes[worker].channel.send(drain=self.supervisor.drain_timeout)

    def kill(self, worker: Worker, reason: str) -> None:
        """Kill a worker, because of *reason*."""
        process = self.processes.get(worker)
        if process is None:
            return
        if reason in ("frozen", "timeout"):
            line = "Worker {index} (pid {pid}) is killed: {reason}"
            self.log.error(line, index=worker.index, pid=process.pid, reason=reason)
        os.kill(process.pid, signal.SIGKILL)

    def reached(self, target: Target) -> None:
        """Pass it on."""
        self._owner.target_reached(target)

    def gave_up(self, target: Target, reason: str) -> None:
        """Pass it on."""
        self._owner.target_missed(reason)

    def stop(self, reason: str) -> None:
        """Stop the timers, and pass it on."""
        for timer in (self._tick_timer, self._beat_timer):
            if timer is not None and timer.active():
                timer.cancel()
        self._owner.ended(reason)

    # Processes

    def _spawn(self, worker: Worker) -> tuple[int, int, list[LinePipe]]:
        """Start a process; return its id, the descriptor of our end of its socket, and its pipes.

        Raises OSError, and then nothing stays open.
        """
        ours, theirs = socket.socketpair()
        pipes: list[LinePipe] = []
        try:
            with theirs:
                for on_lines in self._line_handlers(worker):
                    pipes.append(LinePipe.open(self._reactor, on_lines))
                access_log = pipes[1].writer if len(pipes) > 1 else None
                order = self._owner.order_for(worker, theirs.fileno(), access_log)
                written = write_order(order)
                try:
                    pid = spawn(order.program, written, pipes[0].writer, order.descriptors)
                finally:
                    os.close(written)
        except OSError:
            ours.close()
            for pipe in pipes:
                pipe.close()
            raise
        finally:
            for pipe in pipes:
                pipe.close_writer()
        return pid, ours.detach(), pipes

    def _line_handlers(self, worker: Worker) -> Iterator[Callable[[bytes], None]]:
        yield partial(self._owner.log_lines, worker)
        if self._owner.writes_access_log(worker):
            yield partial(self._owner.write_access_log, worker)

    def _follow(
        self, worker: Worker, pid: int, control: int, pipes: list[LinePipe], rest: bytes = b""
    ) -> Process:
        """Watch a process; *rest* was read from its socket before."""
        channel = open_channel(
            self._reactor,
            control,
            partial(self._received, worker),
            lambda: None,  # the end of a worker is known by its process
            rest,
        )
        process = self.processes[worker] = Process(worker, pid, channel, pipes)
        watch(self._reactor, pid, partial(self._exited, worker))
        return process

    def _received(self, worker: Worker, message: Message) -> None:
        now, process = self._now(), self.processes[worker]
        self.supervisor.beat(worker)
        if "ready" in message:
            self.supervisor.ready(worker, now)
        elif "beat" in message:
            process.counts = message["beat"]
        elif "state" in message:
            self._owner.state_received(process, message["state"])
        elif "told" in message:
            self._owner.worker_told(process, message["told"])
        elif "released" in message:
            self.supervisor.released(worker, now)
            self._owner.worker_released()
        elif "drained" in message:
            process.drained, process.counts = message["drained"], message["last"]
        self._schedule_tick()

    def _exited(self, worker: Worker, status: int) -> None:
        process = self.processes[worker]
        process.channel.finish()
        for pipe in process.pipes:
            pipe.finish()
        del self.processes[worker]
        self._owner.worker_ended(process)
        expected = worker.phase in (Phase.DRAINING, Phase.RELEASED)
        if not (expected or self.supervisor.ending):
            line = "Worker {index} (pid {pid}) has ended: {reason}"
            reason = reason_of(status)
            self.log.error(line, index=worker.index, pid=process.pid, reason=reason)
        self.supervisor.exited(worker, "signal" if os.WIFSIGNALED(status) else "exit", self._now())
        self._schedule_tick()

    def _failed(self, worker: Worker) -> None:
        if worker in self.supervisor.workers:
            self.supervisor.exited(worker, "not_started", self._now())
            self._schedule_tick()

    # Timers

    def _look_for_beats(self) -> None:
        self._beat_timer = self._reactor.callLater(BEAT_INTERVAL, self._look_for_beats)
        self.supervisor.missed_beat()

    def _schedule_tick(self) -> None:
        if self._tick_timer is not None and self._tick_timer.active():
            self._tick_timer.cancel()
        at = self.supervisor.next_tick()
        if at < math.inf:
            self._tick_timer = self._reactor.callLater(max(0.0, at - self._now()), self._tick)

    def _tick(self) -> None:
        self.supervisor.tick(self._now())
        self._schedule_tick()

    # An upgrade

    def hand_over(self) -> list[HandedWorker]:
        """Return all workers for the next program of this process."""
        return [
            HandedWorker(
                worker.number,
                worker.index,
                list(worker.slots),
                worker.phase.value,
                worker.since,
                process.pid,
                HandedPipe(process.channel.fileno(), process.channel.rest.decode("latin-1")),
                [HandedPipe(pipe.fileno(), pipe.rest.decode("latin-1")) for pipe in process.pipes],
                process.counts,
                process.state,
            )
            for worker, process in self.processes.items()
        ]

    def adopt(self, handed: Sequence[HandedWorker], generation: int) -> None:
        """Supervise workers that the program of before has started, by its configuration."""
        for entry in handed:
            worker = Worker(
                entry.number,
                entry.index,
                generation,
                tuple(entry.slots),
                entry.since,
                Phase(entry.phase),
            )
            self.supervisor.adopt(worker)
            pipes = [
                LinePipe(self._reactor, pipe.descriptor, on_lines, pipe.rest.encode("latin-1"))
                for pipe, on_lines in zip(entry.pipes, self._line_handlers(worker), strict=False)
            ]
            control = entry.control
            process = self._follow(
                worker, entry.pid, control.descriptor, pipes, control.rest.encode("latin-1")
            )
            process.counts, process.state = entry.counts, entry.state
