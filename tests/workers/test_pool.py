"""The pool of processes, where no process can be started."""

import os

from twisted.internet.task import Clock

from netsrv.workers import pool as pools
from netsrv.workers.memory import ColumnAllocator
from netsrv.workers.pool import WorkerPool
from netsrv.workers.supervision import Target


class NoOrder:
    """An order that no process gets."""

    program, descriptors = "no.module", ()


class Owner:
    """Counts the columns that workers have."""

    def __init__(self):
        self.allocator = ColumnAllocator(1024)
        self.told = []

    def log_lines(self, worker, data):
        self.told.append(data)

    def writes_access_log(self, worker):
        return False

    def order_for(self, worker, control, access_log):
        self.told.append(self.allocator.take(worker.number, 1))
        return NoOrder()

    def worker_not_started(self, worker):
        self.allocator.give_back(worker.number)

    def ended(self, reason):
        self.told.append(reason)


class Reactor(Clock):
    """A clock that watches no descriptor."""

    def addReader(self, reader):
        pass

    removeReader = addReader


def test_a_worker_without_a_process_keeps_no_column(monkeypatch, tmp_path):
    """However often its start is tried, as when the limit of processes is reached (EAGAIN)."""

    def refuse(*_arguments):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(pools, "spawn", refuse)
    monkeypatch.setattr(pools, "write_order", lambda _order: os.open(tmp_path, os.O_RDONLY))
    owner, clock = Owner(), Reactor()
    pool = WorkerPool(clock, owner, Target(1, 1, 1), 1.0, clock.seconds)
    pool.run()
    clock.pump([0.1] * 50)
    assert owner.told == [[0]] * 5 + ["5 failed starts within 10 s, and no worker was ready"]
    assert not pool.processes
