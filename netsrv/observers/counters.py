"""The counters of a server: plain integers, for each listener its own.

Whoever shows them, `netsrv.server.Server.info` or a metrics page, reads them when asked;
counting costs an addition.
"""

from bisect import bisect_left
from collections import Counter, defaultdict

from attrs import define, field

from netsrv.interfaces import DropReason, IConnection, IDatagrams, RejectReason
from netsrv.observers.dispatch import Observer

BOUNDS = (0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0)
"""Seconds: the upper bounds by which durations of connections are counted."""


@define
class Counts:
    """What has happened at one listener since the server's start."""

    accepted: int = 0
    active: int = 0
    refused: Counter[str] = field(factory=Counter)
    """Connections by reason."""
    closed: Counter[str] = field(factory=Counter)
    """Connections by reason."""
    received_bytes: int = 0
    """Of connections that have ended, and of datagrams."""
    sent_bytes: int = 0
    seconds: float = 0.0
    """Of all connections that have ended, together."""
    durations: list[int] = field(factory=lambda: [0] * (len(BOUNDS) + 1))
    """Connections that have ended within each of `BOUNDS`, and last those that took longer."""
    datagrams_received: int = 0
    datagrams_sent: int = 0
    datagrams_dropped: Counter[str] = field(factory=Counter)
    """Datagrams by reason."""
    accept_errors: int = 0
    service_failures: int = 0
    suspended: bool = False


class Counters(Observer):
    """Counts everything there is to count."""

    def __init__(self) -> None:
        self.listeners: defaultdict[str, Counts] = defaultdict(Counts)
        """The counts by the listener's name."""
        self.stalls = 0
        """How often the reactor was blocked."""
        self.stalled_seconds = 0.0

    def connection_made(self, listener: str, connection: IConnection) -> None:
        counts = self.listeners[listener]
        counts.accepted += 1
        counts.active += 1

    def connection_refused(self, listener: str, peer: str, reason: RejectReason) -> None:
        self.listeners[listener].refused[str(reason)] += 1

    def connection_closed(self, listener: str, connection: IConnection) -> None:
        counts = self.listeners[listener]
        counts.active -= 1
        counts.closed[str(connection.close_reason)] += 1
        counts.received_bytes += connection.received
        counts.sent_bytes += connection.sent
        counts.seconds += connection.seconds
        counts.durations[bisect_left(BOUNDS, connection.seconds)] += 1

    def suspended(self, listener: str, reason: RejectReason | None) -> None:
        self.listeners[listener].suspended = True

    def resumed(self, listener: str) -> None:
        self.listeners[listener].suspended = False

    def datagrams_received(self, listener: str, datagrams: IDatagrams) -> None:
        counts = self.listeners[listener]
        counts.datagrams_received += datagrams.count
        counts.received_bytes += datagrams.size

    def datagrams_sent(self, listener: str, datagrams: IDatagrams) -> None:
        counts = self.listeners[listener]
        counts.datagrams_sent += datagrams.count
        counts.sent_bytes += datagrams.size

    def datagrams_refused(self, listener: str, datagrams: IDatagrams, reason: DropReason) -> None:
        self.listeners[listener].datagrams_dropped[str(reason)] += datagrams.count

    def datagram_dropped(self, listener: str, reason: DropReason, error: OSError | None) -> None:
        self.listeners[listener].datagrams_dropped[str(reason)] += 1

    def accept_failed(self, listener: str, error: OSError) -> None:
        self.listeners[listener].accept_errors += 1

    def service_failed(self, listener: str, what: str) -> None:
        self.listeners[listener].service_failures += 1

    def stalled(self, seconds: float) -> None:
        self.stalls += 1
        self.stalled_seconds += seconds
