"""The last minutes of a server: a row of numbers for each second."""

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Any

from netsrv.interfaces import ListenerInfo
from netsrv.status.source import Sample

MAX_ROWS = 900
"""Rows that are kept: 15 minutes, a row a second."""

INTERVAL = 1.0
"""Seconds from one row to the next, at least."""

RATES = (
    "accepted",
    "closed",
    "refused",
    "received_bytes",
    "sent_bytes",
    "datagrams_received",
    "datagrams_sent",
    "datagrams_dropped",
)
"""The columns that are counts of all listeners a second."""

COLUMNS = ("seq", "time", "connections", *RATES, "lag")

_ZEROS = (0,) * len(RATES)


class History:
    """Rows of `COLUMNS`, of the whole server."""

    def __init__(self) -> None:
        self.newest = 0
        """The number of the newest row; the first one has 1."""
        self._rows: deque[list[Any]] = deque(maxlen=MAX_ROWS)
        self._before: dict[ListenerInfo, tuple[int, ...]] = {}
        self._sampled_at: float | None = None

    def add(self, samples: Sequence[Sample], time: float, now: float, lag: float) -> None:
        """Add a row from the counts of all listeners.

        *time* is Unix time, *now* that of a monotonic clock.  The first samples give no row.
        """
        before, self._before = self._before, {one.listener: one.counts for one in samples}
        sampled_at, self._sampled_at = self._sampled_at, now
        connections = sum(sample.connections for sample in samples)
        if sampled_at is None or now <= sampled_at:
            return
        sums = list(_ZEROS)
        for sample in samples:
            for index, count in enumerate(before.get(sample.listener, _ZEROS)):
                sums[index] += sample.counts[index] - count
        rates = [round(count / (now - sampled_at), 1) for count in sums]
        self.newest += 1
        self._rows.append([self.newest, round(time, 3), connections, *rates, round(lag, 6)])

    def as_plain(self, since: int = 0) -> dict[str, Any]:
        """Return the rows after number *since*, as the status has them."""
        first = self.newest - len(self._rows) + 1
        skipped = max(0, since + 1 - first) if since <= self.newest else 0
        rows = list(islice(self._rows, skipped, None))
        return {"seq": self.newest, "interval": INTERVAL, "columns": COLUMNS, "rows": rows}
