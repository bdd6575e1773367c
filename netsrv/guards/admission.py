"""Who may come in to one listener: the guards, asked in one order.

Access first, which costs no place; then the places; then the rate, whose token only
those take who come in.  No sockets and no timers: *now* is passed in.
"""

import math

from netsrv.guards.access import Access
from netsrv.guards.capacity import PerSource, Places
from netsrv.guards.limits import Limits
from netsrv.guards.rates import Bucket
from netsrv.guards.sources import Source
from netsrv.interfaces import Refusal


class Admission:
    """Asks the guards of one listener, and counts who is in.

    *shared* are the places of the whole process: its descriptors.
    """

    def __init__(self, limits: Limits, shared: Places, now: float) -> None:
        self.places = (Places(), shared)
        self._per_source = PerSource()
        self._limits: Limits | None = None
        self._rate: Bucket | None = None
        self.change(limits, now)

    def change(self, limits: Limits, now: float) -> None:
        """Let in by other limits from now on; who is in stays, and counts."""
        self.places[0].most = _most(limits.max_connections)
        self._per_source.most = _most(limits.per_source)
        self._access = Access(limits.only_from, limits.no_access)
        rate = limits.connection_rate
        if self._limits is None or rate != self._limits.connection_rate:
            self._rate = None if rate is None else Bucket(rate, now)
        self._limits = limits

    def admit(self, source: Source | None, now: float) -> Refusal | None:
        """Count one in, or say why not.  A *source* of None is a peer of this machine."""
        if source is not None and not self._access.allows(source):
            return Refusal.ACCESS
        own, shared = self.places
        if own.taken >= own.most or shared.taken >= shared.most:
            return Refusal.MAX_CONNECTIONS
        rate = self._rate
        if rate is not None and not rate.take(now):
            return Refusal.CONNECTION_RATE
        if source is not None and not self._per_source.take(source):
            if rate is not None:
                rate.give_back()
            return Refusal.PER_SOURCE
        own.taken += 1
        shared.taken += 1
        return None

    def release(self, source: Source | None) -> None:
        """Count one out that `admit` has counted in."""
        if source is not None:
            self._per_source.leave(source)
        own, shared = self.places
        own.leave()
        shared.leave()

    @property
    def full(self) -> bool:
        """Whether there is no place for anybody."""
        own, shared = self.places
        return own.full or shared.full

    @property
    def open(self) -> bool:
        """Whether there is a place and a token for certain, as far as that is known at once."""
        own, shared = self.places
        if own.taken >= own.most or shared.taken >= shared.most:
            return False
        return self._rate is None or self._rate.tokens >= 1

    def wait(self, now: float) -> float:
        """Seconds until the rate lets the next one in; 0 if it does now."""
        return 0.0 if self._rate is None else self._rate.wait(now)


def _most(limit: int | None) -> float:
    return math.inf if limit is None else limit
