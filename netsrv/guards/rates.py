"""Rates: token buckets, and a bounded table of them."""

from collections import OrderedDict

from attrs import frozen

from netsrv.guards.sources import Source
from netsrv.settings import quote_value


@frozen
class Rate:
    """A number of events a second, and a burst after a quiet time."""

    per_second: float
    burst: float


def parse_rate(text: str) -> Rate:
    """Parse ``RATE`` or ``RATE:BURST``; the default burst is that of one second.

    Raises ValueError with what would be right.
    """
    rate, colon, burst = text.partition(":")
    try:
        per_second = float(rate)
        size = float(burst) if colon else max(1.0, per_second)
    except ValueError:
        raise ValueError(
            f"{quote_value(text)}: write a rate as 50 or, with a burst, 50:100"
        ) from None
    if not (0 < per_second < 1e9 and 1 <= size < 1e9):
        raise ValueError(f"{quote_value(text)}: a rate is more than 0, a burst at least 1")
    return Rate(per_second, size)


class TokenBucket:
    """A token bucket: it fills at the rate, and holds a burst.

    *now* is in seconds of a monotonic clock.  `tokens` is the level at the last call.
    """

    __slots__ = ("_burst", "_per_second", "_since", "tokens")

    def __init__(self, rate: Rate, now: float) -> None:
        self._per_second = rate.per_second
        self._burst = self.tokens = rate.burst
        self._since = now

    def take(self, now: float) -> bool:
        """Take a token; return False if there is none."""
        self._fill(now)
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def take_up_to(self, now: float, wanted: int) -> int:
        """Take *wanted* tokens, or as many as there are; return their number."""
        self._fill(now)
        count = min(wanted, int(self.tokens))
        self.tokens -= count
        return count

    def put_back(self, count: int = 1) -> None:
        """Put back tokens that were taken, up to the burst."""
        self.tokens = min(self._burst, self.tokens + count)

    def wait(self, now: float) -> float:
        """Return the seconds until there is a token; 0.0 if there is one."""
        if self.tokens >= 1:
            return 0.0
        self._fill(now)
        return max(0.0, (1 - self.tokens) / self._per_second)

    def full(self, now: float) -> bool:
        """Return True if it holds the whole burst, as a new bucket does."""
        self._fill(now)
        return self.tokens >= self._burst

    def _fill(self, now: float) -> None:
        elapsed = now - self._since
        if elapsed > 0:
            tokens = self.tokens + elapsed * self._per_second
            self.tokens = tokens if tokens < self._burst else self._burst
            self._since = now


class SourceRateLimiter:
    """A bucket for each source, in two bounded tables, one for IPv4 and one for IPv6.

    If a table is full, the source that was quiet for longest is removed, provided that its
    bucket is full again, so that no use is forgotten; otherwise the new source gets no token.
    """

    def __init__(self, rate: Rate, max_sources: int = 65_536) -> None:
        self._rate = rate
        self._max_sources = max_sources
        self._tables: dict[int, OrderedDict[bytes, TokenBucket]] = {
            4: OrderedDict(),
            8: OrderedDict(),
        }

    def take(self, source: Source, now: float, wanted: int = 1) -> int:
        """Take *wanted* tokens of a source, or as many as there are; return their number."""
        key = source.key
        table = self._tables[len(key)]
        bucket = table.get(key)
        if bucket is None:
            if len(table) >= self._max_sources and not self._remove_quietest(table, now):
                return 0
            bucket = table[key] = TokenBucket(self._rate, now)
        table.move_to_end(key)
        return bucket.take_up_to(now, wanted)

    def __len__(self) -> int:
        return sum(map(len, self._tables.values()))

    @staticmethod
    def _remove_quietest(table: OrderedDict[bytes, TokenBucket], now: float) -> bool:
        key, oldest = next(iter(table.items()))
        if not oldest.full(now):
            return False
        del table[key]
        return True
