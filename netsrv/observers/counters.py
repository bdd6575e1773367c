"""The counters of a server: plain integers, a set of them for each listener.

`netsrv.server.Server.info` and a metrics page read them on demand; counting costs an addition.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from attrs import asdict, define, field

from netsrv.interfaces import (
    CloseReason,
    DropReason,
    IConnection,
    IDatagrams,
    IServedConnections,
    ListenerInfo,
    RejectReason,
)
from netsrv.observers.dispatch import Observer

DURATION_BUCKETS = (0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0)
"""Seconds: the upper bounds of the buckets for the duration of connections."""

HANDSHAKE_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Seconds: the upper bounds of the buckets for the duration of TLS handshakes."""

HANDSHAKE_REASONS = frozenset(
    {RejectReason.TLS_HANDSHAKE, RejectReason.TLS_PLAINTEXT, RejectReason.TLS_TIMEOUT}
)

PROXY_REASONS = frozenset(
    {
        RejectReason.UNTRUSTED_PROXY,
        RejectReason.PROXY_CONNECTIONS,
        RejectReason.PROXY_HEADER,
        RejectReason.PROXY_TIMEOUT,
    }
)


@define
class Counts:
    """The counts of one listener since its start."""

    accepted: int = 0
    active: int = 0
    most: int = 0
    """The most connections at once, as far as one has ended since; see `peak`."""
    refused: Counter[str] = field(factory=Counter)
    """Connections by reason."""
    closed: Counter[str] = field(factory=Counter)
    """Connections by reason."""
    received_bytes: int = 0
    """Bytes of connections that have ended, and of datagrams."""
    sent_bytes: int = 0
    seconds: float = 0.0
    """The sum of the durations of all connections that have ended."""
    duration_buckets: list[int] = field(factory=lambda: [0] * (len(DURATION_BUCKETS) + 1))
    """Connections that have ended, by bucket; the last one is for longer durations."""
    datagrams_received: int = 0
    datagrams_sent: int = 0
    datagrams_dropped: Counter[str] = field(factory=Counter)
    """Datagrams by reason."""
    proxy_headers: Counter[tuple[str, str]] = field(factory=Counter)
    """Connections with the PROXY protocol by version (``1``, ``2``, ``-`` if there was no header)
    and result: ``accepted``, ``local``, or the reason for which they were rejected."""
    accept_errors: int = 0
    service_failures: int = 0
    suspended: bool = False
    tls_handshakes: Counter[str] = field(factory=Counter)
    """TLS handshakes by result: ``completed``, or the reason for which they were rejected."""
    tls_handshake_seconds: float = 0.0
    """The sum of the durations of those that were completed."""
    tls_handshake_buckets: list[int] = field(factory=lambda: [0] * (len(HANDSHAKE_BUCKETS) + 1))
    """Handshakes that were completed, by bucket; the last one is for longer durations."""

    @property
    def proxy_headers_by_version(self) -> dict[str, dict[str, int]]:
        """The PROXY headers of each version by result."""
        headers: dict[str, dict[str, int]] = {}
        for (version, result), count in self.proxy_headers.items():
            headers.setdefault(version, {})[result] = count
        return headers

    @property
    def peak(self) -> int:
        """The most connections at once."""
        return max(self.most, self.active)


def plain_counts(counts: Counts) -> dict[str, Any]:
    """Return counts as plain values, ready for JSON: the PROXY headers of a version in a table."""
    return asdict(counts) | {"proxy_headers": counts.proxy_headers_by_version}


class Counters(Observer):
    """Counts all events.  The counts of a listener are forgotten when it is closed."""

    def __init__(self) -> None:
        self.listeners: defaultdict[ListenerInfo, Counts] = defaultdict(Counts)
        """The counts of the listeners that are not closed, from the first event on."""
        self.stalls = 0
        """The number of times that the reactor was blocked."""
        self.stalled_seconds = 0.0
        self.forgets = True
        """False to keep the counts of closed listeners, too."""

    def listener_closed(self, listener: ListenerInfo) -> None:
        if self.forgets:
            self.listeners.pop(listener, None)

    def connection_made(self, listener: ListenerInfo, connection: IConnection) -> None:
        counts = self.listeners[listener]
        counts.accepted += 1
        counts.active += 1

    def connections_made(self, listener: ListenerInfo, connections: Sequence[IConnection]) -> None:
        counts = self.listeners[listener]
        counts.accepted += len(connections)
        counts.active += len(connections)

    def connection_refused(self, listener: ListenerInfo, peer: str, reason: RejectReason) -> None:
        counts = self.listeners[listener]
        counts.refused[str(reason)] += 1
        if reason in HANDSHAKE_REASONS:
            counts.tls_handshakes[str(reason)] += 1
        if reason in PROXY_REASONS:
            counts.proxy_headers["-", str(reason)] += 1

    def proxy_header_received(self, listener: ListenerInfo, peer: str, header: Any) -> None:
        result = "accepted" if header.command else "local"  # LOCAL is 0
        self.listeners[listener].proxy_headers[str(header.version), result] += 1

    def tls_handshake_completed(
        self, listener: ListenerInfo, peer: str, session: Any, seconds: float
    ) -> None:
        counts = self.listeners[listener]
        counts.tls_handshakes["completed"] += 1
        counts.tls_handshake_seconds += seconds
        counts.tls_handshake_buckets[bisect_left(HANDSHAKE_BUCKETS, seconds)] += 1

    def connection_closed(self, listener: ListenerInfo, connection: IConnection) -> None:
        self.connections_closed(listener, (connection,))

    def connections_closed(
        self, listener: ListenerInfo, connections: Sequence[IConnection]
    ) -> None:
        counts = self.listeners[listener]
        if counts.active > counts.most:  # noqa: PLR1730 - a call for each end would cost more
            counts.most = counts.active
        counts.active -= len(connections)
        closed, buckets = counts.closed, counts.duration_buckets
        for connection in connections:
            seconds, reason = connection.seconds, connection.close_reason
            closed[str(reason)] += 1
            counts.received_bytes += connection.received
            counts.sent_bytes += connection.sent
            counts.seconds += seconds
            buckets[bisect_left(DURATION_BUCKETS, seconds)] += 1

    def connections_served(self, listener: ListenerInfo, connections: IServedConnections) -> None:
        counts, count = self.listeners[listener], connections.count
        counts.accepted += count
        counts.closed[CloseReason.SERVICE.value] += count
        counts.seconds += count * connections.seconds
        counts.duration_buckets[bisect_left(DURATION_BUCKETS, connections.seconds)] += count

    def suspended(self, listener: ListenerInfo, reason: RejectReason | None) -> None:
        self.listeners[listener].suspended = True

    def resumed(self, listener: ListenerInfo) -> None:
        self.listeners[listener].suspended = False

    def datagrams_received(self, listener: ListenerInfo, datagrams: IDatagrams) -> None:
        counts = self.listeners[listener]
        counts.datagrams_received += datagrams.count
        counts.received_bytes += datagrams.size

    def datagrams_sent(self, listener: ListenerInfo, datagrams: IDatagrams) -> None:
        counts = self.listeners[listener]
        counts.datagrams_sent += datagrams.count
        counts.sent_bytes += datagrams.size

    def datagrams_refused(
        self, listener: ListenerInfo, datagrams: IDatagrams, reason: DropReason
    ) -> None:
        self.listeners[listener].datagrams_dropped[str(reason)] += datagrams.count

    def datagram_dropped(
        self, listener: ListenerInfo, reason: DropReason, error: OSError | None
    ) -> None:
        self.listeners[listener].datagrams_dropped[str(reason)] += 1

    def accept_failed(self, listener: ListenerInfo, error: OSError) -> None:
        self.listeners[listener].accept_errors += 1

    def service_failed(self, listener: ListenerInfo, callback: str) -> None:
        self.listeners[listener].service_failures += 1

    def stalled(self, seconds: float) -> None:
        self.stalls += 1
        self.stalled_seconds += seconds
