"""The supervision of workers, with a stepped clock and no processes."""

import math

import pytest
from hypothesis import given, settings, strategies

from netsrv.workers.supervision import (
    BOOT_TIMEOUT,
    EXIT_TIMEOUT,
    FAILURE_WINDOW,
    MAX_DELAY,
    MAX_FAILED_STARTS,
    MAX_MISSED_BEATS,
    RELEASE_TIMEOUT,
    STABLE_TIME,
    Phase,
    Processes,
    Supervisor,
    Target,
)
from tests.timeouts import EXAMPLE_DEADLINE

DRAIN_TIMEOUT = 8.0


class Simulation(Processes):
    """Workers that do what the test says, at a time that the test sets."""

    def __init__(self, count, slots=None):
        self.now = 0.0
        self.supervisor = Supervisor(self, Target(1, count, slots or count), DRAIN_TIMEOUT)
        self.told, self.killed, self.results, self.stopped = [], [], [], None
        self.supervisor.start(self.now)

    # What the supervisor decides

    def start(self, worker):
        self.told.append(("start", worker.index))

    def serve(self, worker):
        self.told.append(("serve", worker.index))
        reading = [
            other for other in self.workers if other.phase in (Phase.SERVING, Phase.DRAINING)
        ]
        slots = [slot for other in reading for slot in other.slots]
        assert len(slots) == len(set(slots)), "two workers read from one socket"

    def drain(self, worker):
        self.told.append(("drain", worker.index))

    def kill(self, worker, reason):
        self.killed.append((worker.index, reason))

    def reached(self, target):
        self.results.append(target)

    def gave_up(self, target, reason):
        self.results.append(reason)

    def stop(self, reason):
        self.stopped = reason

    # What workers do

    @property
    def workers(self):
        return self.supervisor.workers

    def phases(self):
        """Return the phases of all workers by index, in the order of their starts."""
        return [(worker.index, worker.phase.value) for worker in self.workers]

    def find(self, phase, index=None):
        return next(
            worker
            for worker in self.workers
            if worker.phase is phase and index in (None, worker.index)
        )

    def ready(self, index=None):
        self.supervisor.ready(self.find(Phase.BOOTING, index), self.now)

    def released(self, index=None):
        self.supervisor.released(self.find(Phase.DRAINING, index), self.now)

    def exits(self, phase, index=None, reason="exit"):
        self.supervisor.exited(self.find(phase, index), reason, self.now)

    def pass_time(self, seconds):
        """Call the supervisor when it wants to be called."""
        end = self.now + seconds
        while (at := self.supervisor.next_tick()) <= end:
            self.now = max(self.now, at)
            self.supervisor.tick(self.now)
        self.now = end

    def serve_all(self):
        """Have each worker do at once what is asked of it, until there is nothing left to do."""
        for _ in range(1000):
            for worker in list(self.workers):
                if worker.killed_for or worker.phase is Phase.RELEASED:
                    self.supervisor.exited(worker, "exit", self.now)
                elif worker.phase is Phase.BOOTING:
                    self.supervisor.ready(worker, self.now)
                elif worker.phase is Phase.DRAINING:
                    self.supervisor.released(worker, self.now)
            if all(worker.phase is Phase.SERVING for worker in self.workers):
                return
        raise AssertionError(f"the workers never settle: {self.phases()}")


def served(count, slots=None):
    """Return a simulation whose workers serve, with nothing told so far."""
    simulation = Simulation(count, slots)
    simulation.serve_all()
    simulation.told.clear()
    simulation.results.clear()
    return simulation


def test_all_workers_start_at_once_and_each_serves_when_it_is_ready():
    """A worker does not wait for the others; the target is reached with the last one."""
    simulation = Simulation(2)
    assert simulation.told == [("start", 0), ("start", 1)]
    simulation.ready(1)
    assert simulation.told[2:] == [("serve", 1)]
    assert simulation.results == []
    simulation.ready(0)
    assert simulation.results == [Target(1, 2, 2)]


def test_f84_a_crash_is_replaced_in_a_tenth_of_a_second():
    """The successor gets the same slots; the other workers are not touched."""
    simulation = served(2)
    simulation.exits(Phase.SERVING, 1, "signal")
    simulation.pass_time(0.09)
    assert simulation.told == []
    simulation.pass_time(0.02)
    assert simulation.told == [("start", 1)]
    simulation.ready()
    assert simulation.told == [("start", 1), ("serve", 1)]
    assert simulation.supervisor.restarts == {"signal": 1}


def test_f85_crashes_of_one_worker_come_later_and_later():
    """The pause doubles up to its most, and begins again after a quiet time."""
    simulation = served(1)
    pauses = []
    for _ in range(8):
        simulation.exits(Phase.SERVING)
        pauses.append(round(simulation.supervisor.next_tick() - simulation.now, 1))
        simulation.pass_time(MAX_DELAY)
        simulation.ready()
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    simulation.pass_time(STABLE_TIME)
    simulation.exits(Phase.SERVING)
    assert simulation.supervisor.next_tick() - simulation.now == pytest.approx(0.1)
    assert simulation.stopped is None


def test_f85_five_failed_starts_end_the_master():
    """If no worker becomes ready meanwhile, the master gives up and says why."""
    simulation = Simulation(1)
    for _ in range(MAX_FAILED_STARTS):
        assert simulation.stopped is None
        simulation.exits(Phase.BOOTING)
        simulation.pass_time(MAX_DELAY / 4)
    assert "5 failed starts within 10 s" in simulation.stopped
    assert simulation.supervisor.next_tick() == math.inf


def test_failed_starts_do_not_end_a_master_with_a_worker_that_serves():
    """The service goes on with the others, and tries the failing worker again and again."""
    simulation = served(2)
    simulation.exits(Phase.SERVING, 1)
    for _ in range(4 * MAX_FAILED_STARTS):
        simulation.pass_time(MAX_DELAY)
        simulation.exits(Phase.BOOTING, 1)
    assert simulation.stopped is None
    assert simulation.phases() == [(0, "serving")]


def test_slow_failures_do_not_end_the_master():
    """Failed starts that are more than ten seconds apart are tried for ever."""
    simulation = Simulation(1)
    for _ in range(2 * MAX_FAILED_STARTS):
        simulation.pass_time(FAILURE_WINDOW)
        simulation.exits(Phase.BOOTING)
    assert simulation.stopped is None


def test_f87_a_silent_worker_is_killed_and_one_that_boots_is_not():
    """Heartbeats count from ready on; a boot has a limit of its own."""
    simulation = Simulation(2)
    simulation.ready(0)
    for _ in range(MAX_MISSED_BEATS):
        simulation.supervisor.missed_beat()
    assert simulation.killed == []
    simulation.supervisor.missed_beat()
    assert simulation.killed == [(0, "frozen")]
    simulation.exits(Phase.SERVING, 0, "signal")
    assert simulation.supervisor.restarts == {"frozen": 1}
    simulation.pass_time(BOOT_TIMEOUT)
    assert (1, "timeout") in simulation.killed


def test_a_heartbeat_is_enough():
    """A worker that beats now and then is never killed."""
    simulation = served(1)
    for _ in range(10):
        for _ in range(MAX_MISSED_BEATS):
            simulation.supervisor.missed_beat()
        simulation.supervisor.beat(simulation.workers[0])
    assert simulation.killed == []


def test_f88_a_change_replaces_one_worker_after_the_other():
    """Each successor is ready before its predecessor drains, and serves once that has left."""
    simulation = served(2)
    simulation.supervisor.change(Target(2, 2, 2), simulation.now)
    assert simulation.told == [("start", 0)]
    simulation.ready()
    assert simulation.told == [("start", 0), ("drain", 0), ("start", 1)]
    simulation.released()
    assert simulation.told[3:] == [("serve", 0)]
    simulation.ready()
    assert simulation.told[4:] == [("drain", 1)]
    assert simulation.results == []
    simulation.released()
    assert simulation.told[5:] == [("serve", 1)]
    assert simulation.results == [Target(2, 2, 2)]


def test_a_successor_serves_as_soon_as_its_predecessor_is_dead():
    """A predecessor that crashes or hangs in its drain does not keep its sockets."""
    simulation = served(1)
    simulation.supervisor.change(Target(2, 1, 1), simulation.now)
    simulation.ready()
    simulation.pass_time(RELEASE_TIMEOUT)
    assert simulation.killed == [(0, "timeout")]
    simulation.exits(Phase.DRAINING)
    assert simulation.told[-1] == ("serve", 0)
    assert not simulation.supervisor.restarts


def test_a_drain_has_an_end():
    """A worker that does not end after its drain is killed."""
    simulation = served(1)
    simulation.supervisor.change(Target(2, 1, 1), simulation.now)
    simulation.ready()
    simulation.released()
    simulation.pass_time(DRAIN_TIMEOUT + EXIT_TIMEOUT - 0.1)
    assert simulation.killed == []
    simulation.pass_time(0.1)
    assert simulation.killed == [(0, "timeout")]


def test_f90_a_successor_that_fails_restores_the_workers_of_before():
    """Those that were replaced already are replaced back, and no other is touched."""
    simulation = served(2)
    simulation.supervisor.change(Target(2, 2, 2), simulation.now)
    simulation.ready()
    simulation.released()
    simulation.exits(Phase.BOOTING, 1)
    assert simulation.results == ["worker 1 did not start (exit)"]
    simulation.told.clear()
    simulation.pass_time(MAX_DELAY)
    simulation.serve_all()
    assert ("drain", 1) not in simulation.told
    assert simulation.results[1:] == [Target(1, 2, 2)]
    assert {worker.generation for worker in simulation.workers} == {1}


def test_a_change_to_more_workers_that_fails_leaves_no_slot_without_a_reader():
    """The sockets of the new slot are open, so a worker of before has to serve it."""
    simulation = served(2)
    simulation.supervisor.change(Target(2, 3, 3), simulation.now)
    simulation.exits(Phase.BOOTING, 0)
    simulation.pass_time(MAX_DELAY)
    simulation.serve_all()
    assert {worker.generation for worker in simulation.workers} == {1}
    assert sorted(slot for worker in simulation.workers for slot in worker.slots) == [0, 1, 2]
    assert simulation.results == ["worker 0 did not start (exit)", Target(1, 2, 3)]


def test_a_failure_while_the_workers_are_restored_changes_no_more():
    """The workers that there are go on, of whichever configuration."""
    simulation = served(2)
    simulation.supervisor.change(Target(2, 2, 2), simulation.now)
    simulation.ready()
    simulation.released()
    for _ in range(3):
        simulation.exits(Phase.BOOTING)
        simulation.pass_time(MAX_DELAY)
        if not any(worker.phase is Phase.BOOTING for worker in simulation.workers):
            break
    serving = [worker for worker in simulation.workers if worker.phase is Phase.SERVING]
    assert sorted((worker.index, worker.generation) for worker in serving) == [(0, 2), (1, 1)]


def test_f89_one_worker_fewer_leaves_no_slot_without_a_reader():
    """Another worker takes the slots over, before the removed one drains."""
    simulation = served(3)
    simulation.supervisor.change(Target(1, 2, 3), simulation.now)
    assert simulation.told == [("start", 0)]
    simulation.ready()
    assert simulation.told == [("start", 0), ("drain", 0), ("drain", 2)]
    simulation.released(0)
    assert simulation.told[3:] == []
    simulation.released(2)
    assert simulation.told[3:] == [("serve", 0)]
    assert [worker.slots for worker in simulation.workers if worker.phase is Phase.SERVING] == [
        (1,),
        (0, 2),
    ]


def test_one_worker_more_takes_its_slot_from_the_one_that_had_two():
    """Both successors are ready before the predecessor drains."""
    simulation = served(1, slots=2)
    simulation.supervisor.change(Target(1, 2, 2), simulation.now)
    simulation.ready()
    assert ("drain", 0) not in simulation.told
    simulation.ready()
    simulation.released()
    assert simulation.supervisor.serving == 2
    assert simulation.results == [Target(1, 2, 2)]


def test_a_newer_change_takes_the_place_of_one_in_progress():
    """The workers of the one between never serve."""
    simulation = served(2)
    simulation.supervisor.change(Target(2, 2, 2), simulation.now)
    simulation.supervisor.change(Target(3, 2, 2), simulation.now)
    assert simulation.killed == [(0, "superseded")]
    simulation.serve_all()
    assert {worker.generation for worker in simulation.workers} == {3}
    assert simulation.results == [Target(3, 2, 2)]


def test_the_end_drains_all_workers_and_starts_none():
    """It is over with the last worker, also if one crashes meanwhile."""
    simulation = served(3)
    simulation.supervisor.end(simulation.now)
    assert simulation.told == [("drain", 0), ("drain", 1), ("drain", 2)]
    simulation.exits(Phase.DRAINING, 0, "signal")
    simulation.released(1)
    simulation.released(2)
    simulation.pass_time(1)
    assert simulation.stopped is None
    simulation.exits(Phase.RELEASED)
    simulation.exits(Phase.RELEASED)
    assert simulation.stopped == ""
    assert len(simulation.told) == 3


def test_the_end_kills_workers_that_boot():
    """A worker that has accepted no connection yet is not waited for."""
    simulation = Simulation(1)
    simulation.supervisor.end(simulation.now)
    simulation.exits(Phase.BOOTING, 0, "signal")
    assert simulation.stopped == ""


EVENTS = strategies.lists(
    strategies.tuples(
        strategies.sampled_from(["ready", "released", "exit", "hup", "more", "fewer", "time"]),
        strategies.integers(0, 7),
    ),
    max_size=60,
)


@given(EVENTS)
@settings(deadline=EXAMPLE_DEADLINE * 1000)
def test_whatever_happens_no_socket_has_two_readers_and_all_are_served_in_the_end(events):
    """After any events, workers that do as they are asked serve each slot once."""
    simulation = served(2)
    supervisor = simulation.supervisor
    for event, number in events:
        workers = simulation.workers
        worker = workers[number % len(workers)] if workers else None
        target = supervisor.target
        if event == "hup":
            supervisor.change(
                Target(target.generation + 1, target.count, target.slots), simulation.now
            )
        elif event == "more":
            count = target.count + 1
            slots = max(target.slots, count)
            supervisor.change(Target(target.generation, count, slots), simulation.now)
        elif event == "fewer" and target.count > 1:
            supervisor.change(
                Target(target.generation, target.count - 1, target.slots), simulation.now
            )
        elif event == "time":
            simulation.pass_time(number / 4)
        elif event == "ready" and worker is not None and worker.phase is Phase.BOOTING:
            supervisor.ready(worker, simulation.now)
        elif event == "released" and worker is not None and worker.phase is Phase.DRAINING:
            supervisor.released(worker, simulation.now)
        elif event == "exit" and worker is not None:
            supervisor.exited(worker, "exit", simulation.now)
        if simulation.stopped is not None:
            return
    simulation.serve_all()
    simulation.pass_time(MAX_DELAY)
    simulation.serve_all()
    slots = sorted(slot for worker in simulation.workers for slot in worker.slots)
    assert slots == list(range(supervisor.target.slots))
