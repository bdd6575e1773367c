"""The gate: where a peer meets the server, before it meets the service.

One gate stands at each listener.  For streams it is the protocol of the reactor's
transport and the transport of the service's protocol; for datagrams it is a protocol
around the service's.  It tells the observer, knows who is there, and keeps the server's
own duties at the end of a connection, whatever the service does.  It opens no sockets
and speaks no protocol.
"""

import fcntl
import termios
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    ISystemHandle,
    ITCPTransport,
    ITLSTransport,
)
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import classImplements

from netsrv.addresses import show_sockaddr
from netsrv.admission import Admission
from netsrv.interfaces import IObserver, Refusal
from netsrv.sources import Source, source_of

LINGER = 2.0
"""Seconds that a connection which we have ended goes on reading, so that the peer gets
our last bytes: closing with unread input would send RST, which destroys them."""


@frozen
class _Newcomer:
    """A peer that was admitted; None as its source is a peer of this machine."""

    source: Source | None


class Gate:
    """The gate of one listener; *listener* is its name in the log.

    *clock* provides IReactorTime; *now* gives seconds that never go back, for limits;
    *observer* is told of everything.
    """

    def __init__(
        self,
        clock: Any,
        listener: str,
        observer: IObserver,
        admission: Admission,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self.now = now
        self.admission = admission
        self._newcomer: _Newcomer | None = None
        self.listener = listener
        self.observer = observer
        self.connections: set[Connection] = set()
        self._ended: deque[tuple[float, Connection]] = deque()
        self._ending: Any = None
        self._empty: list[Deferred[None]] = []

    def stream(self, factory: IProtocolFactory) -> IProtocolFactory:
        """Put the gate before a service's factory."""
        return _GatedFactory(self, factory)

    def datagrams(self, protocol: DatagramProtocol) -> DatagramProtocol:
        """Put the gate before a service's datagram protocol."""
        return _GatedDatagrams(self, protocol)

    def when_empty(self) -> Deferred[None]:
        """Fire once the last of the live connections has gone."""
        waiter: Deferred[None] = Deferred(self._empty.remove)
        self._empty.append(waiter)
        self._tell_if_empty()
        return waiter

    def abort_all(self) -> int:
        """Abort the connections that are left, and say how many they were."""
        left = list(self.connections)
        for connection in left:
            connection.abortConnection()
        return len(left)

    def admit(self, sockaddr: Any) -> Refusal | None:
        """Ask whether a peer may come in; if so, its connection comes next, or `withdraw`."""
        source = source_of(sockaddr[0]) if isinstance(sockaddr, tuple) else None
        refusal = self.admission.admit(source, self.now())
        if refusal is None:
            self._newcomer = _Newcomer(source)
        else:
            self.observer.connection_refused(self.listener, show_sockaddr(sockaddr), refusal)
        return refusal

    def withdraw(self) -> None:
        """Give the place back of a peer that was admitted and has not come in."""
        if self._newcomer is not None:
            self.admission.release(self._newcomer.source)
            self._newcomer = None

    def entered(self, connection: "Connection") -> None:
        """A connection is there."""
        connection.admitted, self._newcomer = self._newcomer, None
        self.connections.add(connection)
        self.observer.connection_made(self.listener, connection.transport)

    def left(self, connection: "Connection") -> None:
        """A connection is gone."""
        self.connections.discard(connection)
        if connection.admitted is not None:
            self.admission.release(connection.admitted.source)
        self._tell_if_empty()

    def linger(self, connection: "Connection") -> None:
        """Close a connection on which we have sent FIN, once its peer has had `LINGER` seconds."""
        self._ended.append((self.clock.seconds() + LINGER, connection))
        if self._ending is None:
            self._ending = self.clock.callLater(LINGER, self._sweep)

    def _sweep(self) -> None:
        self._ending = None
        now = self.clock.seconds()
        while self._ended and self._ended[0][0] <= now:
            connection = self._ended.popleft()[1]
            connection.transport.loseConnection()
        while self._ended and self._ended[0][1] not in self.connections:
            self._ended.popleft()
        if self._ended:
            self._ending = self.clock.callLater(self._ended[0][0] - now, self._sweep)

    def _tell_if_empty(self) -> None:
        if not self.connections:
            if self._ending is not None:
                self._ending.cancel()
                self._ending = None
                self._ended.clear()
            waiting, self._empty = self._empty, []
            for waiter in waiting:
                waiter.callback(None)


class _GatedFactory(Factory):
    """Gives each connection its place in the gate, or none if the service has none for it."""

    noisy = False

    def __init__(self, gate: Gate, service: IProtocolFactory) -> None:
        self._gate = gate
        self._service = service

    def doStart(self) -> None:
        self._service.doStart()

    def doStop(self) -> None:
        self._service.doStop()

    def buildProtocol(self, addr: Any) -> "Connection | None":
        try:
            protocol = self._service.buildProtocol(addr)
        except BaseException:  # as Twisted: not even SystemExit ends the server
            self._gate.observer.service_failed(self._gate.listener, "buildProtocol")
            return None
        return None if protocol is None else Connection(self._gate, protocol)


class Connection(Protocol):
    """One connection: a protocol to the reactor, a transport to the service's protocol.

    What is not written here is the transport's own.
    """

    transport: Any

    def __init__(self, gate: Gate, protocol: IProtocol) -> None:
        self._gate = gate
        self.protocol = protocol
        self.received = 0
        """Bytes that the peer has sent."""
        self.sent = 0
        """Bytes that the service has written."""
        self.admitted: _Newcomer | None = None
        """What the gate gives back when the connection is gone."""
        self._closing = False
        self._peer_ended = False
        self._half_closeable = IHalfCloseableProtocol.providedBy(protocol)
        self._producer: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)

    # The protocol's side: the reactor calls

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self.connected = 1
        self._gate.entered(self)
        try:
            self.protocol.makeConnection(self)
        except BaseException:
            self._gate.observer.service_failed(self._gate.listener, "connectionMade")
            self.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)
        if not self._closing:
            self.protocol.dataReceived(data)

    def readConnectionLost(self) -> None:
        """The peer has said its last.

        A service that does not know half-closed connections is told of the end when all
        that it has written has gone out; nothing more is asked of it.
        """
        self._peer_ended = True
        if self._half_closeable and not self._closing:
            self.protocol.readConnectionLost()  # type: ignore[attr-defined]
        else:
            self._closing = True
            self._end_producer()
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Our last has gone out: FIN is sent."""
        if self._closing:
            self._gate.linger(self)
        elif self._half_closeable:
            self.protocol.writeConnectionLost()  # type: ignore[attr-defined]

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.connected = 0
        self._closing = True
        try:
            self.protocol.connectionLost(reason)
        finally:
            self._gate.left(self)

    # The transport's side: the service calls

    def write(self, data: bytes) -> None:
        self.sent += len(data)
        self.transport.write(data)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        self.write(b"".join(iovec))

    def loseConnection(self) -> None:
        """Close once everything written has gone out, in such a way that the peer gets it."""
        if self._closing:
            return
        self._closing = True
        if self._peer_ended or not (self.sent or self._unread()):
            self.transport.loseConnection()
        else:
            self.transport.loseWriteConnection()
            self.transport.resumeProducing()

    def abortConnection(self) -> None:
        """Reset the connection at once; what was not sent is lost."""
        self._closing = True
        self.transport.abortConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._producer = producer
        self.transport.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        self._producer = None
        self.transport.unregisterProducer()
        if self._closing and not self._peer_ended:
            self.transport.loseWriteConnection()

    def pauseProducing(self) -> None:
        if not self._closing:
            self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        if not self._peer_ended:
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        self.loseConnection()

    @property
    def disconnecting(self) -> bool:
        """Whether the connection is being closed by us."""
        return self._closing

    def _end_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            self.transport.unregisterProducer()
            producer.stopProducing()

    def _unread(self) -> bool:
        """Whether the peer has sent what nobody has read (FIONREAD, tty_ioctl(4))."""
        try:
            waiting = fcntl.ioctl(self.transport.getHandle(), termios.FIONREAD, b"\0\0\0\0")
        except (AttributeError, OSError, TypeError, ValueError):
            return False  # not a socket of this machine
        return waiting != b"\0\0\0\0"


classImplements(
    Connection,
    IHalfCloseableProtocol,
    ITCPTransport,
    ITLSTransport,
    ISystemHandle,
    IConsumer,
    IPushProducer,
)


class _GatedDatagrams(DatagramProtocol):
    """Tells the observer of each datagram, and hands it on."""

    noisy = False

    def __init__(self, gate: Gate, service: DatagramProtocol) -> None:
        self._gate = gate
        self._service = service

    def makeConnection(self, transport: Any) -> None:
        self._service.makeConnection(transport)

    def doStop(self) -> None:
        self._service.doStop()

    def connectionRefused(self) -> None:
        self._service.connectionRefused()

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        gate = self._gate
        gate.observer.datagram_received(gate.listener, addr, len(datagram))
        self._service.datagramReceived(datagram, addr)
