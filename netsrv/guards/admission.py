"""Who may come in to one listener: the guards, asked in one order.

Access first, which costs no place; then the places; then the rate, whose token only
those take who come in.  No sockets and no timers: *now* is passed in.
"""

import math

from netsrv.guards.access import Access
from netsrv.guards.capacity import ConnectionSlots, PerSource
from netsrv.guards.limits import Limits
from netsrv.guards.rates import TokenBucket
from netsrv.guards.sources import Source
from netsrv.interfaces import RejectReason


class Admission:
    """Asks the guards of one listener, and counts who is in.

    *shared* are the places of the whole process: its descriptors.
    """

    def __init__(self, limits: Limits, shared: ConnectionSlots, now: float) -> None:
        self.slots = (ConnectionSlots(), shared)
        self._per_source = PerSource()
        self._limits: Limits | None = None
        self._rate: TokenBucket | None = None
        self.change(limits, now)

    def change(self, limits: Limits, now: float) -> None:
        """Let in by other limits from now on; who is in stays, and counts."""
        self.slots[0].limit = _most(limits.max_connections)
        self._per_source.limit = _most(limits.per_source)
        self._access = Access(limits.only_from, limits.no_access)
        rate = limits.connection_rate
        if self._limits is None or rate != self._limits.connection_rate:
            self._rate = None if rate is None else TokenBucket(rate, now)
        self._limits = limits

    def admit(self, source: Source | None, now: float) -> RejectReason | None:
        """Count one in, or say why not.  A *source* of None is a peer of this machine."""
        if source is not None and not self._access.allows(source):
            return RejectReason.ACCESS
        own, shared = self.slots
        if own.in_use >= own.limit or shared.in_use >= shared.limit:
            return RejectReason.MAX_CONNECTIONS
        rate = self._rate
        if rate is not None and not rate.take(now):
            return RejectReason.CONNECTION_RATE
        if source is not None and not self._per_source.acquire(source):
            if rate is not None:
                rate.put_back()
            return RejectReason.PER_SOURCE
        own.in_use += 1
        shared.in_use += 1
        return None

    def release(self, source: Source | None) -> None:
        """Count one out that `admit` has counted in."""
        if source is not None:
            self._per_source.release(source)
        own, shared = self.slots
        own.release()
        shared.release()

    @property
    def full(self) -> bool:
        """Whether there is no place for anybody."""
        own, shared = self.slots
        return own.full or shared.full

    @property
    def open(self) -> bool:
        """Whether there is a place and a token for certain, as far as that is known at once."""
        own, shared = self.slots
        if own.in_use >= own.limit or shared.in_use >= shared.limit:
            return False
        return self._rate is None or self._rate.tokens >= 1

    def wait(self, now: float) -> float:
        """Seconds until the rate lets the next one in; 0 if it does now."""
        return 0.0 if self._rate is None else self._rate.wait(now)


def _most(limit: int | None) -> float:
    return math.inf if limit is None else limit
