"""What tests of a service use: the whole server in memory, or in the running reactor.

`MemoryServer` needs no reactor and no socket.  A peer of any address goes through the access
rules, the limits and the gate to the service; the clock is advanced by hand, so a time limit
of an hour is tested at once.  `LoopbackServer` is a server on a free port of loopback, in the
reactor of the test.  Both work under trial and under pytest.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar, Unpack

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import DatagramProtocol, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from netsrv.config.keywords import ListenerKeywords, ServiceObject, TransportName, listener
from netsrv.config.model import Configuration, ConfigurationError, ListenerSettings
from netsrv.interfaces import IObserver
from netsrv.observers.counters import Counts
from netsrv.observers.waiter import ConnectionWaiter
from netsrv.registry import Registry, find_services
from netsrv.server.certificates import load_certificates
from netsrv.server.drain import Drained
from netsrv.server.factories import build_factory
from netsrv.server.injection import FaultInjector, InjectedFaults
from netsrv.server.prepare import Prepared, PreparedListener
from netsrv.server.server import Server
from netsrv.sockets.opening import OpenSocket
from netsrv.testing.memory import DatagramSocket, ListeningSocket, MemoryReactor, Peer

ProtocolT = TypeVar("ProtocolT", bound=Protocol)

PEER = ("192.0.2.1", 40000)
"""The address of the first peer without one of its own; later peers have the next ports."""

HOST_IPV4 = "192.0.2.7"
HOST_IPV6 = "2001:db8::7"
"""The address of a server in memory."""

PORT = 7

MAX_RECEIVED = 2**20
"""Bytes that a client holds before it stops reading."""


def _settings(
    service: str | ServiceObject, transport: TransportName | None, address: str, keywords: Any
) -> ListenerSettings:
    default: TransportName = "udp" if isinstance(service, DatagramProtocol) else "tcp"
    return listener(transport or default, address, service, **keywords)


class _ServerFacts(InjectedFaults):
    """What a server of either kind reports, and its faults."""

    server: Server
    """The server itself.  In memory, after a call of it, `settle`."""
    _counts: Counts

    @property
    def connections(self) -> int:
        """The number of live connections."""
        self.settle()
        return self.server.connections

    @property
    def counts(self) -> Counts:
        """The counters of the listener, those with a reason as a `collections.Counter`."""
        self.settle()
        return self._counts

    def info(self) -> dict[str, Any]:
        """Describe the server: see `netsrv.server.Server.info`."""
        self.settle()
        return self.server.info()


# In memory


@implementer(IHalfCloseableProtocol)
class Client(Protocol):
    """A client of a `MemoryServer`: what it sends arrives at once, and so does the answer.

    It closes when the server closes, unless *keep_open*; then it can still send.
    """

    transport: Any

    def __init__(self, reactor: MemoryReactor, keep_open: bool, reading: bool) -> None:
        self._reactor = reactor
        self._keep_open = keep_open
        self._received = bytearray()
        self._reading = reading
        self._close_kind: str | None = None

    def send(self, data: bytes) -> None:
        """Send bytes.  Bytes that the server does not read wait, first there and then here."""
        self.transport.write(data)
        self._reactor.settle()

    @property
    def received(self) -> bytes:
        """The bytes from the server that `read` has not returned yet.

        At 1 MiB the client stops reading, as after `pause`.
        """
        self._reactor.settle()
        return bytes(self._received)

    def read(self) -> bytes:
        """Return and clear the received bytes; the client reads on."""
        data = self.received
        self._received.clear()
        self._read_on()
        return data

    def pause(self) -> None:
        """Stop reading: what the server sends waits in its buffers."""
        self._reading = False
        self.transport.pauseProducing()

    def resume(self) -> None:
        """Read again, first the bytes that have waited."""
        self._reading = True
        self._read_on()

    def end(self) -> None:
        """Half-close: stop sending, but read on."""
        self.transport.loseWriteConnection()
        self._reactor.settle()

    def close(self) -> None:
        """Close once all data is sent."""
        self.transport.loseConnection()
        self._reactor.settle()

    def reset(self) -> None:
        """Reset the connection."""
        self.transport.abortConnection()
        self._reactor.settle()

    @property
    def close_kind(self) -> str | None:
        """How the server closed the connection: ``closed``, ``reset``; None if it is open."""
        self._reactor.settle()
        return self._close_kind

    def _read_on(self) -> None:
        if self._reading and len(self._received) < MAX_RECEIVED and self._close_kind is None:
            self.transport.resumeProducing()
        self._reactor.settle()

    # The reactor calls

    def connectionMade(self) -> None:
        if not self._reading:
            self.transport.pauseProducing()

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        if len(self._received) >= MAX_RECEIVED:
            self.transport.pauseProducing()

    def readConnectionLost(self) -> None:
        self._close_kind = "closed"
        if not self._keep_open:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """The client's own half-close is sent."""

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        lost_by_peer = not self.transport.disconnecting
        if lost_by_peer and self._close_kind is None and not reason.check(ConnectionDone):
            self._close_kind = "reset"


class MemoryServer(_ServerFacts):
    """A server with one listener, in memory; it serves from the start.

    *service* is a service's name, a factory or a `DatagramProtocol`; *transport* is ``tcp`` or
    ``udp``, by default that of the service.  All other keywords are those of
    `netsrv.server.listener`; socket options have no effect here.  *clock* is the clock of the
    time limits; a service may share it.

    Raises `ConfigurationError` for an invalid argument.
    """

    def __init__(
        self,
        service: str | ServiceObject,
        transport: TransportName | None = None,
        *,
        clock: Clock | None = None,
        observers: Iterable[IObserver] = (),
        **keywords: Unpack[ListenerKeywords],
    ) -> None:
        self.clock = clock or Clock()
        """The clock that `advance` advances."""
        self._reactor = MemoryReactor(self.clock)
        self._ports = 0
        settings = _settings(service, transport, f"0.0.0.0:{PORT}", keywords)
        registry = Registry() if settings.embedded else find_services()
        self._sock = self._open(settings)
        opened = OpenSocket(self._sock, settings.address_label, ())  # type: ignore[arg-type]
        store = load_certificates((settings,)).get(settings.tls)
        service = build_factory(settings, registry)
        made = PreparedListener(settings, service, opened, certificates=store)
        self.server = Server(
            self._reactor,
            Configuration((settings,)),
            Prepared((made,), ()),
            observers,
            self.clock.seconds,
        )
        self.server.startService()
        self._counts = self.server.counters.listeners[made.info]
        self._injector = FaultInjector(self.server.listeners[0])

    @staticmethod
    def _open(settings: ListenerSettings) -> ListeningSocket | DatagramSocket:
        if settings.transport == "unix":
            raise ConfigurationError("in memory there are only tcp and udp")
        kind = ListeningSocket if settings.transport.is_stream else DatagramSocket
        return kind(("0.0.0.0", PORT))

    def connect(
        self, peer: Peer | None = None, *, keep_open: bool = False, reading: bool = True
    ) -> Client:
        """Connect from *peer*, a numeric address of IPv4 or IPv6 and a port.

        With *keep_open* the client does not close when the server does; without *reading* it
        is paused from the start.

        As with real sockets, the client is connected even if the server does not serve it yet,
        or closes it.  Raises ConnectionRefusedError if the listener is closed.
        """
        return self.connect_protocol(Client(self._reactor, keep_open, reading), peer)

    def connect_protocol(self, protocol: ProtocolT, peer: Peer | None = None) -> ProtocolT:
        """Connect a protocol of your own, on Twisted's transport.  After its calls, `settle`."""
        if not isinstance(self._sock, ListeningSocket):
            raise TypeError("a UDP server has no connections; see request and send_datagram")
        if peer is None:
            peer = (PEER[0], PEER[1] + self._ports)
            self._ports += 1
        host = HOST_IPV6 if ":" in peer[0] else HOST_IPV4
        end = self._sock.connect(peer, (host, PORT))
        self._reactor.adopt(end, protocol)
        self._reactor.settle()
        return protocol

    def send_datagram(self, data: bytes, peer: Peer = PEER) -> None:
        """Send a datagram from *peer*."""
        self._datagrams.arrive(data, peer)
        self._reactor.settle()

    def request(self, data: bytes, peer: Peer = PEER) -> list[bytes]:
        """Send a datagram from *peer*, and return the replies that it gets at once."""
        before = len(self.sent)
        self.send_datagram(data, peer)
        return [reply for reply, target in self.sent[before:] if target == peer]

    @property
    def sent(self) -> list[tuple[bytes, Peer]]:
        """All datagrams that the server has sent, each with its target."""
        self._reactor.settle()
        return list(self._datagrams.sent)

    @property
    def _datagrams(self) -> DatagramSocket:
        if not isinstance(self._sock, DatagramSocket):
            raise TypeError("a TCP server has no datagrams; see connect")
        return self._sock

    def advance(self, seconds: float) -> None:
        """Advance the clock.  Timed calls are made in their order, each at its time."""
        self._reactor.advance(seconds)

    def settle(self) -> None:
        """Deliver pending bytes and make due calls.

        Every method here does so; it is needed after other code has changed something.  Raises
        RuntimeError if server and peers never stop sending.
        """
        self._reactor.settle()

    def drain(self, timeout: float, delay: float = 0.0) -> Deferred[Drained]:
        """Drain the server: see `netsrv.server.Server.drain`."""
        self._reactor.settle()
        drained = self.server.drain(timeout, delay)
        self._reactor.settle()
        return drained


# In the running reactor


class LoopbackServer(_ServerFacts):
    """A server with one listener on a free port of loopback, in the reactor of the test.

    Arguments are those of `MemoryServer`, after the *reactor* that runs.  Use it in an
    ``async with`` statement, or call `start` and `stop`.  At the end all connections are
    aborted, those of `connect` at both ends: nothing is left in the reactor.
    """

    host = "127.0.0.1"
    port: int
    """The port in effect, once the server is started."""

    def __init__(
        self,
        reactor: Any,
        service: str | ServiceObject,
        transport: TransportName | None = None,
        *,
        observers: Iterable[IObserver] = (),
        **keywords: Unpack[ListenerKeywords],
    ) -> None:
        settings = _settings(service, transport, f"{self.host}:0", keywords)
        configuration = Configuration((settings,), shutdown_timeout=0)
        self.server = Server(reactor, configuration, observers=observers)
        self._reactor = reactor
        self._clients: list[Protocol] = []

    def start(self) -> LoopbackServer:
        """Start to serve.  Raises `ConfigurationError` or `netsrv.sockets.SocketError`."""
        self.server.startService()
        [running] = self.server.listeners
        self._counts = self.server.counters.listeners[running.listener_info]
        self._injector = FaultInjector(running)
        self.port = running.port
        return self

    def stop(self) -> Deferred[None]:
        """Stop, and fire when nothing is left; for ``addCleanup`` of a test case."""
        return ensureDeferred(self._stop())

    async def _stop(self) -> None:
        await self.server.stopService()
        transports: list[Any] = [client.transport for client in self._clients if client.transport]
        for transport in transports:
            transport.abortConnection()
        while not all(transport.disconnected for transport in transports):
            await deferLater(self._reactor, 0)
        await deferLater(self._reactor, 0)  # a reactor may close sockets after the events

    async def __aenter__(self) -> LoopbackServer:
        return self.start()

    async def __aexit__(self, *_exc_info: object) -> None:
        await self.stop()

    def connect(self, protocol: ProtocolT) -> Deferred[ProtocolT]:
        """Connect a protocol to the server, and fire with it.  It is aborted at the end."""
        self._clients.append(protocol)
        endpoint = TCP4ClientEndpoint(self._reactor, self.host, self.port)
        connected: Deferred[ProtocolT] = connectProtocol(endpoint, protocol)
        return connected

    def wait_for_connections(self, count: int) -> Deferred[int]:
        """Fire when *count* connections have been served since the start, with their number.

        Live connections count, and their services know them.  For the number of live
        connections see `netsrv.server.Server.wait_for_connections`.
        """
        waiter = ConnectionWaiter(self.server.observers, lambda: self.counts.accepted, count.__le__)
        return waiter.result.addCallback(
            lambda accepted: deferLater(self._reactor, 0, lambda: accepted)
        )
