"""Which datagrams are served: rules against loops, reflection and floods.

A sender's address can be forged.  So a datagram is not served that seems to come from
where another server listens (two that answer each other never stop: CERT CA-1996-01,
CVE-2024-2169), or from where nobody can be; nor one that was sent to many, who
would all answer.
"""

from collections import Counter
from collections.abc import Container, Sequence

from netsrv.guards.access import Access
from netsrv.guards.rates import Rate, SourceRateLimiter
from netsrv.guards.sources import Flow, PacketInfo, Source, source_of
from netsrv.interfaces import DropReason

MAX_CACHED_VERDICTS = 4096
"""Origins whose verdict is remembered; beyond them all are forgotten, and judged anew."""


def parse_ports(text: str) -> frozenset[int]:
    """Parse ``0-1023,2049``, or ``none``.  Raises ValueError with what would be right."""
    ports: set[int] = set()
    for part in () if text == "none" else text.split(","):
        first, dash, last = part.strip().partition("-")
        last = last if dash else first
        if not (part.isascii() and first.isdigit() and last.isdigit()):
            raise ValueError(f"{text!r}: write ports as 0-1023,2049, or none")
        low, high = int(first[:6]), int(last[:6])
        if not low <= high <= 65535:
            raise ValueError(f"{text!r}: ports are numbers from 0 to 65535, the lower one first")
        ports.update(range(low, high + 1))
    return frozenset(ports)


class DatagramGuard:
    """Asked for the datagrams of one listener.

    *refused_ports* and *own_ports* are source ports; *rate* is for each source but those
    on this machine.  *safe* are the rules against loops and reflection; without them only
    access and the rate are asked.
    """

    def __init__(
        self,
        access: Access,
        refused_ports: frozenset[int],
        own_ports: Container[int],
        rate: Rate | None,
        safe: bool = True,
    ) -> None:
        self.safe = safe
        self._own_ports = own_ports
        self._rate: Rate | None = None
        self._rates: SourceRateLimiter | None = None
        self.change(access, refused_ports, rate)

    def change(self, access: Access, refused_ports: frozenset[int], rate: Rate | None) -> None:
        """Ask by other rules from now on.  Where the rate is the same, who has used it up has."""
        self._access = access
        self._refused_ports = refused_ports
        self._flow_verdicts: dict[Flow, DropReason | Source | None] = {}
        if rate != self._rate:
            self._rate = rate
            self._rates = None if rate is None else SourceRateLimiter(rate)

    def drop(self, flow: Flow, now: float) -> DropReason | None:
        """Why a datagram that came from *flow* is not served, or None if it is."""
        try:
            verdict = self._flow_verdicts[flow]
        except KeyError:
            verdict = self._remember(flow)
        if verdict is None and not (self.safe and flow.peer[1] in self._own_ports):
            return None
        served, drop = self._judge(flow, 1, now)
        return None if served else drop

    def drops(self, flows: Sequence[Flow], now: float) -> dict[int, DropReason]:
        """Which of the datagrams that came from *flows* are not served, by index, and why."""
        few: dict[Flow, tuple[int, DropReason]] = {}
        for flow, count in Counter(flows).items():
            served, drop = self._judge(flow, count, now)
            if drop is not None and served < count:
                few[flow] = served, drop
        return _beyond(few, flows) if few else {}

    def _judge(self, flow: Flow, count: int, now: float) -> tuple[int, DropReason | None]:
        """How many of so many datagrams are served, and why the others are not."""
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
        assert self._rates is not None
        return self._rates.take(verdict, now, count), DropReason.DATAGRAM_RATE

    def _remember(self, flow: Flow) -> DropReason | Source | None:
        """What the rules say of all that comes from there; a source is one that has a rate."""
        if len(self._flow_verdicts) >= MAX_CACHED_VERDICTS:
            self._flow_verdicts.clear()
        source = source_of(flow.peer[0])
        verdict: DropReason | Source | None = self._by_rules(source, flow) if self.safe else None
        if verdict is None and not self._access.allows(source):
            verdict = DropReason.ACCESS
        if verdict is None and self._rates is not None and not source.loopback:
            verdict = source
        self._flow_verdicts[flow] = verdict
        return verdict

    def _by_rules(self, source: Source, flow: Flow) -> DropReason | None:
        port = flow.peer[1]
        if port in self._refused_ports or port == 0:
            return DropReason.SOURCE_PORT
        return _by_addresses(source, flow.packet_info)


def _beyond(
    few: dict[Flow, tuple[int, DropReason]], flows: Sequence[Flow]
) -> dict[int, DropReason]:
    """The indices of those that come after the ones that are still served."""
    left = {flow: served for flow, (served, _) in few.items()}
    drops = {}
    for index, flow in enumerate(flows):
        if flow in few:
            left[flow] -= 1
            if left[flow] < 0:
                drops[index] = few[flow][1]
    return drops


def _by_addresses(source: Source, packet_info: PacketInfo) -> DropReason | None:
    if not source.unicast:
        return DropReason.NOT_UNICAST
    if not packet_info.unicast:
        return DropReason.DESTINATION
    if source.loopback and not packet_info.loopback:
        return DropReason.MARTIAN
    return None
