"""forward, on connections: each has a connection to the upstream of its own.

Nothing is read from the client before the upstream is connected.  Each side is the producer of
the other, so a side that does not read pauses the side that sends.  An end of input passes on
alone, and so does a reset::

    client -> FIN -> upstream          client -> RST -> upstream
"""

import math
import socket
import time
from collections import Counter
from typing import Any

from twisted.internet import endpoints, error
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from netsrv.services.dial import Dial
from netsrv.services.forward import ForwardSettings, Upstream, proxy_header

FAULT = "fault"
"""The reason of an upstream that a fault keeps out of reach."""

ORDERLY = (ConnectionDone,)
"""Reasons of an end that is no reset."""


CONNECT_ERRORS = (
    (error.ConnectionRefusedError, "refused"),
    (error.TimeoutError, "timeout"),
    (error.DNSLookupError, "lookup"),
    (error.NoRouteError, "unreachable"),
)
"""The errors of connecting, and how metrics and the access log call them; others are ``error``."""


@implementer(IPushProducer)
class Reading:
    """The reading side of a transport, the producer of the other side.

    A transport that is lost stops its producer, which would send FIN on the other side, although
    that may have to be reset.
    """

    def __init__(self, transport: Any) -> None:
        self.pauseProducing = transport.pauseProducing
        self.resumeProducing = transport.resumeProducing

    def stopProducing(self) -> None:
        """Leave the end to `connectionLost`."""


@implementer(IHalfCloseableProtocol)
class ForwardStream(Protocol):
    """The client's side."""

    transport: Any

    def __init__(
        self, settings: ForwardSettings, address: Upstream, connect_errors: Counter[str]
    ) -> None:
        self._settings = settings
        self._address = address
        self._connect_errors = connect_errors
        self._delayed: Any = None
        self.connect_seconds: float | None = None
        """How long connecting has taken; None if it has not succeeded."""
        self.ended = ""
        """How the upstream's side has ended: ``closed``, ``reset``, an error of connecting, or
        ``""``."""
        self._connecting: Any = None
        """What connects: a `Dial`, or a Deferred of an endpoint."""
        self._serving: Any = None
        self.upstream: UpstreamStream | None = None

    def connectionMade(self) -> None:
        self.transport.pauseProducing()
        self._began = time.monotonic()
        transport, limit = self.transport, self._settings.connect_timeout
        delay = getattr(transport, "connect_delay", 0.0)
        if delay == math.inf:
            self._fail(FAULT)
        elif delay >= limit:
            self._delayed = transport.reactor.callLater(limit, self._fail, "timeout")
        elif delay:
            self._delayed = transport.reactor.callLater(delay, self._connect)
        else:
            self._connect()

    @property
    def access_log_details(self) -> dict[str, Any]:
        """What the access log has of the upstream's side."""
        details: dict[str, Any] = {"upstream": str(self._address), "upstream_ended": self.ended}
        if self.connect_seconds is not None:
            details["connect_seconds"] = round(self.connect_seconds, 6)
        return details

    def _connect(self) -> None:
        self._delayed = None
        reactor, limit = self.transport.reactor, self._settings.connect_timeout
        if hasattr(reactor, "serveConnected"):
            self._connecting = Dial(reactor, self._address, limit, self._dialled, self._fail)
            return
        endpoint = upstream_endpoint(reactor, self._address, limit)
        factory = Factory.forProtocol(lambda: UpstreamStream(self, bool(self._address.path)))
        factory.noisy = False
        self._connecting = endpoint.connect(factory)
        self._connecting.addCallbacks(self._connected, self._not_connected)

    def _dialled(self, sock: socket.socket) -> None:
        self._connecting = None
        self.connect_seconds = time.monotonic() - self._began
        upstream = UpstreamStream(self, bool(self._address.path), True)
        self._serving = self.transport.reactor.serveConnected(sock, upstream)
        self._serving.add_done_callback(self._served)

    def _served(self, task: Any) -> None:
        if task.cancelled() or task.exception() is not None:
            self._fail("error")

    def _connected(self, upstream: Any) -> None:
        self._connecting = None
        self.connect_seconds = time.monotonic() - self._began

    def _not_connected(self, failure: Failure) -> None:
        self._connecting = None
        if failure.check(CancelledError) is None:
            reasons = (reason for kind, reason in CONNECT_ERRORS if failure.check(kind))
            self._fail(next(reasons, "error"))

    def _fail(self, reason: str) -> None:
        """Close the connection: there is no upstream."""
        self._connecting = self._delayed = None
        self.ended = reason
        self._connect_errors[reason] += 1
        self.transport.loseConnection()

    def begin(self, upstream: "UpstreamStream") -> None:
        """Pass on from now on: the upstream is connected."""
        self.upstream = upstream
        header = proxy_header(
            self._settings.send_proxy,
            _host_and_port(self.transport.getPeer()),
            _host_and_port(self.transport.getHost()),
            True,
        )
        if header:
            upstream.transport.write(header)
        upstream.transport.registerProducer(Reading(self.transport), True)
        self.transport.registerProducer(Reading(upstream.transport), True)
        self.transport.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        upstream = self.upstream
        if upstream is not None:
            upstream.transport.write(data)
            if upstream.relays:
                self.transport.relay(self, upstream.transport)

    def readConnectionLost(self) -> None:
        if self.upstream is None:
            self._cancel()
            self.transport.loseConnection()
        else:
            self.upstream.end_writing()

    def writeConnectionLost(self) -> None:
        """The client has got all, and FIN."""

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self._cancel()
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.client = None
            if reason.check(*ORDERLY):
                upstream.close()
            else:
                upstream.transport.abortConnection()

    def _cancel(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        if self._delayed is not None:
            self._delayed.cancel()
            self._delayed = None


@implementer(IHalfCloseableProtocol)
class UpstreamStream(Protocol):
    """The upstream's side of the connection of *client*."""

    transport: Any

    def __init__(self, client: ForwardStream, is_unix: bool, relays: bool = False) -> None:
        self.client: ForwardStream | None = client
        self.relays = relays
        """True if the reactor may pass on what comes by itself."""
        self._is_unix = is_unix
        self._ended = self._end_sent = False

    def connectionMade(self) -> None:
        if not (self._is_unix or self.relays):
            self.transport.setTcpNoDelay(True)
        if self.client is None or not self.client.transport.connected:
            self.transport.abortConnection()
        else:
            self.client.begin(self)

    def dataReceived(self, data: bytes) -> None:
        if self.client is not None:
            transport = self.client.transport
            transport.write(data)
            if self.relays:
                transport.relay(self.client, self.transport)

    def end_writing(self) -> None:
        """Pass on the client's end of input."""
        self._end_sent = True
        self.transport.unregisterProducer()
        if self._ended:
            self.transport.loseConnection()
        else:
            self.transport.loseWriteConnection()

    def close(self) -> None:
        """Close: the client is gone."""
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def readConnectionLost(self) -> None:
        self._ended = True
        if self.client is not None:
            self.client.ended = "closed"
            self.client.transport.unregisterProducer()
            self.client.transport.loseWriteConnection()
        if self._end_sent:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """The upstream has got all, and FIN."""

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        client, self.client = self.client, None
        if client is None:
            return
        client.upstream = None
        if reason.check(*ORDERLY):
            client.ended = "closed"
            client.transport.unregisterProducer()
            client.transport.loseConnection()
        else:
            client.ended = "reset" if reason.check(ConnectionLost) else "lost"
            client.transport.abortConnection()


class ForwardFactory(Factory):
    """Makes a `ForwardStream` for each connection."""

    noisy = False

    def __init__(self, settings: ForwardSettings, address: Upstream | None = None) -> None:
        self._settings = settings
        self._address = address or settings.address
        self.connect_errors: Counter[str] = Counter()
        """Upstreams that could not be reached, by reason."""

    def buildProtocol(self, addr: Any) -> ForwardStream:
        return ForwardStream(self._settings, self._address, self.connect_errors)


def _host_and_port(address: Any) -> tuple[str, int] | None:
    """Return the address of a peer as a header has it; None of a unix socket."""
    port = getattr(address, "port", None)
    return None if port is None else (address.host, port)


def upstream_endpoint(reactor: Any, address: Upstream, timeout: float) -> Any:
    """Return the endpoint of an upstream, whose connecting takes *timeout* seconds at most.

    A name is looked up by the reactor's resolver, and all of its addresses are tried.
    """
    if address.path:
        return endpoints.UNIXClientEndpoint(reactor, address.path, timeout)
    if not address.is_numeric:
        return endpoints.HostnameEndpoint(reactor, address.host.encode(), address.port, timeout)
    if ":" in address.host:
        return endpoints.TCP6ClientEndpoint(reactor, address.host, address.port, timeout)
    return endpoints.TCP4ClientEndpoint(reactor, address.host, address.port, timeout)
