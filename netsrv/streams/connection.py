"""A connection in the gate: between the reactor's transport and the service's protocol.

It counts bytes, keeps a service's exceptions to the connection in which they are raised,
and closes in such a way that the peer gets our last bytes.  The states of a close:

- open: both sides may speak;
- closing: the service has said to close, or the peer that it has ended; what has been
  written still goes out, then FIN;
- lingering: FIN is sent, and we read on until the peer ends too, but not for long: a
  close with unread input would make the kernel send RST, which destroys what the peer
  has not read yet;
- lost: the transport is gone.
"""

import fcntl
import os
import termios
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IConsumer,
    IFileDescriptorReceiver,
    IHalfCloseableProtocol,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    ISystemHandle,
    ITCPTransport,
    ITLSTransport,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import classImplements

from netsrv.forwarding import Own
from netsrv.interfaces import CloseReason, IConnection
from netsrv.sockets.addresses import show_sockaddr


class State(Enum):
    """How far a connection has come; see the module."""

    OPEN = "open"
    CLOSING = "closing"
    LINGERING = "lingering"
    LOST = "lost"


OPEN, CLOSING, LINGERING, LOST = State

_NOBODY: Any = Protocol()
"""The protocol of a connection that is lost."""

PLAIN = frozenset({CloseReason.PEER, CloseReason.SERVICE})
"""Endings of which nothing more is to be said."""


class Connection:
    """A protocol to the reactor, a transport to the service's protocol.

    What is not its own work is the transport's.  *gate* is told of the connection's
    beginning, its linger and its end, and of what the service raises.
    """

    __slots__ = (
        "__dict__",
        "_fin_sent",
        "_gate",
        "_peer_ended",
        "_producer",
        "_state",
        "aborted",
        "close_reason",
        "connected",
        "protocol",
        "received",
        "seconds",
        "sent",
        "transport",
        "visit",
    )

    def __init__(self, gate: Any, protocol: IProtocol) -> None:
        self._gate = gate
        self.protocol: IProtocol = protocol
        self.transport: Any = None
        self.connected = 0
        self.received = 0
        """Bytes that the peer has sent."""
        self.sent = 0
        """Bytes that the service has written; at the end, those that went out."""
        self.visit: Any = None
        """What the gate knows of the peer."""
        self.seconds = 0.0
        """How long the connection was served, once it has ended."""
        self.close_reason: CloseReason | None = None
        """Why it ends, once that is known."""
        self.aborted = False
        self._state = OPEN
        self._peer_ended = False
        self._fin_sent = False
        self._producer: Any = None

    # The protocol's side: the reactor calls

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self.connected = 1
        self._gate.entered(self)
        try:
            self.protocol.makeConnection(self)
        except BaseException:  # as Twisted: not even SystemExit ends the server
            self._failed("connectionMade")

    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)
        if self._state is OPEN:
            try:
                self.protocol.dataReceived(data)
            except BaseException:
                self._failed("dataReceived")

    def fileDescriptorReceived(self, descriptor: int) -> None:
        """A peer on a unix socket has sent a descriptor; nobody's are closed."""
        if IFileDescriptorReceiver.providedBy(self.protocol):
            receive = self.protocol.fileDescriptorReceived
            self._tell("fileDescriptorReceived", receive, descriptor)
        else:
            os.close(descriptor)

    def readConnectionLost(self) -> None:
        """The peer has said its last.

        A service that does not know half-closed connections is told of the end when all
        that it has written has gone out; nothing more is asked of it.
        """
        self._peer_ended = True
        if self._state is not OPEN:
            self.transport.loseConnection()
        elif IHalfCloseableProtocol.providedBy(self.protocol):
            self._tell("readConnectionLost", self.protocol.readConnectionLost)
        else:
            self._state = CLOSING
            self._ends_for(CloseReason.PEER)
            self._end_producer()
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Our last has gone out: FIN is sent."""
        self._fin_sent = True
        if self._state is CLOSING:
            self._linger()
        elif IHalfCloseableProtocol.providedBy(self.protocol):
            self._tell("writeConnectionLost", self.protocol.writeConnectionLost)

    def connectionLost(self, reason: Failure) -> None:
        self.connected = 0
        if reason.type is not ConnectionDone:
            self._ends_for(CloseReason.RESET)
        elif self.close_reason is None:
            self.close_reason = CloseReason.PEER
        if self.sent:
            self.sent -= self.unsent
        self._state = LOST
        try:
            self.protocol.connectionLost(reason)
        except BaseException:
            self._failed("connectionLost")
        self._gate.left(self)
        # Circles would have to be found by the garbage collector.
        self.protocol, self._producer = _NOBODY, None

    # The transport's side: the service calls

    def write(self, data: bytes) -> None:
        self.sent += len(data)
        self.transport.write(data)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        self.write(b"".join(iovec))

    def loseConnection(self) -> None:
        """Close once everything written has gone out, in such a way that the peer gets it."""
        if self._state is not OPEN:
            return
        self._state = CLOSING
        if self.close_reason is None:
            self.close_reason = CloseReason.PEER if self._peer_ended else CloseReason.SERVICE
        if self._fin_sent and not self._peer_ended:
            self.transport.resumeProducing()
            self._linger()
        elif (self.sent or self._unread()) and self._can_linger():
            self.transport.resumeProducing()
            self.transport.loseWriteConnection()
        else:
            self.transport.loseConnection()

    def abortConnection(self) -> None:
        """Reset the connection at once; what was not sent is lost."""
        self.abort(CloseReason.ABORTED)

    @property
    def unsent(self) -> int:
        """Bytes that wait here because the peer does not read.

        The uvloop reactor's connections count them.  Twisted's offer no such count; these are
        the buffers of `twisted.internet.abstract.FileDescriptor`.  Another's count is 0.
        """
        transport = self.transport
        counted: int | None = getattr(transport, "unsent", None)
        if counted is not None:
            return counted
        buffered = len(getattr(transport, "dataBuffer", b"")) - getattr(transport, "offset", 0)
        return buffered + int(getattr(transport, "_tempDataLen", 0))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._producer = producer if producer is self else _Producer(producer, self._tell)
        self.transport.registerProducer(self._producer, streaming)

    def unregisterProducer(self) -> None:
        self._producer = None
        self.transport.unregisterProducer()
        if self._state is CLOSING and self._can_linger():
            self.transport.loseWriteConnection()  # which has waited for the producer

    def pauseProducing(self) -> None:
        if self._state is OPEN:
            self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        if not self._peer_ended:
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        self.loseConnection()

    @property
    def disconnecting(self) -> bool:
        """Whether the connection is being closed by us."""
        return self._state is not OPEN

    # The transport's own: of Twisted's interfaces, and what its transports have beyond them

    getHandle: Any = Own("transport")
    getHost: Any = Own("transport")
    getPeer: Any = Own("transport")
    getPeerCertificate: Any = Own("transport")
    getTcpKeepAlive: Any = Own("transport")
    getTcpNoDelay: Any = Own("transport")
    loseWriteConnection: Any = Own("transport")
    negotiatedProtocol: Any = Own("transport")
    sendFileDescriptor: Any = Own("transport")
    setTcpKeepAlive: Any = Own("transport")
    setTcpNoDelay: Any = Own("transport")
    startTLS: Any = Own("transport")

    TLS: Any = Own("transport")
    client: Any = Own("transport")
    disconnected: Any = Own("transport")
    fileno: Any = Own("transport")
    hostname: Any = Own("transport")
    logPrefix: Any = Own("transport")
    reactor: Any = Own("transport")
    server: Any = Own("transport")
    sessionno: Any = Own("transport")
    socket: Any = Own("transport")

    # The gate's side

    def end(self, why: CloseReason) -> None:
        """Close whatever the service still has to say."""
        self._ends_for(why)
        self._end_producer()
        self.loseConnection()

    def abort(self, why: CloseReason) -> None:
        """Reset the connection at once; what was not sent is lost."""
        if self._state is not LOST:
            self._ends_for(why)
            self._state = CLOSING
            self.aborted = True
            self.transport.abortConnection()

    @property
    def peer(self) -> str:
        """Who is at the other end."""
        return show_sockaddr(self.visit.sockaddr)

    # How it is done

    def _ends_for(self, why: CloseReason) -> None:
        """Remember why; what goes wrong during a plain close says more than that it was one."""
        if self.close_reason is None or (self.close_reason in PLAIN and why not in PLAIN):
            self.close_reason = why

    def _linger(self) -> None:
        self._state = LINGERING
        self._gate.linger(self)

    def _can_linger(self) -> bool:
        """Whether FIN is still to be sent to a peer that may speak; TLS closes in its own way."""
        over_tls = getattr(self.transport, "TLS", False)
        return not (self._peer_ended or self._fin_sent or self.aborted or over_tls)

    def _unread(self) -> bool:
        """Whether the peer has sent what nobody has read (FIONREAD, tty_ioctl(4))."""
        try:
            waiting = fcntl.ioctl(self.transport.fileno(), termios.FIONREAD, b"\0\0\0\0")
        except (AttributeError, OSError, TypeError, ValueError):
            return False  # not a socket of this machine
        return waiting != b"\0\0\0\0"

    def _end_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            self.transport.unregisterProducer()
            producer.stopProducing()

    def _tell(self, what: str, call: Callable[..., Any], *arguments: Any) -> None:
        """Call the service; what it raises ends this connection and no other."""
        try:
            call(*arguments)
        except BaseException:
            self._failed(what)

    def _failed(self, what: str) -> None:
        self._gate.observer.service_failed(self._gate.listener, what)
        self.abort(CloseReason.SERVICE_FAILED)


classImplements(
    Connection,
    IConnection,
    IHalfCloseableProtocol,
    IFileDescriptorReceiver,
    ITCPTransport,
    ITLSTransport,
    ISystemHandle,
    IConsumer,
    IPushProducer,
)


class _Producer:
    """A service's producer, whose `stopProducing` may raise without harm.

    A transport that is lost stops its producer first, and forgets the rest if that raises.
    """

    def __init__(self, producer: Any, tell: Callable[..., None]) -> None:
        self._producer = producer
        self._tell = tell
        # It is asked for at each write of a stream.
        self.resumeProducing = getattr(producer, "resumeProducing", None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def stopProducing(self) -> None:
        self._tell("stopProducing", self._producer.stopProducing)


class GatedFactory(Factory):
    """Gives each connection its place in the gate, or none if the service has none for it."""

    noisy = False

    def __init__(self, gate: Any, service: IProtocolFactory) -> None:
        self._gate = gate
        self._service = service

    def doStart(self) -> None:
        self._service.doStart()

    def doStop(self) -> None:
        self._service.doStop()

    def buildProtocol(self, addr: Any) -> Connection | None:  # type: ignore[override]
        try:
            protocol = self._service.buildProtocol(addr)
        except BaseException:  # as Twisted: not even SystemExit ends the server
            self._gate.observer.service_failed(self._gate.listener, "buildProtocol")
            protocol = None
        if protocol is None:
            self._gate.withdraw()
            return None
        return Connection(self._gate, protocol)
