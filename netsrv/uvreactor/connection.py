"""A connection: a uvloop transport behind Twisted's interfaces.

uvloop calls the methods in lower case, an application those in camel case.  What the
application writes in one go, while it is told of something or else in one turn of the
loop, goes out in one piece, as from Twisted's transports: so two small writes are not held
up by the peer's delayed acknowledgement of the first.  With a producer, each write goes out
at once.
"""

import os
import socket
import struct
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

from twisted.internet import error
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    ILoggingContext,
    IPushProducer,
    ISSLTransport,
    ISystemHandle,
    ITCPTransport,
    ITLSTransport,
)
from twisted.logger import Logger
from twisted.python.context import defaultContextDict, theContextTracker
from twisted.python.failure import Failure
from twisted.python.log import ILogContext
from zope.interface import implementer

from netsrv.uvreactor.interfaces import INewcomer

CONNECTION_DONE = Failure(error.ConnectionDone())
CONNECTION_LOST = Failure(error.ConnectionLost())
"""The usual reasons, made once, as Twisted's reactors do."""


log_context: list[Any] = theContextTracker.currentContext().contexts
"""The contexts of the log, a stack: the last that knows a key says its value."""


def log_in_this_thread() -> None:
    """Have the log's context be that of this thread, in which the reactor runs."""
    global log_context  # noqa: PLW0603
    log_context = theContextTracker.currentContext().contexts


NOTHING_YET = b""
"""What was written, before anything was; one object, as all empty bytes are in CPython."""

NOT_BYTES = "Data must be bytes"


class _Way(Enum):
    """How a write goes, if it is not joined with others."""

    AT_ONCE = "at once"
    NOWHERE = "nowhere"


AT_ONCE = _Way.AT_ONCE
NOWHERE = _Way.NOWHERE


class Handle(socket.socket):
    """The socket of a connection, which does not close it when it is forgotten."""

    connection: Any = None

    def dup(self) -> Any:
        """Give a duplicate, which is an ordinary socket."""
        descriptor = os.dup(self.fileno())
        duplicate = socket.socket(self.family, self.type, self.proto, descriptor)
        duplicate.setblocking(False)
        return duplicate

    def close(self) -> None:
        """Close the connection, of which its protocol is not told, as with Twisted's own."""
        if self.fileno() != -1:
            self.detach()
            self.connection.forget()

    def __del__(self) -> None:
        self.detach()


@implementer(ITCPTransport, ITLSTransport, ISystemHandle, IConsumer, IPushProducer, ILoggingContext)
class Connection:
    """A connection that is served.

    *origin* is who has accepted it: an object with the attributes ``reactor``, and
    ``no_delay``, which tells whether the listening socket has TCP_NODELAY.
    """

    __slots__ = (
        "__dict__",
        "__weakref__",
        "_joined",
        "_origin",
        "_transport",
        "connected",
        "disconnecting",
        "producer",
        "protocol",
    )

    log = Logger()

    streamingProducer = False
    producerPaused = False
    TLS = False

    _reason: Failure | None = None
    _handle: Handle | None = None
    _hold: Any = None
    _full = False
    _paused = False
    _peer_ended = False
    _pulls = False
    _settled = False
    _write_ending = False
    _write_ended = False

    def __init__(self, origin: Any) -> None:
        self._origin = origin
        self._joined: Any = None
        self._transport: Any = None
        self.connected = False
        self.disconnecting = False
        self.producer: Any = None
        self.protocol: Any = None

    # What uvloop calls

    def data_received(self, data: bytes) -> None:
        """Hand on what the peer has sent, and send what is answered at once."""
        if self._joined is None:
            self._joined = NOTHING_YET
        log_context.append(self)
        try:
            self.protocol.dataReceived(data)
        except BaseException:
            self._failed()
        log_context.pop()
        joined = self._joined
        if joined.__class__ is bytes:
            self._joined = None
            self._transport.write(joined)
        elif joined.__class__ is list:
            self._flush()

    def eof_received(self) -> bool:
        """The peer has said its last; who does not know half-closed connections loses it."""
        self._peer_ended = True
        protocol: Any = IHalfCloseableProtocol(self.protocol, None)
        if protocol is None:
            self._joined = NOWHERE
            self._transport.abort()
        else:
            self._tell(protocol.readConnectionLost)
        return True

    def pause_writing(self) -> None:
        """More is unsent than is good."""
        self._full = True
        if self.streamingProducer:
            self._pause_producer()

    def resume_writing(self) -> None:
        """What was unsent has gone out."""
        self._full = False
        if not self.connected:
            return
        if self.producer is None:
            pass
        elif not self.streamingProducer:
            self._pull()
        elif self.producerPaused:
            self.producerPaused = False
            self._tell(self.producer.resumeProducing)
        if self._write_ending:
            self._end_writing()

    def connection_lost(self, cause: Exception | None) -> None:
        """The connection is gone."""
        if self.connected:
            if self._reason is not None:
                reason = self._reason
            elif cause is None:
                reason = CONNECTION_DONE
            elif isinstance(cause, OSError):
                reason = CONNECTION_LOST
            else:
                reason = Failure(cause)
            self._lost(reason)

    # ITransport, ITCPTransport

    def write(self, data: bytes) -> None:
        """Send *data*, now or when there is room.  Raises TypeError if it is not bytes."""
        if self._joined is NOTHING_YET and data.__class__ is bytes:
            self._joined = data
        else:
            self._write(data)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """Send all these.  Raises TypeError if they are not bytes."""
        self.write(b"".join(map(to_bytes, iovec)))

    def loseConnection(self) -> None:
        """Close when all that was written has gone out.

        A producer that waits to be told to write is waited for until it is unregistered.
        """
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            if self.producer is None or (self.streamingProducer and not self.producerPaused):
                self._close()
            else:
                self._transport.pause_reading()

    def loseWriteConnection(self) -> None:
        """Send FIN when all that was written has gone out; the peer may go on."""
        if self.connected and not self._write_ending:
            self._write_ending = True
            self._end_writing()

    def abortConnection(self) -> None:
        """Reset the connection; what is unsent is lost."""
        if self.connected and self._reason is None:
            reset_on_close(self.socket)
            self._drop(Failure(error.ConnectionAborted()))

    def getPeer(self) -> Any:
        return to_address(self._transport.get_extra_info("peername"))

    def getHost(self) -> Any:
        return to_address(self._transport.get_extra_info("sockname"))

    def getTcpNoDelay(self) -> bool:
        return bool(self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, int(enabled))

    def getTcpKeepAlive(self) -> bool:
        return bool(self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(enabled))

    # Beyond the interfaces: what programs know of Twisted's own transports

    @property
    def unsent(self) -> int:
        """Bytes that were written and that the kernel has not taken yet."""
        joined = self._joined
        if joined.__class__ is list:
            joined = b"".join(joined)
        here = len(joined) if joined.__class__ is bytes else 0
        return here + int(self._transport.get_write_buffer_size())

    @property
    def sessionno(self) -> int:
        """The number of the connection: the peer's port."""
        return int(self.getPeer().port)

    @property
    def reading(self) -> bool:
        """Whether what the peer sends is read."""
        return self.connected and not (self._paused or self.disconnecting or self._peer_ended)

    @property
    def disconnected(self) -> bool:
        """Whether the connection is gone."""
        return not self.connected

    @property
    def reactor(self) -> Any:
        """The reactor that runs it."""
        return self._origin.reactor

    @property
    def socket(self) -> Any:
        """The socket: for its options, not to be read or written."""
        if self._handle is None:
            inner = self._transport.get_extra_info("socket")
            self._handle = Handle(inner.family, inner.type, inner.proto, inner.fileno())
            self._handle.setblocking(False)
            self._handle.connection = self
            self._settle()
        return self._handle

    def getHandle(self) -> Any:
        """Give the socket."""
        return self.socket

    @property
    def logstr(self) -> str:
        """The same as `logPrefix`."""
        return self.logPrefix()

    def fileno(self) -> int:
        """The descriptor; -1 once the connection is gone."""
        if not self.connected:
            return -1
        return int(self._transport.get_extra_info("socket").fileno())

    def logPrefix(self) -> str:
        """How this connection is named in the log."""
        protocol = self.protocol
        if ILoggingContext.providedBy(protocol):
            name = protocol.logPrefix()
        else:
            name = protocol.__class__.__name__
        peer = self.getPeer()
        return f"{name},{peer.port},{peer.host}"

    def __getitem__(self, key: Any) -> Any:
        """Give the log its prefix: while the protocol is called, this is the log's context."""
        if key is ILogContext:
            return {**defaultContextDict[ILogContext], "system": self.logPrefix()}
        raise KeyError(key)

    def __repr__(self) -> str:
        name = self.protocol.__class__.__name__
        return f"<{name} #{self.getPeer().port} on {self.getHost().port}>"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends, and gives the connection up."""
        if self.connected:
            self._transport.abort()
            self._lost(reason)

    def forget(self) -> None:
        """Close, and tell nobody: the connection lives on elsewhere, by another descriptor."""
        self.connected = False
        self._joined = NOWHERE
        self.reactor.live.discard(self)
        self._transport.abort()

    # IPushProducer: the application reads from us

    def pauseProducing(self) -> None:
        """Do not read what the peer sends."""
        self._paused = True
        self._transport.pause_reading()

    def resumeProducing(self) -> None:
        """Read again."""
        if self.connected and not (self.disconnecting or self._peer_ended):
            self._paused = False
            if self._hold is None:
                self._transport.resume_reading()
            else:
                self.reactor.loop.call_soon(self._end_hold)

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()

    stopReading = pauseProducing
    startReading = resumeProducing

    # IConsumer: the application writes to us

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Have *producer* told when to write.  Raises RuntimeError if there is one."""
        if self.producer is not None:
            raise RuntimeError(
                f"Cannot register producer {producer}, because producer {self.producer} "
                "was never unregistered."
            )
        if not self.connected:
            producer.stopProducing()
            return
        self._flush()
        if self._joined is None:
            self._joined = AT_ONCE
        self.producer = producer
        self.streamingProducer = bool(streaming)
        self.producerPaused = False
        if not streaming:
            self._transport.set_write_buffer_limits(0, 0)
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """Have it told no more."""
        pulled = self.producer is not None and not self.streamingProducer
        self.producer = None
        if self._joined is AT_ONCE:
            self._joined = None
        if not self.connected:
            return
        if pulled and self._reason is None:
            self._transport.set_write_buffer_limits()
        if self.disconnecting:
            self._close()
        elif self._write_ending:
            self._end_writing()

    def stopConsuming(self) -> None:
        """Close, whatever the producer wants."""
        self.unregisterProducer()
        self.loseConnection()

    # ITLSTransport

    def startTLS(self, contextFactory: Any, normal: bool = True) -> None:
        """Speak TLS from now on: as the server, or as the client if not *normal*."""
        from twisted.internet._newtls import _BypassTLS
        from twisted.protocols.tls import TLSMemoryBIOFactory

        producer, streaming = self.producer, self.streamingProducer
        if producer is not None:
            self.unregisterProducer()
        factory = TLSMemoryBIOFactory(contextFactory, not normal, None)  # type: ignore[arg-type]
        self.protocol = factory.protocol(factory, self.protocol, False)
        self.__class__ = SecureConnection
        self.protocol.makeConnection(_BypassTLS(Connection, self))
        if producer is not None:
            self.registerProducer(producer, streaming)

    # How it is done

    def _begin(self, protocol: Any) -> None:
        """Serve the connection with *protocol*."""
        self.protocol = protocol
        self.connected = True
        self._origin.reactor.live.add(self)
        self._tell(protocol.makeConnection, self)
        if not self.disconnecting and self._reason is None:
            self._settle()
            if self._hold is not None:
                self.resumeProducing()
            elif self._paused:
                self._hold = Hold(self)

    def _settle(self) -> None:
        """Give the socket the TCP_NODELAY of its listener, which uvloop has set."""
        if not self._settled:
            self._settled = True
            if not self._origin.no_delay:
                inner = self._transport.get_extra_info("socket")
                inner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)

    def _tell(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Call the application, and send what it writes; what it raises ends the connection."""
        if self._joined is None:
            self._joined = NOTHING_YET
        log_context.append(self)
        try:
            call(*arguments)
        except BaseException:
            self._failed()
        log_context.pop()
        if self._joined is NOTHING_YET:
            self._joined = None
        elif self._joined is not NOWHERE:
            self._flush()

    def _failed(self) -> None:
        failure = Failure()
        self.log.failure("Unhandled error in {connection}", failure, connection=self)
        if self.connected:
            self._drop(failure)

    def _write(self, data: Any) -> None:
        """Write what is not the first of what is joined, or not plain bytes."""
        if data.__class__ is not bytes:
            data = to_bytes(data)
        joined = self._joined
        if joined is None:
            self._joined = data
            self.reactor.loop.call_soon(self._flush)
        elif joined.__class__ is list:
            joined.append(data)
        elif joined.__class__ is bytes:
            self._joined = [joined, data]
        elif joined is AT_ONCE:
            self._write_at_once(data)

    def _write_at_once(self, data: Any) -> None:
        self._transport.write(data)
        if not self.streamingProducer:
            self._pull_soon()
        elif self._full:
            self._pause_producer()

    def _flush(self) -> None:
        """Send what was joined."""
        joined = self._joined
        if joined.__class__ is list:
            joined = b"".join(joined)
        if joined.__class__ is bytes:
            self._joined = None
            self._transport.write(joined)

    def _pause_producer(self) -> None:
        if self.producer is not None and not self.producerPaused:
            self.producerPaused = True
            self.producer.pauseProducing()

    def _pull_soon(self) -> None:
        if not (self._full or self._pulls):
            self._pulls = True
            self.reactor.loop.call_soon(self._pull)

    def _pull(self) -> None:
        self._pulls = False
        if self.connected and self.producer is not None and not self.streamingProducer:
            self._tell(self.producer.resumeProducing)

    def _close(self) -> None:
        if self._joined:
            self._flush()
        self._joined = NOWHERE
        self._transport.close()

    def _drop(self, reason: Failure) -> None:
        """Close at once; what is unsent is lost."""
        self._reason = reason
        self._joined = NOWHERE
        self._transport.abort()

    def _end_writing(self) -> None:
        """Send FIN, unless something is still to be sent before."""
        if self._write_ended or self.disconnecting or self._reason is not None:
            return
        if self.producer is not None and (self.producerPaused or not self.streamingProducer):
            return
        self._flush()
        if self._transport.get_write_buffer_size():
            self._transport.set_write_buffer_limits(0, 0)
        else:
            self._write_ended = True
            self._joined = NOWHERE
            self._transport.write_eof()
            self.reactor.loop.call_soon(self._writing_ended)

    def _writing_ended(self) -> None:
        if self.connected and not self.disconnecting:
            protocol = IHalfCloseableProtocol(self.protocol, None)
            if protocol is not None:
                self._tell(protocol.writeConnectionLost)

    def _end_hold(self) -> None:
        hold = self._hold
        if hold is not None and self.connected and not self._paused:
            self._hold = None
            hold.end()

    def _lost(self, reason: Failure) -> None:
        self.connected = False
        self._joined = NOWHERE
        self._origin.reactor.live.discard(self)
        if self.producer is not None:
            producer, self.producer = self.producer, None
            self._tell(producer.stopProducing)
        self._tell(self.protocol.connectionLost, reason)
        self.protocol = None
        if self._handle is not None:
            self._handle.detach()


@implementer(ISSLTransport)
class SecureConnection(Connection):
    """A connection on which TLS was started: what the application writes goes through TLS."""

    __slots__ = ()

    TLS = True

    def write(self, data: bytes) -> None:
        if self.connected:
            self.protocol.write(data)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        if self.connected:
            self.protocol.writeSequence(iovec)

    def loseConnection(self) -> None:
        if self.connected and not self.disconnecting:
            self.protocol.loseConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.protocol.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        self.protocol.unregisterProducer()

    def getHandle(self) -> Any:
        """Give OpenSSL's connection."""
        return self.protocol.getHandle()

    def getPeerCertificate(self) -> Any:
        """Give the peer's certificate, or None."""
        return self.protocol.getPeerCertificate()


class Hold:
    """Stands between uvloop and a connection that is not to be read yet.

    uvloop reads once `connection_made` has returned, whatever was said there.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._transport = connection._transport
        self._data: list[bytes] = []
        self._ended = False
        self._transport.set_protocol(self)
        connection.reactor.loop.call_soon(self._transport.pause_reading)
        self.pause_writing = connection.pause_writing
        self.resume_writing = connection.resume_writing

    def data_received(self, data: bytes) -> None:
        """Keep what was read."""
        self._data.append(data)
        self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Keep in mind that the peer has ended."""
        self._ended = True
        return True

    def connection_lost(self, cause: Exception | None) -> None:
        """Say so, after what was read before."""
        self._connection.connection_lost(cause)

    def end(self) -> None:
        """Hand over what was read meanwhile, and step aside."""
        connection = self._connection
        self._transport.set_protocol(connection)
        for data in self._data:
            connection.data_received(data)
        if self._ended:
            connection.eof_received()
        elif connection.connected and not connection._paused:
            self._transport.resume_reading()


@implementer(INewcomer)
class Newcomer(Connection):
    """A connection that was accepted and is not served yet: `INewcomer`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<a newcomer from {self.sockaddr}>"

    def connection_made(self, transport: Any) -> None:
        """It is there."""
        self._transport = transport
        self._origin.arrived(self)

    def connection_lost(self, cause: Exception | None) -> None:
        """It has gone before it was served."""
        self._origin.left(self)

    @property
    def family(self) -> int:
        """The address family of its socket."""
        return int(self._transport.get_extra_info("socket").family)

    @property
    def sockaddr(self) -> Any:
        """Its peer's address, as ``accept`` gives it; None if the peer has left."""
        if self.protocol is None:  # which is not needed for anything else yet
            self.protocol = self._transport.get_extra_info("peername")
        return self.protocol

    def serve(self, factory: Any) -> None:
        """Have it served by what *factory* builds; if that is None, close it."""
        protocol = factory.buildProtocol(to_address(self.sockaddr))
        if protocol is None:
            self.close()
            return
        self.__class__ = Connection  # type: ignore[assignment]
        self._begin(protocol)

    def fileno(self) -> int:
        """The descriptor."""
        return int(self._transport.get_extra_info("socket").fileno())

    def hold(self) -> None:
        """Do not read from it yet."""
        self._hold = Hold(self)

    def close(self) -> None:
        """Close it."""
        self._transport.close()

    def reset(self) -> None:
        """Reset it."""
        reset_on_close(self._transport.get_extra_info("socket"))
        self._transport.abort()


def to_bytes(data: Any) -> bytes:
    """Give a copy of what is like bytes.  Raises TypeError if it is not."""
    try:
        return bytes(memoryview(data))
    except TypeError:
        raise TypeError(NOT_BYTES) from None


def reset_on_close(sock: Any) -> None:
    """Have the kernel send RST, not FIN, when the socket is closed."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def to_address(sockaddr: Any) -> IPv4Address | IPv6Address:
    """Make Twisted's address of the kernel's."""
    if len(sockaddr) == 2:
        return IPv4Address("TCP", *sockaddr)
    host, port, flow, scope = sockaddr
    if scope:
        host = socket.getnameinfo(sockaddr, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]
    return IPv6Address("TCP", host, port, flow, scope)
