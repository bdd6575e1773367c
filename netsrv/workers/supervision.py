"""The supervision of workers: a state machine without processes, clock and sockets.

A worker is one process.  It has an index, and serves some *slots*: a slot is a set of sockets, one
of each listener.  A `Target` says which workers there are to be; the machine compares it with those
that are there, and says what to do.  A worker goes through these phases::

    BOOTING -> READY -> SERVING -> DRAINING -> RELEASED

A worker that is ready serves as soon as no other one serves its slots.  One that is not wanted any
more drains once each of its slots has a successor that is ready.  So two workers never read from
one socket, and no socket is without a reader for longer than a message takes.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from enum import Enum

from attrs import define, evolve, field, frozen

from netsrv.settings import count_of

BOOT_TIMEOUT = 30.0
"""Seconds in which a worker must be ready."""

MAX_MISSED_BEATS = 10
"""Seconds without a heartbeat after which a worker is killed."""

RELEASE_TIMEOUT = 10.0
"""Seconds in which a worker that is to drain must leave its sockets."""

EXIT_TIMEOUT = 3.0
"""Seconds that a worker may take to end, beyond the time of its drain."""

FIRST_DELAY = 0.1
"""Seconds from a crash to the start of a successor; each further crash doubles them."""

MAX_DELAY = 5.0

STABLE_TIME = 10.0
"""Seconds of service after which a crash counts as the first one."""

MAX_FAILED_STARTS = 5
"""Failed starts within `FAILURE_WINDOW` that end the master, if no worker has been ready since."""

FAILURE_WINDOW = 10.0
"""Seconds."""


class Phase(Enum):
    """What a worker does."""

    BOOTING = "booting"
    READY = "ready"
    """It could serve, and waits until its slots are free."""
    SERVING = "serving"
    DRAINING = "draining"
    """It is asked to drain, and may still read from its sockets."""
    RELEASED = "released"
    """It has left its sockets, and its connections are ending."""


HOLDING = (Phase.SERVING, Phase.DRAINING)
"""The phases in which a worker may read from its sockets."""

STARTED = (Phase.READY, Phase.SERVING)


@frozen
class Target:
    """Which workers there are to be."""

    generation: int
    """The configuration: see `netsrv.workers.plans`."""
    count: int
    """How many workers."""
    slots: int
    """How many slots; a worker serves several if there are more slots than workers."""

    def slots_of(self, index: int) -> tuple[int, ...]:
        """Return the slots of the worker *index*."""
        return tuple(range(index, self.slots, self.count))


@define(eq=False)
class Worker:
    """One process."""

    number: int
    """Its number among all processes of the master."""
    index: int
    generation: int
    slots: tuple[int, ...]
    since: float
    """When its phase began."""
    phase: Phase = Phase.BOOTING
    missed: int = 0
    """Beats since its last heartbeat."""
    killed_for: str = ""
    """Why the machine has killed it; empty if it has not."""

    def matches(self, target: Target) -> bool:
        """Return True if *target* has such a worker."""
        wanted = self.index < target.count and self.slots == target.slots_of(self.index)
        return wanted and self.generation == target.generation


class Processes:
    """What the machine does to workers; the master overrides all methods."""

    def start(self, worker: Worker) -> None:
        """Start the process of a worker."""

    def serve(self, worker: Worker) -> None:
        """Have a worker serve its slots."""

    def drain(self, worker: Worker) -> None:
        """Have a worker leave its sockets and end with its last connection."""

    def kill(self, worker: Worker, reason: str) -> None:
        """Kill a worker, because of *reason*."""

    def reached(self, target: Target) -> None:
        """Note that the workers are those of *target*."""

    def gave_up(self, target: Target, reason: str) -> None:
        """Note that the workers of *target* cannot be had; those of before go on."""

    def stop(self, reason: str) -> None:
        """End: no worker is left.  *reason* is empty after a drain."""


@define
class _Crashes:
    """The crashes of the workers with one index."""

    count: int = 0
    not_before: float = -math.inf


@define
class Supervisor:
    """Keeps the workers of *target* running; *processes* does what it decides.

    Each method takes *now*, in seconds of a monotonic clock.
    """

    processes: Processes
    target: Target
    drain_timeout: float
    """Seconds that the connections of a worker have to end when it drains."""
    workers: list[Worker] = field(factory=list, init=False)
    """All workers that have not ended."""
    restarts: Counter[str] = field(factory=Counter, init=False)
    """Workers that have ended unasked, by reason."""
    ending: bool = field(default=False, init=False)
    """True once the whole server drains."""
    _fallback: Target | None = field(default=None, init=False)
    settled: bool = field(default=True, init=False)
    """True if the target was reached since it was set."""
    _next_number: int = field(default=1, init=False)
    _crashes: dict[int, _Crashes] = field(factory=lambda: defaultdict(_Crashes), init=False)
    _failures: list[float] = field(factory=list, init=False)

    # What the master asks for

    def start(self, now: float) -> None:
        """Start all workers that are not there."""
        self.settled = bool(self.workers)
        self._reconcile(now)

    def adopt(self, worker: Worker) -> None:
        """Supervise a worker that another program has started in this process."""
        self.workers.append(worker)
        self._next_number = max(self._next_number, worker.number + 1)

    def change(self, target: Target, now: float) -> None:
        """Replace the workers by those of *target*, one after the other.

        If one of them cannot start, those of the present target are restored.
        """
        if self._fallback is None:
            self._fallback = self.target
        self.target, self.settled = target, False
        self._reconcile(now)

    def end(self, now: float) -> None:
        """Drain all workers, and stop when the last one has ended."""
        self.ending = True
        for worker in list(self.workers):
            if worker.phase in STARTED:
                self._drain(worker, now)
            elif worker.phase is Phase.BOOTING:
                self._kill(worker, "the server ends")
        self._reconcile(now)

    # What happens to workers

    def ready(self, worker: Worker, now: float) -> None:
        """Note that a worker could serve."""
        if worker.phase is not Phase.BOOTING:
            return
        self._enter(worker, Phase.READY, now)
        self._failures.clear()
        self._reconcile(now)

    def beat(self, worker: Worker) -> None:
        """Note the heartbeat of a worker."""
        worker.missed = 0

    def released(self, worker: Worker, now: float) -> None:
        """Note that a worker has left its sockets."""
        self._enter(worker, Phase.RELEASED, now)
        self._reconcile(now)

    def exited(self, worker: Worker, reason: str, now: float) -> None:
        """Note that the process of a worker has ended: *reason* is one of a few words."""
        self.workers.remove(worker)
        reason = worker.killed_for or reason
        if self.ending or worker.phase in (Phase.DRAINING, Phase.RELEASED):
            self._reconcile(now)
            return
        crashes = self._crashes[worker.index]
        if worker.phase is Phase.SERVING and now - worker.since >= STABLE_TIME:
            crashes.count = 0
        crashes.not_before = now + min(MAX_DELAY, FIRST_DELAY * 2**crashes.count)
        crashes.count = min(crashes.count + 1, 10)
        self.restarts[reason] += 1
        if worker.phase is Phase.BOOTING and self._failed_to_start(worker, reason, now):
            return
        self._reconcile(now)

    def missed_beat(self) -> None:
        """Note that a second is over: kill the workers that have been silent for too long.

        The master's own timer counts the seconds: while the machine stands still, none is over.
        """
        for worker in self.workers:
            if worker.phase is not Phase.BOOTING:
                worker.missed += 1
                if worker.missed > MAX_MISSED_BEATS:
                    self._kill(worker, "frozen")

    def tick(self, now: float) -> None:
        """Do what has become due."""
        for worker in list(self.workers):
            if now >= self._deadline(worker):
                self._kill(worker, "timeout")
        self._reconcile(now)

    def next_tick(self) -> float:
        """Return when `tick` is to be called next; infinity for never."""
        times = [self._deadline(worker) for worker in self.workers if not worker.killed_for]
        if not self.ending:
            times += [
                self._not_before(index) for index in range(self.target.count) if self._lacks(index)
            ]
        return min(times, default=math.inf)

    @property
    def serving(self) -> int:
        """The number of workers that serve."""
        return sum(worker.phase is Phase.SERVING for worker in self.workers)

    # Decisions

    def _reconcile(self, now: float) -> None:
        """Take all steps towards the target that are possible now."""
        if self.ending:
            if not self.workers:
                self.processes.stop("")
            return
        self._end_superseded(now)
        self._drain_replaced(now)
        self._serve_free_slots(now)
        for index in range(self.target.count):
            self._fill(index, now)
        if not self.settled and self._is_reached():
            self.settled, self._fallback = True, None
            self.processes.reached(self.target)

    def _end_superseded(self, now: float) -> None:
        """End workers that have not served yet, and are of an earlier target."""
        for worker in list(self.workers):
            if not worker.matches(self.target):
                if worker.phase is Phase.BOOTING:
                    worker.phase = Phase.RELEASED
                    self._kill(worker, "superseded")
                elif worker.phase is Phase.READY:
                    self._drain(worker, now)

    def _fill(self, index: int, now: float) -> None:
        """Start the worker *index* of the target unless it is there, or has to wait."""
        if not self._lacks(index) or now < self._not_before(index):
            return
        target = self.target
        slots = target.slots_of(index)
        worker = Worker(self._next_number, index, target.generation, slots, now)
        self._next_number += 1
        self.workers.append(worker)
        self.processes.start(worker)

    def _lacks(self, index: int) -> bool:
        """Return True if the worker *index* of the target is not there, and may be started."""
        workers = list(self._of(index, Phase.BOOTING, *STARTED))
        if any(worker.matches(self.target) for worker in workers):
            return False
        booting = any(worker.phase is Phase.BOOTING for worker in self.workers)
        return not (workers and booting)  # replaced ones one at a time

    def _serve_free_slots(self, now: float) -> None:
        for worker in self.workers:
            if worker.phase is Phase.READY and worker.matches(self.target):
                held = {
                    slot
                    for other in self.workers
                    if other.phase in HOLDING and other is not worker
                    for slot in other.slots
                }
                if held.isdisjoint(worker.slots):
                    self._enter(worker, Phase.SERVING, now)
                    self.processes.serve(worker)

    def _drain_replaced(self, now: float) -> None:
        """Drain the workers whose slots all have a successor."""
        covered = {
            slot
            for worker in self.workers
            if worker.phase in STARTED and worker.matches(self.target)
            for slot in worker.slots
        }
        for worker in list(self.workers):
            replaced = worker.phase is Phase.SERVING and not worker.matches(self.target)
            if replaced and covered.issuperset(worker.slots):
                self._drain(worker, now)

    def _is_reached(self) -> bool:
        serving = [worker for worker in self.workers if worker.phase is Phase.SERVING]
        return len(serving) == self.target.count and all(
            worker.matches(self.target) for worker in serving
        )

    def _failed_to_start(self, worker: Worker, reason: str, now: float) -> bool:
        """Restore the workers of before, or stop; return True if the machine stops."""
        if self._fallback is not None:
            failed, slots = self.target, self.target.slots  # the sockets are open
            self.target, self._fallback = evolve(self._fallback, slots=slots), None
            self.processes.gave_up(failed, f"worker {worker.index} did not start ({reason})")
            return False
        self._failures = [at for at in self._failures if now - at < FAILURE_WINDOW] + [now]
        alive = any(other.phase is not Phase.BOOTING for other in self.workers)
        if len(self._failures) < MAX_FAILED_STARTS or alive:
            return False
        self.ending = True
        for other in self.workers:
            self._kill(other, "the server ends")
        starts = count_of(MAX_FAILED_STARTS, "failed start")
        self.processes.stop(f"{starts} within {FAILURE_WINDOW:g} s, and no worker was ready")
        return True

    def _of(self, index: int, *phases: Phase) -> Iterable[Worker]:
        return (
            worker for worker in self.workers if worker.index == index and worker.phase in phases
        )

    def _not_before(self, index: int) -> float:
        return self._crashes[index].not_before if index in self._crashes else -math.inf

    def _deadline(self, worker: Worker) -> float:
        """Return when a worker is killed if its phase lasts."""
        limits = {
            Phase.BOOTING: BOOT_TIMEOUT,
            Phase.DRAINING: RELEASE_TIMEOUT,
            Phase.RELEASED: self.drain_timeout + EXIT_TIMEOUT,
        }
        return worker.since + limits.get(worker.phase, math.inf)

    def _enter(self, worker: Worker, phase: Phase, now: float) -> None:
        worker.phase, worker.since, worker.missed = phase, now, 0

    def _drain(self, worker: Worker, now: float) -> None:
        self._enter(worker, Phase.DRAINING, now)
        self.processes.drain(worker)

    def _kill(self, worker: Worker, reason: str) -> None:
        if not worker.killed_for:
            worker.killed_for = reason
            self.processes.kill(worker, reason)
