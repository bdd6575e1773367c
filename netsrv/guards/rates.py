"""How fast peers may come: token buckets, and tables of them that stay bounded."""

from collections import OrderedDict

from attrs import frozen

from netsrv.guards.sources import Source


@frozen
class Rate:
    """So many a second, and so many at once after a quiet time."""

    per_second: float
    burst: float


def parse_rate(text: str) -> Rate:
    """Parse ``RATE`` or ``RATE:BURST``; the burst is one second's worth if not given.

    Raises ValueError with what would be right.
    """
    rate, colon, burst = text.partition(":")
    try:
        per_second = float(rate)
        most = float(burst) if colon else max(1.0, per_second)
    except ValueError:
        raise ValueError(f"{text!r}: write a rate as 50 or, with a burst, 50:100") from None
    if not (0 < per_second < 1e9 and 1 <= most < 1e9):
        raise ValueError(f"{text!r}: a rate is more than 0, a burst at least 1")
    return Rate(per_second, most)


class TokenBucket:
    """A token bucket: it fills at the rate, holds a burst, and each one who comes takes a token.

    *now* is in seconds of a clock that never goes back.  `tokens` are those that there were
    when it was last asked.
    """

    __slots__ = ("_burst", "_per_second", "_since", "tokens")

    def __init__(self, rate: Rate, now: float) -> None:
        self._per_second = rate.per_second
        self._burst = self.tokens = rate.burst
        self._since = now

    def take(self, now: float) -> bool:
        """Take a token, if there is one."""
        self._fill(now)
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def take_up_to(self, now: float, wanted: int) -> int:
        """Take so many tokens, or those that there are; give how many that was."""
        self._fill(now)
        taken = min(wanted, int(self.tokens))
        self.tokens -= taken
        return taken

    def put_back(self) -> None:
        """Put back the token that `take` has just taken."""
        self.tokens += 1

    def wait(self, now: float) -> float:
        """Seconds until there is a token; 0 if there is one."""
        if self.tokens >= 1:
            return 0.0
        self._fill(now)
        return max(0.0, (1 - self.tokens) / self._per_second)

    def full(self, now: float) -> bool:
        """Whether it holds the whole burst, as it would if nobody had ever come."""
        self._fill(now)
        return self.tokens >= self._burst

    def _fill(self, now: float) -> None:
        elapsed = now - self._since
        if elapsed > 0:
            tokens = self.tokens + elapsed * self._per_second
            self.tokens = tokens if tokens < self._burst else self._burst
            self._since = now


class SourceRateLimiter:
    """A bucket for each source, in tables that stay bounded, IPv4 and IPv6 apart.

    When a table is full, the source that was quiet for longest makes way, if it has its
    whole burst again, so that nothing is forgotten; otherwise the newcomer is refused.
    """

    def __init__(self, rate: Rate, most_sources: int = 65_536) -> None:
        self._rate = rate
        self._most = most_sources
        self._tables: dict[int, OrderedDict[bytes, TokenBucket]] = {
            4: OrderedDict(),
            8: OrderedDict(),
        }

    def take(self, source: Source, now: float, wanted: int = 1) -> int:
        """Take so many tokens from the source's bucket, or those that there are."""
        key = source.key
        table = self._tables[len(key)]
        bucket = table.get(key)
        if bucket is None:
            if len(table) >= self._most and not self._make_room(table, now):
                return 0
            bucket = table[key] = TokenBucket(self._rate, now)
        table.move_to_end(key)
        return bucket.take_up_to(now, wanted)

    def __len__(self) -> int:
        return sum(map(len, self._tables.values()))

    @staticmethod
    def _make_room(table: OrderedDict[bytes, TokenBucket], now: float) -> bool:
        key, oldest = next(iter(table.items()))
        if not oldest.full(now):
            return False
        del table[key]
        return True
