"""The PROXY protocol before a service: the header is a stage.

Only trusted proxies may connect, and each has to send a header.  From then on the connection
is that of the proxy's client, for limits, access rules, logs and the service.
"""

import math
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from netsrv.gate import Gate, Permit
from netsrv.guards.capacity import PerSource
from netsrv.guards.proxies import ProxyProtocolSettings
from netsrv.guards.sources import Source, source_of
from netsrv.interfaces import RejectReason
from netsrv.proxy_protocol import Header, HeaderError, Transport, parse
from netsrv.proxy_protocol.header import Endpoint
from netsrv.sockets.addresses import show_sockaddr
from netsrv.streams.pending import PendingConnection, Stage
from netsrv.streams.staged import StagedConnection


class ProxyPermit(Permit):
    """The permit of a connection that comes by way of a proxy, which has a limit of its own."""

    __slots__ = ("_proxies", "_proxy")

    def count(self, proxy: Source, proxies: PerSource) -> None:
        """Hold a place of *proxy* among *proxies*, which the caller has acquired."""
        self._proxy: Source | None = proxy
        self._proxies = proxies

    def leave(self) -> None:
        """Give the place back, unless that was done before."""
        proxy, self._proxy = getattr(self, "_proxy", None), None
        if proxy is not None:
            self._proxies.release(proxy)

    def cancel(self) -> None:
        super().cancel()
        self.leave()


class ProxiedConnection(StagedConnection):
    """A connection whose addresses are those of the header."""

    __slots__ = ()

    def getPeer(self) -> Any:
        """Return the address of the client."""
        return _to_address(self.proxy.source)

    def getHost(self) -> Any:
        """Return the address that the client has connected to, at the proxy."""
        return _to_address(self.proxy.destination)

    @property
    def hostname(self) -> Any:
        """The host of the client, as text."""
        return getattr(self.getPeer(), "host", "")


class ProxyStage(Stage):
    """Awaits a header of the PROXY protocol from the proxies that *settings* name."""

    name = "proxy"
    timeout_reason = RejectReason.PROXY_TIMEOUT
    lost_reason = RejectReason.PROXY_HEADER

    def __init__(self, settings: ProxyProtocolSettings) -> None:
        self.timeout = settings.header_timeout
        self.rules = settings.rules(Transport.STREAM)
        self._proxies = settings.proxies
        self._per_proxy = math.inf if settings.per_proxy is None else settings.per_proxy

    def admit(self, gate: Gate, sockaddr: Any) -> Permit | RejectReason:
        """Reserve a slot for a trusted proxy's client, whose address is not known yet."""
        if not isinstance(sockaddr, tuple):
            return gate.reserve(sockaddr)
        proxy, proxies = source_of(sockaddr[0]), gate.admission.proxies
        proxies.limit = self._per_proxy
        if not self._proxies.allows(proxy):
            reason = RejectReason.UNTRUSTED_PROXY
        elif not proxies.acquire(proxy):
            reason = RejectReason.PROXY_CONNECTIONS
        else:
            permit = gate.reserve(sockaddr, ProxyPermit)
            if isinstance(permit, ProxyPermit):
                permit.count(proxy, proxies)
            else:
                proxies.release(proxy)
            return permit
        gate.report_rejection(sockaddr, reason)
        return reason

    def start(self, connection: PendingConnection) -> Callable[[bytes], None]:
        if isinstance(connection.permit, ProxyPermit):
            connection.at_end(connection.permit.leave)
        return _PendingHeader(connection, self).receive


class _PendingHeader:
    """The header of one connection."""

    __slots__ = ("_connection", "_received", "_stage")

    def __init__(self, connection: PendingConnection, stage: ProxyStage) -> None:
        self._connection = connection
        self._stage = stage
        self._received = b""

    def receive(self, data: bytes) -> None:
        """Go on with *data* from the proxy."""
        received = self._received + data
        try:
            header = parse(received, self._stage.rules)
        except HeaderError:
            self._connection.fail(RejectReason.PROXY_HEADER)
            return
        if header is None:
            self._received = received
        else:
            self._received = b""
            self._accept(header, received[header.size :])

    def _accept(self, header: Header, data: bytes) -> None:
        connection, permit = self._connection, self._connection.permit
        gate, sockaddr = permit.gate, permit.sockaddr
        if header.source is not None:
            sockaddr = (
                header.source if isinstance(header.source, tuple) else f"unix {header.source}"
            )
            connection.address = _to_address(header.source)
            connection.connection_type = ProxiedConnection
        connection.proxy = header
        gate.observer.proxy_header_received(gate.listener_info, show_sockaddr(sockaddr), header)
        if not isinstance(sockaddr, tuple):
            permit.sockaddr = sockaddr
        elif permit.identify(sockaddr) is not None:
            connection.close()
            return
        connection.complete(data)


def _to_address(endpoint: Endpoint | None) -> Any:
    """Return an address of a header as one of Twisted's."""
    if isinstance(endpoint, tuple):
        return (IPv6Address if ":" in endpoint[0] else IPv4Address)("TCP", *endpoint)
    return UNIXAddress(endpoint or None)
