"""Rules for datagrams, against loops, reflection and floods.

The address of a sender can be forged.  So a datagram is rejected that seems to come from a
server's port (two servers that answer each other never stop: CERT CA-1996-01, CVE-2024-2169),
or from an address that no host can have; and one that was sent to a broadcast or multicast
address, which many hosts would answer.
"""

from collections import Counter
from collections.abc import Callable, Container, Sequence

from netsrv.guards.access import Access
from netsrv.guards.loops import FlowCount, LoopGuard, Peer
from netsrv.guards.rates import Rate, SourceRateLimiter
from netsrv.guards.sources import Flow, PacketInfo, Source, source_of
from netsrv.interfaces import DropReason

MAX_CACHED_VERDICTS = 4096
"""Flows whose verdict is remembered; a full cache is cleared."""


class DatagramGuard:
    """The rules of one listener.

    *refused_ports* and *own_ports* are source ports: those of other servers, and those that
    this server listens on.  *rate* holds for each source that is not on this machine.  With a
    rate, loops that are slower are ended too.  Unless *safe*, only access and the rate are
    checked.
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
        self._loops = LoopGuard()
        self._flow_verdicts: dict[Flow, DropReason | FlowCount | None] = {}
        self.set_rules(access, refused_ports, rate)

    def set_rules(self, access: Access, refused_ports: Container[int], rate: Rate | None) -> None:
        """Check by other rules.  If the rate is unchanged, existing token buckets are kept."""
        self._access = access
        self._refused_ports = refused_ports
        self._clear_verdicts()
        if rate != self._rate:
            self._rate = rate
            self._loops = LoopGuard()
            self._limiter = None if rate is None else SourceRateLimiter(rate)

    def drop(self, flow: Flow, now: float, datagram: bytes = b"") -> DropReason | None:
        """Return the reason to drop a datagram of *flow*, or None to serve it."""
        try:
            verdict = self._flow_verdicts[flow]
        except KeyError:
            verdict = self._remember(flow)
        if self.safe and flow.peer[1] in self._own_ports:
            return DropReason.OWN_PORT
        if not isinstance(verdict, FlowCount):
            return verdict
        loops = self._loops
        if now >= loops.next_interval:
            self._end_interval(now)
        served, reason = self._judge(verdict, 1, now)
        if not served:
            return reason
        if loops.watched and loops.is_loop(flow.peer, datagram, now):
            return DropReason.LOOP
        return None

    def drops(
        self,
        flows: Sequence[Flow],
        now: float,
        datagram: Callable[[int], bytes] = lambda index: b"",
    ) -> dict[int, DropReason]:
        """Return the reasons to drop datagrams of *flows*, by their index; others are served.

        *datagram* returns the bytes of the one at an index; it is called for few.
        """
        if now >= self._loops.next_interval:
            self._end_interval(now)
        if len(self._flow_verdicts) > MAX_CACHED_VERDICTS - len(flows):
            self._clear_verdicts()  # not among those of this batch, whose counts are still needed
        verdicts, own_ports = self._flow_verdicts, self._own_ports if self.safe else ()
        limited: dict[Flow, tuple[int, DropReason]] = {}
        counted: dict[Flow, FlowCount] = {}
        for flow in set(flows):
            if flow.peer[1] in own_ports:
                limited[flow] = 0, DropReason.OWN_PORT
                continue
            try:
                verdict = verdicts[flow]
            except KeyError:
                verdict = self._remember(flow)
            if verdict is None:
                continue
            if isinstance(verdict, DropReason):
                limited[flow] = 0, verdict
                continue
            counted[flow] = verdict
        if counted:
            self._judge_counted(counted, flows, now, limited)
        drops = _beyond(limited, flows) if limited else {}
        if self._loops.watched:
            self._drop_loops(drops, flows, now, datagram)
        return drops

    def sent(self, peer: Peer, reply: bytes) -> None:
        """Report a reply, which a loop may bring back."""
        if self._loops.watched:
            self._loops.sent(peer, reply)

    def _drop_loops(
        self,
        drops: dict[int, DropReason],
        flows: Sequence[Flow],
        now: float,
        datagram: Callable[[int], bytes],
    ) -> None:
        """Add the datagrams of loops to *drops*."""
        loops, ended = self._loops, set()
        for index, flow in enumerate(flows):
            peer = flow.peer
            if index in drops:
                continue
            if peer in ended:
                drops[index] = DropReason.LOOP
            elif peer in loops.watched and loops.is_loop(peer, datagram(index), now):
                ended.add(peer)
                drops[index] = DropReason.LOOP

    def _judge_counted(
        self,
        counted: dict[Flow, FlowCount],
        flows: Sequence[Flow],
        now: float,
        limited: dict[Flow, tuple[int, DropReason]],
    ) -> None:
        """Add to *limited* the *counted* flows, in the order in which they came."""
        for flow, count in Counter(flows).items():
            if flow in counted:
                served, reason = self._judge(counted[flow], count, now)
                if served < count:
                    limited[flow] = served, reason

    def _judge(self, flow: FlowCount, count: int, now: float) -> tuple[int, DropReason]:
        """Return how many of *count* datagrams are served, and the reason to drop the rest."""
        loops = self._loops
        if loops.paused and loops.is_paused(flow.peer, now):
            return 0, DropReason.LOOP
        assert self._limiter is not None
        served = self._limiter.take(flow.source, now, count)
        flow.count += served
        return served, DropReason.DATAGRAM_RATE

    def _end_interval(self, now: float) -> None:
        """Let the loop guard judge by what was served; it knows nothing of flows unless *safe*."""
        if self.safe:
            self._loops.add(self._counted())
        self._loops.end_interval(now)

    def _remember(self, flow: Flow) -> DropReason | FlowCount | None:
        """Return a verdict, and remember it: drop, serve (None), or check the source's rate."""
        if len(self._flow_verdicts) >= MAX_CACHED_VERDICTS:
            self._clear_verdicts()
        source = source_of(flow.peer[0])
        verdict: DropReason | FlowCount | None = None
        if self.safe:
            verdict = self._by_rules(source, flow)
        if verdict is None and not self._access.allows(source):
            verdict = DropReason.ACCESS
        if verdict is None and self._limiter is not None and not source.loopback:
            verdict = FlowCount(source, flow.peer)
        self._flow_verdicts[flow] = verdict
        return verdict

    def _clear_verdicts(self) -> None:
        if self.safe:
            self._loops.add(self._counted())
        self._flow_verdicts.clear()

    def _counted(self) -> list[FlowCount]:
        verdicts = self._flow_verdicts.values()
        return [verdict for verdict in verdicts if isinstance(verdict, FlowCount)]

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
