"""The faults of a datagram listener: they stand between the port and the gate.

To the port this is the protocol, to the gate the port, and each direction is a chain of stages::

    port -> upstream stages   -> gate -> service
    port <- downstream stages <- gate <- service

A datagram that no stage holds passes at once, in the turn in which it came.
"""

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.interfaces import IMulticastTransport, IUDPTransport
from twisted.internet.protocol import DatagramProtocol

from netsrv.datagrams.batch import SingleDatagram
from netsrv.faults.datagram_stage import Datagram, DatagramStage
from netsrv.faults.fault import Direction, Fault
from netsrv.forwarding import forward
from netsrv.guards.sources import Flow

MAX_HELD_DATAGRAMS = 10_000
MAX_HELD_BYTES = 2**24
"""Datagrams, and bytes, that all stages of a listener hold at most."""

UPSTREAM, DOWNSTREAM = Direction


@forward(
    "port",
    IUDPTransport,
    IMulticastTransport,
    *("addressFamily", "fileno", "flow", "getHandle", "logPrefix", "packet_info", "reactor"),
    *("at_turn_end", "resume", "socket", "suspend"),
)
class FaultyDatagrams(DatagramProtocol):
    """Puts faults between a port and *gate*; *on_drop* is called for each datagram they drop."""

    noisy = False

    def __init__(
        self,
        gate: Any,
        port: Any,
        clock: Any,
        now: Callable[[], float],
        on_drop: Callable[[], None],
    ) -> None:
        self.port = port
        self.single = SingleDatagram(self)
        self.clock = clock
        self.now = now
        self._gate = gate
        self._on_drop = on_drop
        self._serving: Datagram | None = None
        """The datagram that the port is serving, while no stage holds it."""
        self._held_count = self._held_bytes = 0
        self._stages: dict[Direction, list[DatagramStage]] = {UPSTREAM: [], DOWNSTREAM: []}
        self._sinks = {UPSTREAM: _Sink(self._deliver), DOWNSTREAM: _Sink(self._send)}
        self._first: dict[Direction, Any] = dict(self._sinks)

    # Faults

    def add(self, fault: Fault, live: bool = False) -> None:
        """Let a fault hit datagrams from now on."""
        for direction in fault.settings.directions if fault.settings.kind.stage else ():
            stage = fault.settings.kind.stage(self, direction, fault)
            self._stages[direction].append(stage)
        self._connect()

    def update(self, fault: Fault, redraw: bool) -> None:
        """Go on with other attributes of a fault."""
        for stage in self._stages_of(fault):
            stage.update()

    def remove(self, fault: Fault) -> None:
        """Go on without a fault; what it holds passes at once."""
        for stage in self._stages_of(fault):
            stage.release()
            self._stages[stage.direction].remove(stage)
        self._connect()

    def _stages_of(self, fault: Fault) -> list[DatagramStage]:
        return [
            stage for stages in self._stages.values() for stage in stages if stage.fault is fault
        ]

    def _connect(self) -> None:
        for direction, stages in self._stages.items():
            following: Any = self._sinks[direction]
            for stage in reversed(stages):
                stage.next = following
                following = stage
            self._first[direction] = following

    # What stages call

    def hold(self, datagram: Datagram) -> bool:
        """Count a datagram that is held; return False if too much is held already."""
        size = len(datagram.data)
        if self._held_count >= MAX_HELD_DATAGRAMS or self._held_bytes + size > MAX_HELD_BYTES:
            return False
        self._held_count += 1
        self._held_bytes += size
        return True

    def unhold(self, datagram: Datagram) -> None:
        """Count a datagram that is no longer held."""
        self._held_count -= 1
        self._held_bytes -= len(datagram.data)

    def drop(self, datagram: Datagram) -> None:
        """Count a datagram that a fault drops."""
        self._on_drop()

    # The port calls

    def makeConnection(self, transport: Any) -> None:
        self.port = transport
        self._gate.makeConnection(self)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        received = Datagram(datagram, self.port.flow)
        self._serving = received
        try:
            self._first[UPSTREAM].datagram(received)
        finally:
            self._serving = None

    def connectionRefused(self) -> None:
        self._gate.connectionRefused()

    def doStop(self) -> None:
        for stages in self._stages.values():
            for stage in stages:
                stage.stop()
        self._gate.doStop()

    def _deliver(self, datagram: Datagram) -> None:
        """Pass a datagram to the gate: in the port's turn, or in one of its own."""
        if self._serving is not None and datagram.flow is self.port.flow:
            self._serve(datagram.data, datagram.flow.peer)
        else:
            self.port.serve_late((datagram.flow,), (datagram.data,), self._serve)

    def _serve(self, data: bytes, peer: Any) -> None:
        self.single.data = data
        try:
            self._gate.datagramReceived(data, peer)
        finally:
            self.single.data = None

    # The gate calls

    def write(self, packet: bytes, addr: Any = None) -> None:
        """Send a datagram through the stages.  Raises what the port's `write` raises."""
        if addr is None:
            self.port.write(packet)  # a connected port has one peer, and no faults
            return
        flow = self.port.flow_to(addr)
        if flow is not None:
            self._first[DOWNSTREAM].datagram(Datagram(bytes(packet), flow))

    def write_all(self, packets: Iterable[bytes], flows: Iterable[Flow]) -> None:
        """Send datagrams to the peers of flows through the stages."""
        for packet, flow in zip(packets, flows, strict=True):
            self._first[DOWNSTREAM].datagram(Datagram(packet, flow))

    def writeSequence(self, seq: Iterable[bytes], addr: Any = None) -> None:
        self.write(b"".join(seq), addr)

    def send_back_single(self, data: bytes) -> None:
        """Send the datagram that is being served back through the stages."""
        flow: Flow = self.port.flow
        self._first[DOWNSTREAM].datagram(Datagram(data, flow))

    def _send(self, datagram: Datagram) -> None:
        self.port.write_to(datagram.data, datagram.flow)


class _Sink:
    """The end of a chain of stages."""

    def __init__(self, accept: Callable[[Datagram], None]) -> None:
        self.datagram = accept
