"""Rules for datagrams, against loops, reflection and floods.

The address of a sender can be forged.  So a datagram is rejected that seems to come from a
server's port (two servers that answer each other never stop: CERT CA-1996-01, CVE-2024-2169),
or from an address that no host can have; and one that was sent to a broadcast or multicast
address, which many hosts would answer.
"""

from collections import Counter
from collections.abc import Container, Sequence

from netsrv.guards.access import Access
from netsrv.guards.rates import Rate, SourceRateLimiter
from netsrv.guards.sources import Flow, PacketInfo, Source, source_of
from netsrv.interfaces import DropReason

MAX_CACHED_VERDICTS = 4096
"""Flows whose verdict is remembered; a full cache is cleared."""


class DatagramGuard:
    """The rules of one listener.

    *refused_ports* and *own_ports* are source ports: those of other servers, and those that
    this server listens on.  *rate* holds for each source that is not on this machine.
    Unless *safe*, only access and the rate are checked.
    """

    def __init__(
        self,
        access: Access,
        refused_ports: Container[int],
        own_ports: Container[int],
        rate: Rate | None,
        safe: bool = True,
    ) -> None:
        self.safe = safe
        self._own_ports = own_ports
        self._rate: Rate | None = None
        self._limiter: SourceRateLimiter | None = None
        self.set_rules(access, refused_ports, rate)

    def set_rules(self, access: Access, refused_ports: Container[int], rate: Rate | None) -> None:
        """Check by other rules.  If the rate is unchanged, existing token buckets are kept."""
        self._access = access
        self._refused_ports = refused_ports
        self._flow_verdicts: dict[Flow, DropReason | Source | None] = {}
        if rate != self._rate:
            self._rate = rate
            self._limiter = None if rate is None else SourceRateLimiter(rate)

    def drop(self, flow: Flow, now: float) -> DropReason | None:
        """Return the reason to drop a datagram of *flow*, or None to serve it."""
        try:
            verdict = self._flow_verdicts[flow]
        except KeyError:
            verdict = self._remember(flow)
        if verdict is None and not (self.safe and flow.peer[1] in self._own_ports):
            return None
        served, reason = self._judge(flow, 1, now)
        return None if served else reason

    def drops(self, flows: Sequence[Flow], now: float) -> dict[int, DropReason]:
        """Return the reasons to drop datagrams of *flows*, by their index; others are served."""
        limited: dict[Flow, tuple[int, DropReason]] = {}
        for flow, count in Counter(flows).items():
            served, reason = self._judge(flow, count, now)
            if reason is not None and served < count:
                limited[flow] = served, reason
        return _beyond(limited, flows) if limited else {}

    def _judge(self, flow: Flow, count: int, now: float) -> tuple[int, DropReason | None]:
        """Return how many of *count* datagrams are served, and the reason to drop the rest."""
        if self.safe and flow.peer[1] in self._own_ports:
            return 0, DropReason.OWN_PORT
        try:
            verdict = self._flow_verdicts[flow]
        except KeyError:
            verdict = self._remember(flow)
        if verdict is None:
            return count, None
        if isinstance(verdict, DropReason):
            return 0, verdict
        assert self._limiter is not None
        return self._limiter.take(verdict, now, count), DropReason.DATAGRAM_RATE

    def _remember(self, flow: Flow) -> DropReason | Source | None:
        """Return a verdict, and remember it: drop, serve (None), or check the source's rate."""
        if len(self._flow_verdicts) >= MAX_CACHED_VERDICTS:
            self._flow_verdicts.clear()
        source = source_of(flow.peer[0])
        verdict: DropReason | Source | None = self._by_rules(source, flow) if self.safe else None
        if verdict is None and not self._access.allows(source):
            verdict = DropReason.ACCESS
        if verdict is None and self._limiter is not None and not source.loopback:
            verdict = source
        self._flow_verdicts[flow] = verdict
        return verdict

    def _by_rules(self, source: Source, flow: Flow) -> DropReason | None:
        port = flow.peer[1]
        if port in self._refused_ports or port == 0:
            return DropReason.SOURCE_PORT
        return _by_addresses(source, flow.packet_info)


def _beyond(
    limited: dict[Flow, tuple[int, DropReason]], flows: Sequence[Flow]
) -> dict[int, DropReason]:
    """Return the reasons to drop, by index: of a limited flow, the first datagrams are served."""
    left = {flow: served for flow, (served, _) in limited.items()}
    drops = {}
    for index, flow in enumerate(flows):
        if flow in limited:
            left[flow] -= 1
            if left[flow] < 0:
                drops[index] = limited[flow][1]
    return drops


def _by_addresses(source: Source, packet_info: PacketInfo) -> DropReason | None:
    if not source.unicast:
        return DropReason.NOT_UNICAST
    if not packet_info.unicast:
        return DropReason.DESTINATION
    if source.loopback and not packet_info.loopback:
        return DropReason.MARTIAN
    return None
