"""Datagrams with a header of the PROXY protocol, which each has in front of its payload.

It stands between the port and the gate.  The gate and the service see the clients that the
headers name; what is sent to a client goes to the proxy that the client's last datagram has come
from.
"""

from collections import OrderedDict
from typing import Any

from attrs import evolve
from twisted.internet.protocol import DatagramProtocol
from zope.interface import implementer

from netsrv.batches import Datagrams, Peer, accepts_batches
from netsrv.datagrams.batch import Batch
from netsrv.datagrams.gate import DatagramGate
from netsrv.guards.proxies import ProxyProtocolSettings
from netsrv.guards.sources import Flow, source_of
from netsrv.interfaces import DropReason, IDatagramBatchProtocol
from netsrv.proxy_protocol import HeaderError, Transport, parse

MAX_CLIENTS = 4096
"""Clients that are remembered, to send to them by way of their proxies: the last to have sent."""


@implementer(IDatagramBatchProtocol)
class ProxiedDatagrams(DatagramProtocol):
    """Passes on to *gate* what trusted proxies send, without the headers."""

    noisy = False

    def __init__(self, gate: DatagramGate, settings: ProxyProtocolSettings) -> None:
        self._gate = gate
        self._next: Any = gate
        """What gets the datagrams: the gate, or what stands before it."""
        self._proxies = settings.proxies
        self._rules = settings.rules(Transport.DGRAM)
        self._port: Any = None
        self._routes: dict[Peer, Flow] = {}
        self._flows: OrderedDict[tuple[Flow, Peer], Flow] = OrderedDict()
        """The flows of the clients by proxy and client, the last one to have sent at the end."""

    def makeConnection(self, transport: Any) -> None:
        self._port = transport
        transport.routes = self._routes
        self._gate.makeConnection(transport)

    def pass_to(self, protocol: Any) -> None:
        """Pass datagrams to the gate, or to another protocol that stands before it."""
        self._next = protocol

    def doStop(self) -> None:
        self._next.doStop()
        self._port.routes = {}

    def connectionRefused(self) -> None:
        self._gate.connectionRefused()

    def datagramReceived(self, datagram: bytes, addr: Peer) -> None:
        port = self._port
        opened = self._open(datagram, port.flow)
        if isinstance(opened, DropReason):
            self._gate.report_refused(Datagrams((port.flow,), (len(datagram),)), opened)
            return
        port.single.data, port.flow = opened
        self._next.datagramReceived(port.single.data, port.flow.peer)

    def datagramsReceived(self, batch: Batch) -> None:
        flows: list[Flow] = []
        payloads: list[bytes] = []
        refused: dict[DropReason, list[int]] = {}
        for index, datagram in enumerate(batch.data()):
            opened = self._open(datagram, batch.flows[index])
            if isinstance(opened, DropReason):
                refused.setdefault(opened, []).append(index)
            else:
                payloads.append(opened[0])
                flows.append(opened[1])
        for reason, indices in refused.items():
            self._gate.report_refused(batch.only(indices), reason)
        if payloads and accepts_batches(self._next):
            self._next.datagramsReceived(batch.replaced(flows, payloads))
        elif payloads:
            self._port.serve_each(flows, payloads, self._next.datagramReceived)

    def _open(self, datagram: bytes, flow: Flow) -> tuple[bytes, Flow] | DropReason:
        """Return the payload and the flow of the client, or the reason to drop a datagram."""
        if not self._proxies.allows(source_of(flow.peer[0])):
            return DropReason.UNTRUSTED_PROXY
        try:
            header = parse(datagram, self._rules)
        except HeaderError:
            return DropReason.PROXY_HEADER
        if header is None:
            return DropReason.PROXY_HEADER
        client = header.source if isinstance(header.source, tuple) else flow.peer
        return datagram[header.size :], self._flow_of(client, flow)

    def _flow_of(self, client: Peer, proxy: Flow) -> Flow:
        """Return the flow of a client: its address, and the way to its proxy."""
        key = proxy, client
        flow = self._flows.get(key)
        if flow is None:
            if len(self._flows) >= MAX_CLIENTS:
                self._forget_oldest()
            flow = self._flows[key] = evolve(proxy, peer=client)
        else:
            self._flows.move_to_end(key)
        self._routes[client] = flow
        return flow

    def _forget_oldest(self) -> None:
        _key, flow = self._flows.popitem(last=False)
        if self._routes.get(flow.peer) is flow:
            del self._routes[flow.peer]
