"""The PROXY protocol before a service: the header is a stage.

Only trusted proxies may connect, and each has to send a header.  From then on the connection
is that of the proxy's client, for limits, access rules, logs and the service.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.address import IPv6Address, UNIXAddress
from twisted.internet.interfaces import IProtocolFactory

from netsrv.gate import Gate, Permit
from netsrv.guards.capacity import PerSource
from netsrv.guards.proxies import ProxyProtocolSettings
from netsrv.guards.sources import Source, source_of
from netsrv.interfaces import RejectReason
from netsrv.proxy_protocol import Header, HeaderError, Transport, parse
from netsrv.proxy_protocol.header import Endpoint
from netsrv.sockets.addresses import show_sockaddr
from netsrv.streams.factory import GatedFactory
from netsrv.streams.pending import PendingConnection, Stage
from netsrv.streams.staged import StagedConnection
from netsrv.uvreactor.socket_handle import to_address

EARLY_SIZE = 4096
"""Bytes that are read at the accept: most headers, and a short request with them."""


class ProxyPermit(Permit):
    """The permit of a connection that counts against the limit of its proxy."""

    __slots__ = ("_proxies", "_proxy")

    def count(self, proxy: Source, proxies: PerSource) -> None:
        """Hold a place of *proxy* among *proxies*, which the caller has acquired."""
        self._proxy: Source | None = proxy
        self._proxies = proxies

    def leave(self) -> None:
        """Give the place back, unless that was done before."""
        proxy, self._proxy = self._proxy, None
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
    def client(self) -> Any:
        """The address of the client, as the header has it."""
        return self.proxy.source

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
        self._per_proxy = settings.per_proxy

    def admit(self, gate: Gate, sockaddr: Any) -> Permit | RejectReason:
        """Reserve a slot for a trusted proxy's client, whose address is not known yet."""
        if not isinstance(sockaddr, tuple):
            return gate.reserve(sockaddr)
        proxy = source_of(sockaddr[0])
        if not self._proxies.allows(proxy):
            gate.report_rejection(sockaddr, RejectReason.UNTRUSTED_PROXY)
            return RejectReason.UNTRUSTED_PROXY
        if self._per_proxy is None:
            return gate.reserve(sockaddr)
        return self._admit_within(self._per_proxy, gate, sockaddr, proxy)

    def _admit_within(
        self, limit: int, gate: Gate, sockaddr: Any, proxy: Source
    ) -> Permit | RejectReason:
        """Reserve a slot if the proxy has fewer connections than *limit*."""
        proxies = gate.admission.proxies
        proxies.limit = limit
        if not proxies.acquire(proxy):
            gate.report_rejection(sockaddr, RejectReason.PROXY_CONNECTIONS)
            return RejectReason.PROXY_CONNECTIONS
        permit = gate.reserve(sockaddr, ProxyPermit)
        if isinstance(permit, ProxyPermit):
            permit.count(proxy, proxies)
        else:
            proxies.release(proxy)
        return permit

    def factory(
        self, permit: Permit, stages: Sequence[Stage], service: IProtocolFactory, accepted: Any
    ) -> Any:
        if len(stages) > 1 or not isinstance(permit.sockaddr, tuple):
            return super().factory(permit, stages, service, accepted)
        return _ProxiedFactory(permit, stages, service, accepted)

    def start(self, connection: PendingConnection) -> Callable[[bytes], None]:
        if isinstance(connection.permit, ProxyPermit):
            connection.at_end(connection.permit.leave)
        return partial(self._receive, connection)

    def accept(self, permit: Permit, header: Header) -> bool:
        """Report a header, and let *permit* be the client's; return False if it is rejected."""
        source, gate = header.source, permit.gate
        if source is None:
            sockaddr = permit.sockaddr
        else:
            sockaddr = source if isinstance(source, tuple) else f"unix {source}"
        gate.observer.proxy_header_received(gate.listener_info, show_sockaddr(sockaddr), header)
        if isinstance(sockaddr, tuple):
            return permit.identify(sockaddr) is None
        permit.sockaddr = sockaddr
        return True

    def _receive(self, connection: PendingConnection, data: bytes) -> None:
        """Go on with *data* from the proxy; `PendingConnection.early` is what came before."""
        data = connection.early + data
        try:
            header = parse(data, self.rules)
        except HeaderError:
            connection.fail(RejectReason.PROXY_HEADER)
            return
        if header is None:
            connection.early = data
            return
        connection.early, connection.proxy = b"", header
        if header.source is not None:
            connection.address = _to_address(header.source)
            connection.connection_type = ProxiedConnection
        if self.accept(connection.permit, header):
            connection.complete(data[header.size :])
        else:
            connection.close()


class _ProxiedFactory(GatedFactory):
    """Builds the connection of a client whose header has come before the accept.

    A header that is not whole, or not valid, makes it a pending connection.
    """

    __slots__ = ("_accepted", "_stages", "connection_type")

    def __init__(
        self, permit: Permit, stages: Sequence[Stage], service: Any, accepted: Any
    ) -> None:
        self._permit = permit
        self._service = service
        self._stages = stages
        self._accepted = accepted

    def buildProtocol(self, addr: Any) -> Any:
        data, permit = self._accepted.read_early(EARLY_SIZE), self._permit
        stage: Any = self._stages[0]
        try:
            header = parse(data, stage.rules) if data else None
        except HeaderError:  # the pending connection parses it again, and reports it
            header = None
        if header is None:
            pending = PendingConnection(permit, self._stages, self._service, addr)
            pending.early = data
            return pending
        if not stage.accept(permit, header):
            return None
        source = header.source
        self.connection_type = StagedConnection if source is None else ProxiedConnection
        connection: Any = super().buildProtocol(addr if source is None else _to_address(source))
        if connection is not None:
            connection.proxy, connection.early = header, data[header.size :]
            if isinstance(permit, ProxyPermit):
                connection.at_end = (permit.leave,)
        return connection


def _to_address(endpoint: Endpoint | None) -> Any:
    """Return an address of a header as one of Twisted's."""
    if not isinstance(endpoint, tuple):
        return UNIXAddress(endpoint or None)
    host, port = endpoint
    return IPv6Address("TCP", host, port) if ":" in host else to_address(endpoint)
