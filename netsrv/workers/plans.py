"""Plans: what the workers of each generation serve, and the sockets of the one in effect."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from attrs import evolve, frozen
from twisted.logger import Logger

from netsrv import __version__
from netsrv.config.model import Configuration
from netsrv.files import LogFile
from netsrv.server.prepare import open_access_log
from netsrv.workers.limits import is_limited
from netsrv.workers.memory import ColumnAllocator
from netsrv.workers.orders import Order, SocketOrder
from netsrv.workers.origin import Origin
from netsrv.workers.preparation import worker_count
from netsrv.workers.sockets import (
    SharedListener,
    add_slots,
    close_shared,
    expand_indexed,
    only_in,
    reopen_shared,
)
from netsrv.workers.supervision import Target, Worker

FIRST_GENERATION = 1

FIXED = ("worker_selection", "log_format")
FIXED_OF_STATUS = ("address", "health", "unix_mode")
"""Settings that change with a restart, of the server and of its status."""


@frozen
class Plan:
    """What the workers of one generation serve."""

    configuration: Configuration
    file_text: str | None
    listeners: list[SharedListener]
    access_log: LogFile | None


@frozen
class Change:
    """What a plan has that the one before had not."""

    added: list[SharedListener]
    closed: list[str]
    """The names of the listeners that are closed."""


class Plans:
    """The plan in effect, and the one that is to take its place, if there is one.

    *limits* has the places where limits are counted.
    """

    log = Logger()

    def __init__(self, origin: Origin, plan: Plan, limits: ColumnAllocator) -> None:
        self.current = plan
        """The plan in effect."""
        self._origin = origin
        self._limits = limits
        self._plans = {FIRST_GENERATION: plan}
        self._place_limits(plan.listeners)

    @property
    def changing(self) -> bool:
        """True if there is a plan that is not in effect yet."""
        return len(self._plans) > 1

    @property
    def all(self) -> Sequence[Plan]:
        """All plans."""
        return list(self._plans.values())

    def find(self, worker: Worker) -> Plan:
        """Return the plan of a worker; the one in effect for a worker of an earlier one."""
        return self._plans.get(worker.generation, self.current)

    def read(self, target: Target) -> Target:
        """Read the configuration, and return the target that it makes of *target*.

        Raises `ConfigurationError`, `SocketError` or OSError, and then nothing has changed.
        """
        latest = self._plans[target.generation]
        configuration, file_text = self._origin.read()
        before = latest.configuration
        configuration = self._keep_fixed(configuration, before)
        count = target.count
        if configuration.workers != before.workers:
            count = worker_count(configuration)
        slots = max(target.slots, count)
        listeners = reopen_shared(
            latest.listeners,
            expand_indexed(configuration.listeners),
            slots,
            configuration.worker_selection,
        )
        access_log = latest.access_log
        try:
            if configuration.access_log != before.access_log:
                access_log = open_access_log(configuration)
            add_slots(latest.listeners, slots, before.worker_selection)
        except BaseException:
            close_shared(only_in(listeners, latest.listeners))
            if access_log is not None and access_log is not latest.access_log:
                access_log.close()
            raise
        self._place_limits(listeners)
        generation = max(self._plans) + 1
        self._plans[generation] = Plan(configuration, file_text, listeners, access_log)
        return Target(generation, count, slots)

    def add_slot(self, target: Target) -> None:
        """Open the sockets of one more slot.  Raises `SocketError`."""
        plan = self._plans[target.generation]
        add_slots(plan.listeners, target.slots + 1, plan.configuration.worker_selection)

    def keep(self, target: Target) -> Change | None:
        """Forget all plans but that of *target*, and close what it lacks.

        Returns what is another in the plan that is in effect now; None if it is the same plan.
        """
        before, self.current = self.current, self._plans[target.generation]
        for plan in self._plans.values():
            close_shared(only_in(plan.listeners, self.current.listeners))
            if plan.access_log is not None and plan.access_log is not self.current.access_log:
                plan.access_log.close()
        self._plans = {target.generation: self.current}
        for listener in self.current.listeners:
            listener.chmod()
        if before is self.current:
            return None
        old, new = before.listeners, self.current.listeners
        return Change(only_in(new, old), [str(listener.info) for listener in only_in(old, new)])

    def timeout_of(self, target: Target) -> float:
        """Return the seconds that connections have in a drain of the workers before *target*."""
        return self._plans[target.generation].configuration.shutdown_timeout

    def order_for(self, worker: Worker, target: Target, control: int, pipe: int | None) -> Order:
        """Return the order of a worker; *control* and *pipe* are descriptors."""
        plan = self.find(worker)
        columns = self._limits.take(worker.number, len(worker.slots))
        memory = self._limits.memory
        return Order(
            program=self._origin.program,
            version=__version__,
            index=worker.index,
            workers=target.count,
            given=self._origin.given,
            file_text=plan.file_text,
            directory=self._origin.directory,
            control=control,
            access_log=pipe,
            memory=None if memory is None else memory.descriptors,
            sources=self._limits.sources,
            status=plan.configuration.status.wanted,
            sockets=socket_orders(plan.listeners, worker.slots, columns),
            inherited=list(self._origin.inherited),
        )

    def _keep_fixed(self, configuration: Configuration, before: Configuration) -> Configuration:
        """Return a configuration with the values of *before* that change with a restart."""
        names = [name for name in FIXED if getattr(configuration, name) != getattr(before, name)]
        status, old = configuration.status, before.status
        of_status = [
            name for name in FIXED_OF_STATUS if getattr(status, name) != getattr(old, name)
        ]
        for name in (*names, *(f"status.{name}" for name in of_status)):
            self.log.warn("{name} changes with a restart", name=name)
        values: dict[str, Any] = {name: getattr(before, name) for name in names}
        values_of_status: dict[str, Any] = {name: getattr(old, name) for name in of_status}
        return evolve(configuration, **values, status=evolve(status, **values_of_status))

    def _place_limits(self, listeners: Sequence[SharedListener]) -> None:
        """Give each listener a place in the memory of workers, if it has something to share."""
        seen: Counter[str] = Counter()
        for listener in listeners:
            label = listener.settings.address_label
            seen[label] += 1
            settings = listener.settings
            if settings.transport.is_stream and (listener.shared or is_limited(settings.limits)):
                listener.block = self._limits.block_of(f"{label} #{seen[label]}")


def socket_orders(
    listeners: Sequence[SharedListener], slots: Sequence[int], columns: Sequence[int]
) -> list[SocketOrder]:
    """Return the sockets of a worker with *slots*, which counts in *columns*, one for each."""
    places = list(zip(slots, columns, strict=True))
    return [
        SocketOrder(
            listener.index,
            getattr(listener.settings.address, "occurrence", None),
            listener.socket_of(slot).sock.fileno(),
            listener.socket_of(slot).sockaddr,
            listener.shared,
            listener.block,
            column,
        )
        for listener in listeners
        for slot, column in (places if listener.spread else places[:1])
        if listener.serves(slot)
    ]
