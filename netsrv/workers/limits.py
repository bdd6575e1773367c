"""Limits of the server as a whole, for a listener in one of its workers.

The objects here are those of `netsrv.guards`, but count in the memory that all workers share.  A
connection is admitted by what the others had counted a moment before: so a limit may be exceeded by
as many connections as there are workers, and by no more.
"""

import fcntl
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from netsrv.guards.admission import Admission
from netsrv.guards.capacity import ConnectionSlots, PerSource
from netsrv.guards.limits import Limits
from netsrv.guards.rates import Rate, TokenBucket
from netsrv.guards.sources import Source
from netsrv.interfaces import RejectReason
from netsrv.workers.memory import BUCKET_SIZE, ENTRY_SIZE, LimitMemory

POLL_INTERVAL = 0.02
"""Seconds between looks whether another worker has released a slot."""

LOCK_TRIES = 100
"""How often the lock of a bucket is tried; a worker that was stopped may hold it."""

_ENTRY = struct.Struct("12sI")
_FACTOR = 0x9E3779B97F4A7C15
_WORD = 8


class SharedSlots(ConnectionSlots):
    """The connections of a listener in all workers.

    `in_use` are those of this worker, and `limit` is what the others leave to it.  A worker that
    waits for a slot gets it before one that has begun to wait later, or that does not wait: the
    one that releases a slot would otherwise take it again.
    """

    def __init__(self, memory: LimitMemory, block: int, column: int, clock: Any) -> None:
        self._integers, self._reals = memory.integers, memory.reals
        self._memory = memory
        self._counts = memory.connections_at(block)
        self._times = memory.waiting_at(block)
        self._column = column
        self._clock = clock
        self._poll: Any = None
        self.total: float = 0
        super().__init__()

    @property
    def in_use(self) -> int:
        """The connections of this worker."""
        return int(self._integers[self._counts + self._column])

    @in_use.setter
    def in_use(self, count: int) -> None:
        self._integers[self._counts + self._column] = count

    @property
    def limit(self) -> float:
        """How many connections this worker may have."""
        columns = self._memory.columns
        counts = self._integers[self._counts : self._counts + columns]
        others = int(sum(counts) - counts[self._column])
        return self.total - others - self._waiting_longer(columns)

    @limit.setter
    def limit(self, limit: float) -> None:
        self.total = limit

    def on_release(self, waiter: Callable[[], None]) -> None:
        super().on_release(waiter)
        if self._poll is None:
            if not self._reals[self._times + self._column]:
                self._reals[self._times + self._column] = self._clock.seconds()
            self._poll = self._clock.callLater(POLL_INTERVAL, self._look)

    def _look(self) -> None:
        """Have the waiters check; those that still wait are registered again."""
        self._poll = None
        self.release(0)
        if self._poll is None:
            self._reals[self._times + self._column] = 0.0

    def _waiting_longer(self, columns: int) -> int:
        times = self._reals[self._times : self._times + columns].tolist()
        own = times[self._column] or float("inf")
        return sum(0.0 < since < own for since in times)


class SharedBucket(TokenBucket):
    """The tokens of a listener in all workers.

    A lock of the file protects them.  It ends with its process; if a stopped worker holds it, the
    others go on without it.
    """

    __slots__ = ("_at", "_memory")

    def __init__(self, rate: Rate, now: float, memory: LimitMemory, block: int) -> None:
        super().__init__(rate, now)
        self._memory = memory
        self._at = memory.tokens_at(block)
        with self._locked():
            if not self._since:  # the first worker of all
                self.tokens, self._since = rate.burst, now

    def take(self, now: float) -> bool:
        with self._locked():
            return super().take(now)

    def take_up_to(self, now: float, wanted: int) -> int:
        with self._locked():
            return super().take_up_to(now, wanted)

    def owe(self, now: float) -> None:
        """Take a token that is not there yet."""
        with self._locked():
            self._fill(now)
            self.tokens -= 1

    def put_back(self, count: int = 1) -> None:
        with self._locked():
            super().put_back(count)

    def wait(self, now: float) -> float:
        with self._locked():
            self._fill(now)
        return super().wait(now)

    def full(self, now: float) -> bool:
        with self._locked():
            return super().full(now)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Work with the shared state."""
        reals, at = self._memory.reals, self._at
        self._lock()
        try:
            self.tokens, self._since = reals[at], reals[at + 1]
            yield
            reals[at], reals[at + 1] = self.tokens, self._since
        finally:
            fcntl.lockf(self._memory.descriptors[0], fcntl.LOCK_UN, _WORD, at * _WORD)

    def _lock(self) -> None:
        for _ in range(LOCK_TRIES):
            with suppress(OSError):
                fcntl.lockf(
                    self._memory.descriptors[0],
                    fcntl.LOCK_EX | fcntl.LOCK_NB,
                    _WORD,
                    self._at * _WORD,
                )
                return


class _Sources(dict[bytes, int]):
    """The connections of each source of this worker; `get` adds those of the others."""

    def __init__(self, others: Callable[[bytes], int]) -> None:
        self._others = others

    def get(self, key: bytes, default: int = 0) -> int:  # type: ignore[override]
        return super().get(key, default) + self._others(key)


class SharedPerSource(PerSource):
    """The connections of each source in all workers.

    A source has its place in one of a few entries of the worker's table, in which the others look
    for it.  In the rare case that all these are taken, the others do not see it.
    """

    def __init__(self, memory: LimitMemory, block: int, column: int) -> None:
        super().__init__()
        self.sources: dict[bytes, int] = _Sources(self._count_others)
        self._memory = memory
        self._block = block
        self._column = column
        self._places: dict[bytes, int] = {}

    def add(self, source: Source) -> None:
        self._set(source.key, dict.get(self.sources, source.key, 0) + 1)

    def release(self, source: Source) -> None:
        self._set(source.key, self.sources[source.key] - 1)

    def _set(self, key: bytes, count: int) -> None:
        """Count, and show the others."""
        if count:
            self.sources[key] = count
        else:
            del self.sources[key]
        place = self._places.get(key)
        if place is None:
            place = self._free_place(key)
            if place is None:
                return
            self._places[key] = place
        tables: Any = self._memory.tables
        _ENTRY.pack_into(tables, place, _padded(key) if count else b"", count)
        if not count:
            del self._places[key]

    def _free_place(self, key: bytes) -> int | None:
        tables: Any = self._memory.tables
        start = self._bucket(key, self._column)
        for place in range(start, start + BUCKET_SIZE * ENTRY_SIZE, ENTRY_SIZE):
            if not tables[place]:
                return place
        return None

    def _count_others(self, key: bytes) -> int:
        tables: Any = self._memory.tables
        padded, size = _padded(key), BUCKET_SIZE * ENTRY_SIZE
        count = 0
        for column in range(self._memory.columns):
            if column == self._column:
                continue
            start = self._bucket(key, column)
            place = tables.find(padded, start, start + size)
            while place != -1 and (place - start) % ENTRY_SIZE:
                place = tables.find(padded, place + 1, start + size)
            if place != -1:
                count += _ENTRY.unpack_from(tables, place)[1]
        return count

    def _bucket(self, key: bytes, column: int) -> int:
        """Return the offset of the entries for a key."""
        buckets = self._memory.sources // BUCKET_SIZE
        number = (int.from_bytes(key) * _FACTOR >> 20) % buckets
        return self._memory.table_at(self._block, column) + number * BUCKET_SIZE * ENTRY_SIZE


def _padded(key: bytes) -> bytes:
    """Return a key with its length first, so that no key is another one's beginning, or empty."""
    return (bytes([len(key)]) + key).ljust(12, b"\0")


class SharedAdmission(Admission):
    """The admission to one listener in a worker, by limits of the whole server.

    A connection for which `may_accept` is True is admitted, also if another worker has taken the
    last slot or token since: it is accepted already, and could only be closed.
    """

    _granted = False

    def __init__(
        self,
        limits: Limits,
        shared: ConnectionSlots,
        now: float,
        memory: LimitMemory,
        block: int,
        column: int,
        clock: Any,
    ) -> None:
        self._memory = memory
        self._block = block
        own = per_source = None
        if limits.max_connections is not None:
            own = SharedSlots(memory, block, column, clock)
        if limits.per_source is not None:
            per_source = SharedPerSource(memory, block, column)
        super().__init__(limits, shared, now, own, per_source)

    def make_bucket(self, rate: Rate, now: float) -> TokenBucket:
        """Return the bucket of all workers."""
        return SharedBucket(rate, now, self._memory, self._block)

    def reserve(self, now: float) -> RejectReason | None:
        granted, self._granted = self._granted, False
        reason = super().reserve(now)
        if reason is None or not granted:
            return reason
        if reason is RejectReason.CONNECTION_RATE and isinstance(self._rate, SharedBucket):
            self._rate.owe(now)
        for slots in self.slots:
            slots.in_use += 1
        return None

    def reserve_batch(self, wanted: int, now: float) -> int:
        """Reserve one at a time: another worker may reserve meanwhile."""
        return super().reserve_batch(min(wanted, 1), now)

    @property
    def may_accept(self) -> bool:
        self._granted = super().may_accept
        return self._granted

    def retry_after(self, now: float) -> float:
        wait = super().retry_after(now)
        self._granted = not wait and not self.full
        return wait

    @property
    def limit(self) -> float:
        own, shared = self.slots
        return min(own.total if isinstance(own, SharedSlots) else own.limit, shared.limit)

    @property
    def free_share(self) -> float:
        own, shared = self.slots
        free = max(0.0, 1 - shared.in_use / shared.limit)
        if isinstance(own, SharedSlots):
            return min(free, max(0.0, (own.limit - own.in_use) / own.total))
        return free


def is_limited(limits: Limits) -> bool:
    """Return True if a listener has a limit that its workers count together."""
    wanted = (limits.max_connections, limits.per_source, limits.connection_rate)
    return any(limit is not None for limit in wanted)


def make_admissions(
    memory: LimitMemory, places: Mapping[int, tuple[int, int]], clock: Any
) -> Callable[[Limits, ConnectionSlots, float], Admission]:
    """Return what makes the admission of a listener from its limits.

    *places* are block and column by the identity of the limits; without a place, a listener has no
    limit that is shared.
    """

    def make(limits: Limits, shared: ConnectionSlots, now: float) -> Admission:
        place = places.get(id(limits))
        if place is None:
            return Admission(limits, shared, now)
        return SharedAdmission(limits, shared, now, memory, *place, clock)

    return make
