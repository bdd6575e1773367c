"""forward, on datagrams: each client has a socket of its own that is connected to the upstream.

So the upstream's answers, and the errors of the network about it, belong to one client, and no
other host can answer for it.
"""

from collections import deque
from typing import Any

from twisted.internet.interfaces import IHostnameResolver
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from netsrv.services.dial import Addresses, target_of
from netsrv.services.flows import Flow, Flows
from netsrv.services.forward import ForwardSettings, SendProxy, Upstream, proxy_header

Client = tuple[str, int]

LOOKS = 8
"""Looks at the flows in the time after which an idle one is closed."""

MAX_WAITING = 64
"""Datagrams that wait while the upstream's name is looked up."""

LOOKUP_INTERVAL = 30.0
"""Seconds for which the addresses of a name are used."""


class ForwardDatagrams(DatagramProtocol):
    """Passes the datagrams of clients on to the upstream, and its answers back."""

    log = Logger()
    noisy = False
    unlimited_replies = True
    """The answers are those of the upstream: their length is its business."""

    transport: Any

    def __init__(self, settings: ForwardSettings, address: Upstream | None = None) -> None:
        self._settings = settings
        self._upstream: Upstream = address or settings.address
        self._flows: Flows
        self._timer: Any = None
        self._targets: list[tuple[int, Any]] = []
        self._looked_up = 0.0
        self._looking_up = False
        self._waiting: deque[tuple[bytes, Client, Any]] = deque()
        self._problem = ""

    def startProtocol(self) -> None:
        self._flows = Flows(self.transport.reactor, self._answer)
        upstream = self._upstream
        if upstream.path or upstream.is_numeric:
            self._targets = [target_of(upstream)]
        else:
            self._look_up()

    def stopProtocol(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._flows.close()
        self._waiting.clear()

    def datagramReceived(self, datagram: bytes, addr: Client) -> None:
        flow = self._flows.by_client.get(addr)
        if flow is None:
            if not self._targets:
                self._wait(datagram, addr, self.transport.flow)
                return
            flow = self._open(addr, self.transport.flow)
            if flow is None:
                return
        self._send(flow, datagram)

    def _send(self, flow: Flow, datagram: bytes) -> None:
        flow.used = True
        try:
            flow.send(flow.prefix + datagram if flow.prefix else datagram)
        except OSError as error:
            self._report(f"{self._upstream}: {error.strerror}")

    def _open(self, addr: Client, origin: Any) -> Flow | None:
        """Open the upstream socket of a client; return None if there is none to be had."""
        flows = self._flows
        if len(flows.by_client) >= self._settings.max_flows:
            self._report(f"{len(flows.by_client)} flows are open; settings.max_flows changes that")
            return None
        try:
            flow = flows.open(addr, *self._targets[0], origin)
        except OSError as error:
            self._report(f"{self._upstream}: {error.strerror}")
            return None
        self._problem = ""
        if self._settings.send_proxy is not SendProxy.OFF:
            host = self.transport.getHost()
            flow.prefix = proxy_header(
                self._settings.send_proxy, addr[:2], (host.host, host.port), False
            )
        self._look_soon()
        if not self._upstream.is_numeric and not self._upstream.path:
            self._look_up_again()
        return flow

    def _answer(self, packets: list[bytes], origins: list[Any]) -> None:
        self.transport.write_all(packets, origins)

    def _look_soon(self) -> None:
        if self._timer is None:
            interval = self._settings.flow_timeout / LOOKS
            self._timer = self.transport.reactor.callLater(interval, self._close_idle)

    def _close_idle(self) -> None:
        """Close the sockets of clients that have been idle."""
        self._timer = None
        self._flows.close_idle(LOOKS)
        if self._flows.by_client:
            self._look_soon()

    def _report(self, problem: str) -> None:
        """Log a problem, once until a flow is opened again."""
        if problem != self._problem:
            self._problem = problem
            self.log.warn("forward: {problem}", problem=problem)

    # A name

    def _wait(self, datagram: bytes, addr: Client, origin: Any) -> None:
        """Keep a datagram until the upstream's addresses are known."""
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append((datagram, addr, origin))
        self._look_up_again()

    def _look_up_again(self) -> None:
        if self.transport.reactor.seconds() - self._looked_up >= LOOKUP_INTERVAL:
            self._look_up()

    def _look_up(self) -> None:
        """Look the upstream's name up, in the reactor's resolver."""
        if self._looking_up:
            return
        self._looking_up = True
        reactor = self.transport.reactor
        self._looked_up = reactor.seconds()
        resolver: IHostnameResolver = reactor.nameResolver
        upstream = self._upstream
        resolver.resolveHostName(
            Addresses(self._found), upstream.host, upstream.port, transportSemantics="UDP"
        )

    def _found(self, targets: list[tuple[int, Any]]) -> None:
        self._looking_up = False
        if self.transport is None:
            return
        if targets:
            self._targets = targets
        elif not self._targets:
            self._looked_up = 0.0
            self._waiting.clear()
            self._report(f"{self._upstream}: the name has no address")
        waiting, self._waiting = self._waiting, deque()
        for datagram, addr, origin in waiting:
            flow = self._flows.by_client.get(addr) or self._open(addr, origin)
            if flow is not None:
                self._send(flow, datagram)
