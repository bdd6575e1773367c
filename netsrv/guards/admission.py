"""Admission to one listener: the guards, asked in one order.

Admission has two steps, because a listener may learn a connection's source after it has
accepted it (from a PROXY protocol header): `Admission.reserve` takes a slot and a token of
the connection rate, `Admission.identify` checks the source.  Where the source is known at
accept, `Admission.admit` takes both steps, and asks for access first, which costs nothing.
No sockets and no timers here: *now* is passed in.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from netsrv.guards.capacity import ConnectionSlots, PerSource
from netsrv.guards.limits import Limits
from netsrv.guards.rates import Rate, TokenBucket
from netsrv.guards.sources import Source
from netsrv.interfaces import RejectReason


class Admission:
    """Asks the guards of one listener, and counts its connections.

    *shared* are the slots of the whole process: its descriptors.  *own* and *per_source* count the
    connections of the listener.
    """

    make_bucket: Callable[[Rate, float], TokenBucket] = TokenBucket

    def __init__(
        self,
        limits: Limits,
        shared: ConnectionSlots,
        now: float,
        own: ConnectionSlots | None = None,
        per_source: PerSource | None = None,
    ) -> None:
        self.slots = (ConnectionSlots() if own is None else own, shared)
        self._per_source = PerSource() if per_source is None else per_source
        self._proxies: PerSource | None = None
        self._limits: Limits | None = None
        self._rate: TokenBucket | None = None
        self.set_limits(limits, now)

    def set_limits(self, limits: Limits, now: float) -> None:
        """Apply other limits; connections that are open stay, and count."""
        self.slots[0].limit = _or_infinity(limits.max_connections)
        self._per_source.limit = _or_infinity(limits.per_source)
        self._access = limits.access
        rate = limits.connection_rate
        if self._limits is None or rate != self._limits.connection_rate:
            self._rate = None if rate is None else self.make_bucket(rate, now)
        self._limits = limits

    @property
    def proxies(self) -> PerSource:
        """The proxies by way of which connections have come, and how many of each."""
        if self._proxies is None:
            self._proxies = PerSource()
        return self._proxies

    def admit(self, source: Source | None, now: float) -> RejectReason | None:
        """Count a connection in, or return the reason against it.

        A *source* of None is a peer on a unix socket, which has no address.
        """
        if source is not None and not self._access.allows(source):
            return RejectReason.ACCESS
        reason = self.reserve(now)
        if reason is None and source is not None and not self._per_source.acquire(source):
            self._cancel_reservation()
            return RejectReason.PER_SOURCE
        return reason

    def reserve(self, now: float) -> RejectReason | None:
        """Take a slot and a token of the rate, or return the reason why there is none."""
        own, shared = self.slots
        if own.in_use >= own.limit or shared.in_use >= shared.limit:
            return RejectReason.MAX_CONNECTIONS
        if self._rate is not None and not self._rate.take(now):
            return RejectReason.CONNECTION_RATE
        own.in_use += 1
        shared.in_use += 1
        return None

    def reserve_batch(self, wanted: int, now: float) -> int:
        """Take tokens of the rate for *wanted* connections, or fewer; return their number.

        There is a slot for each, as long as the caller gives up to other connections.  They are
        for connections that `allows`: one that is over at once needs nothing else, one that
        stays is counted by `enter`.  Give the rest back by `cancel_batch`.
        """
        own, shared = self.slots
        count = min(wanted, own.limit - own.in_use, shared.limit - shared.in_use)
        if count <= 0:
            return 0
        return int(count) if self._rate is None else self._rate.take_up_to(now, int(count))

    def cancel_batch(self, count: int) -> None:
        """Put back the tokens of *count* connections that did not come."""
        if self._rate is not None:
            self._rate.put_back(count)

    def allows(self, source: Source) -> bool:
        """Return True if access and the limit per source allow another connection of *source*."""
        allowed = self._access.answers.get(source.packed)  # most peers come more than once
        if allowed is None:
            allowed = self._access.allows(source)
        per_source = self._per_source
        return allowed and per_source.sources.get(source.key, 0) < per_source.limit

    def enter(self, source: Source | None) -> None:
        """Count in a connection that `reserve_batch` has a token for, and `allows`."""
        if source is not None:
            self._per_source.add(source)
        own, shared = self.slots
        own.in_use += 1
        shared.in_use += 1

    def release_batch(self, sources: Sequence[Source | None]) -> None:
        """Count out connections of *sources*, as `release` does for one."""
        if not sources:
            return
        for source in sources:
            if source is not None:
                self._per_source.release(source)
        for slots in self.slots:
            slots.release(len(sources))

    def identify(self, source: Source) -> RejectReason | None:
        """Check the source of a connection that holds a reservation, and count it.

        If there is a reason against it, the caller gives the slot back by ``release(None)``.
        """
        if not self._access.allows(source):
            return RejectReason.ACCESS
        return None if self._per_source.acquire(source) else RejectReason.PER_SOURCE

    def release(self, source: Source | None) -> None:
        """Count out a connection that was counted in; *source* is None if it has none yet."""
        if source is not None:
            self._per_source.release(source)
        own, shared = self.slots
        own.release()
        shared.release()

    @property
    def limit(self) -> float:
        """The most connections that there may be: of the listener, or of the process if less."""
        own, shared = self.slots
        return min(own.limit, shared.limit)

    @property
    def free_share(self) -> float:
        """The free part of the slots, of the listener or of the process if less: 0.0 to 1.0."""
        return min(max(0.0, 1 - slots.in_use / slots.limit) for slots in self.slots)

    @property
    def sources(self) -> Mapping[bytes, int]:
        """The number of connections by `Source.key`."""
        return self._per_source.sources

    @property
    def full(self) -> bool:
        """True if no slot is free."""
        own, shared = self.slots
        return own.full or shared.full

    @property
    def may_accept(self) -> bool:
        """True if a slot and a token are free for certain, without asking the clock."""
        own, shared = self.slots
        if own.in_use >= own.limit or shared.in_use >= shared.limit:
            return False
        return self._rate is None or self._rate.tokens >= 1

    def retry_after(self, now: float) -> float:
        """Return the seconds until the connection rate has a token; 0.0 if it has one."""
        return 0.0 if self._rate is None else self._rate.wait(now)

    def _cancel_reservation(self) -> None:
        if self._rate is not None:
            self._rate.put_back()
        self.release(None)


def _or_infinity(limit: int | None) -> float:
    return math.inf if limit is None else limit
