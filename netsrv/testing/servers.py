"""What tests of a service use: the whole server in memory, or in the running reactor.

`MemoryServer` needs no reactor and no socket.  A peer of any address goes the way that every
peer goes, by the access rules, the limits and the gate to the service; the clock is stepped
by hand, so a time limit of an hour is tested at once.  `LoopbackServer` is a server on a free
port of loopback, in the reactor that a test runs in.  Both work under trial and under pytest.
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

from netsrv.config.model import Configuration, ConfigurationError, ListenerSettings
from netsrv.config.readers import ListenerKeywords, ServiceObject, Transport, listener
from netsrv.interfaces import IObserver
from netsrv.observers.counters import Counts
from netsrv.observers.waiter import ConnectionWaiter
from netsrv.registry import Registry, find_services
from netsrv.server.drain import Drained
from netsrv.server.factories import build_factory
from netsrv.server.prepare import Prepared, PreparedListener
from netsrv.server.server import Server
from netsrv.sockets.opening import OpenSocket
from netsrv.testing.memory import DatagramSocket, ListeningSocket, MemoryReactor, Peer

ProtocolT = TypeVar("ProtocolT", bound=Protocol)

PEER = ("192.0.2.1", 40000)
"""Where the first peer comes from that has no address of its own; others have the next ports."""

HOST_IPV4 = "192.0.2.7"
HOST_IPV6 = "2001:db8::7"
"""Where a server in memory is reached."""

PORT = 7

MOST_RECEIVED = 2**20
"""Bytes that a client holds before it reads no further."""


def _settings(
    service: str | ServiceObject, transport: Transport | None, address: str, keywords: Any
) -> ListenerSettings:
    usual: Transport = "udp" if isinstance(service, DatagramProtocol) else "tcp"
    return listener(transport or usual, address, service, **keywords)


class _Served:
    """What can be asked of a server, wherever it is."""

    server: Server
    """The server itself.  In memory, after a call of it, `settle`."""
    _counts: Counts

    def settle(self) -> None:
        """Elsewhere than in memory a reactor does it."""

    @property
    def connections(self) -> int:
        """How many connections are being served."""
        self.settle()
        return self.server.connections

    @property
    def counts(self) -> Counts:
        """The counters, as whole numbers and by reasons."""
        self.settle()
        return self._counts

    def info(self) -> dict[str, Any]:
        """Describe the server, as `netsrv.server.Server.info`."""
        self.settle()
        return self.server.info()


# In memory


@implementer(IHalfCloseableProtocol)
class Client(Protocol):
    """A client of a `MemoryServer`: what it sends arrives at once, and so does the answer.

    It closes when the server has ended, unless it *stays*; then it can still send.
    """

    transport: Any

    def __init__(self, reactor: MemoryReactor, stays: bool, reads: bool) -> None:
        self._reactor = reactor
        self._stays = stays
        self._received = bytearray()
        self._reads = reads
        self._ended: str | None = None

    def send(self, data: bytes) -> None:
        """Send bytes.  What the server does not read waits, first there and then here."""
        self.transport.write(data)
        self._reactor.settle()

    @property
    def received(self) -> bytes:
        """All that has come from the server, and was not taken by `take`.

        At 1 MiB the client reads no further, as after `pause`.
        """
        self._reactor.settle()
        return bytes(self._received)

    def take(self) -> bytes:
        """Give what has been received, and forget it: the client reads on."""
        taken = self.received
        self._received.clear()
        self._read_on()
        return taken

    def pause(self) -> None:
        """Read no more: what the server sends waits in its buffers."""
        self._reads = False
        self.transport.pauseProducing()

    def resume(self) -> None:
        """Read again, first what has waited."""
        self._reads = True
        self._read_on()

    def end(self) -> None:
        """Half-close: send nothing more, but read on."""
        self.transport.loseWriteConnection()
        self._reactor.settle()

    def close(self) -> None:
        """Close, once all that was sent has gone out."""
        self.transport.loseConnection()
        self._reactor.settle()

    def reset(self) -> None:
        """Reset the connection."""
        self.transport.abortConnection()
        self._reactor.settle()

    @property
    def ended(self) -> str | None:
        """How the server has ended the connection: ``closed``, ``reset``, or None if it has not."""
        self._reactor.settle()
        return self._ended

    def _read_on(self) -> None:
        if self._reads and len(self._received) < MOST_RECEIVED and self._ended is None:
            self.transport.resumeProducing()
        self._reactor.settle()

    # The reactor calls

    def connectionMade(self) -> None:
        if not self._reads:
            self.transport.pauseProducing()

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        if len(self._received) >= MOST_RECEIVED:
            self.transport.pauseProducing()

    def readConnectionLost(self) -> None:
        self._ended = "closed"
        if not self._stays:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Our own half-close has gone out."""

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        lost_by_peer = not self.transport.disconnecting
        if lost_by_peer and self._ended is None and not reason.check(ConnectionDone):
            self._ended = "reset"


class MemoryServer(_Served):
    """A server with one listener, in memory; it serves from the start.

    *service* is a service's name, a factory or a `DatagramProtocol`; *transport* is
    ``tcp`` or ``udp``, by default what the service is for.  All other keywords are those of
    `netsrv.server.listener`; options of sockets have no effect here.  *clock* is the clock
    that time limits follow, and may be one that the service has too.

    Raises `ConfigurationError` for what cannot be.
    """

    def __init__(
        self,
        service: str | ServiceObject,
        transport: Transport | None = None,
        *,
        clock: Clock | None = None,
        observers: Iterable[IObserver] = (),
        **keywords: Unpack[ListenerKeywords],
    ) -> None:
        self.clock = clock or Clock()
        """Its time is what `advance` lets go by."""
        self._reactor = MemoryReactor(self.clock)
        self._ports = 0
        settings = _settings(service, transport, f"0.0.0.0:{PORT}", keywords)
        registry = Registry() if settings.embedded else find_services()
        self._sock = self._open(settings)
        opened = OpenSocket(self._sock, settings.address_label, ())  # type: ignore[arg-type]
        made = PreparedListener(settings, build_factory(settings, registry), opened)
        self.server = Server(
            self._reactor,
            Configuration((settings,)),
            Prepared((made,), ()),
            observers,
            self.clock.seconds,
        )
        self.server.startService()
        self._counts = self.server.counters.listeners[made.info]

    @staticmethod
    def _open(settings: ListenerSettings) -> ListeningSocket | DatagramSocket:
        if settings.transport == "unix":
            raise ConfigurationError("in memory there are only tcp and udp")
        kind = DatagramSocket if settings.transport == "udp" else ListeningSocket
        return kind(("0.0.0.0", PORT))

    def connect(
        self, peer: Peer | None = None, *, stays: bool = False, reads: bool = True
    ) -> Client:
        """Connect from *peer*, a numeric address of IPv4 or IPv6 and a port.

        One that *stays* does not close when the server has ended; one that does not read is
        paused from the start.

        The client is connected also if the server does not serve it yet, or not for long, as
        everywhere.  Raises ConnectionRefusedError if the server has ended.
        """
        return self.connect_protocol(Client(self._reactor, stays, reads), peer)

    def connect_protocol(self, protocol: ProtocolT, peer: Peer | None = None) -> ProtocolT:
        """Connect a protocol of your own, on Twisted's transport.  After its calls, `settle`."""
        if not isinstance(self._sock, ListeningSocket):
            raise TypeError("nobody connects to a UDP server; see ask and send_datagram")
        if peer is None:
            peer = (PEER[0], PEER[1] + self._ports)
            self._ports += 1
        host = HOST_IPV6 if ":" in peer[0] else HOST_IPV4
        end = self._sock.connect(peer, (host, PORT))
        self._reactor.adopt(end, protocol)
        self._reactor.settle()
        return protocol

    def send_datagram(self, data: bytes, peer: Peer = PEER) -> None:
        """Have a datagram come from *peer*."""
        self._datagrams.arrive(data, peer)
        self._reactor.settle()

    def ask(self, data: bytes, peer: Peer = PEER) -> list[bytes]:
        """Send a datagram from *peer*, and give all that it gets at once."""
        before = len(self.sent)
        self.send_datagram(data, peer)
        return [each for each, to in self.sent[before:] if to == peer]

    @property
    def sent(self) -> list[tuple[bytes, Peer]]:
        """All datagrams that the server has sent, each with whom it went to."""
        self._reactor.settle()
        return list(self._datagrams.sent)

    @property
    def _datagrams(self) -> DatagramSocket:
        if not isinstance(self._sock, DatagramSocket):
            raise TypeError("a TCP server has no datagrams; see connect")
        return self._sock

    def advance(self, seconds: float) -> None:
        """Let time go by.  What is due on the way happens in its order, each at its time."""
        self._reactor.advance(seconds)

    def settle(self) -> None:
        """Let happen what is to happen now: bytes arrive, calls that are due are made.

        Every call here does so; it is needed after something else has changed.  Raises
        RuntimeError if server and peers talk to each other without end.
        """
        self._reactor.settle()

    def drain(self, timeout: float) -> Deferred[Drained]:
        """End as a server does: see `netsrv.server.Server.drain`."""
        self._reactor.settle()
        drained = self.server.drain(timeout)
        self._reactor.settle()
        return drained


# In the running reactor


class LoopbackServer(_Served):
    """A server with one listener on a free port of loopback, in the reactor of the test.

    Arguments are those of `MemoryServer`, after the *reactor* that runs.  Use it in an
    ``async with`` statement, or call `start` and `stop`.  At its end all connections are
    aborted, those of `connect` at both ends: nothing of it is left in the reactor.
    """

    host = "127.0.0.1"
    port: int
    """The port in effect, once it is started."""

    def __init__(
        self,
        reactor: Any,
        service: str | ServiceObject,
        transport: Transport | None = None,
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
        """Serve from now on.  Raises `ConfigurationError`, or `netsrv.sockets.SocketError`."""
        self.server.startService()
        [running] = self.server.listeners
        self._counts = self.server.counters.listeners[running.listener_info]
        self.port = running.port
        return self

    def stop(self) -> Deferred[None]:
        """End, and fire when nothing is left; for ``addCleanup`` of a test case."""
        return ensureDeferred(self._stop())

    async def _stop(self) -> None:
        await self.server.stopService()
        transports: list[Any] = [each.transport for each in self._clients if each.transport]
        for each in transports:
            each.abortConnection()
        while not all(each.disconnected for each in transports):
            await deferLater(self._reactor, 0)
        await deferLater(self._reactor, 0)  # a reactor may close sockets when all was told

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
        """Fire when so many connections have been served since the start, with their number.

        Live ones are among them, and their services know of them.  For a number of live ones
        alone see `netsrv.server.Server.wait_for_connections`.
        """
        accepted = ConnectionWaiter(
            self.server.observers, lambda: self.counts.accepted, count.__le__
        )
        return accepted.result.addCallback(
            lambda found: deferLater(self._reactor, 0, lambda: found)
        )
