"""A connection: a uvloop transport behind Twisted's interfaces.

uvloop calls the methods in lower case, an application those in camel case.  What the
application writes in one go, while it is told of something or else in one turn of the
loop, goes out in one piece, as from Twisted's transports: so two small writes are not held
up by the peer's delayed acknowledgement of the first.  With a producer, each write goes out
at once.
"""

import socket
import struct
from collections.abc import Callable, Iterable
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
from twisted.python.failure import Failure
from zope.interface import implementer

CONNECTION_DONE = Failure(error.ConnectionDone())
CONNECTION_LOST = Failure(error.ConnectionLost())
"""The usual reasons, made once, as Twisted's reactors do."""


class _Nothing(list[bytes]):
    """What is written here is lost."""

    def append(self, data: bytes) -> None:
        """Forget it."""


NOTHING = _Nothing()


class Handle(socket.socket):
    """The socket of a connection, which does not close it when it is forgotten."""

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
        self._joined: list[bytes] | None = None
        self._transport: Any = None
        self.connected = False
        self.disconnecting = False
        self.producer: Any = None
        self.protocol: Any = None

    # What uvloop calls

    def data_received(self, data: bytes) -> None:
        """Hand on what the peer has sent, and send what is answered at once."""
        if self.producer is None and self._joined is None:
            self._joined = []
        try:
            self.protocol.dataReceived(data)
        except BaseException:
            self._failed()
        joined = self._joined
        if joined is None:
            return
        if joined:
            self._joined = None
            self._transport.write(joined[0] if len(joined) == 1 else b"".join(joined))
        elif joined is not NOTHING:
            self._joined = None  # what is written later is no answer

    def eof_received(self) -> bool:
        """The peer has said its last; who does not know half-closed connections loses it."""
        self._peer_ended = True
        protocol: Any = IHalfCloseableProtocol(self.protocol, None)
        if protocol is None:
            self._joined = NOTHING
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
        joined = self._joined
        if data.__class__ is not bytes:
            self._write(data)
        elif joined is not None:
            joined.append(data)
        elif self.streamingProducer:
            self._transport.write(data)
            if self._full:
                self._pause_producer()
        else:
            self._write(data)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        self.write(b"".join(iovec))

    def loseConnection(self) -> None:
        """Close when all that was written has gone out, and the producer has ended."""
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            if self.producer is None:
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
            reset_on_close(self.getHandle())
            self._drop(Failure(error.ConnectionAborted()))

    def getPeer(self) -> Any:
        return to_address(self._transport.get_extra_info("peername"))

    def getHost(self) -> Any:
        return to_address(self._transport.get_extra_info("sockname"))

    def getTcpNoDelay(self) -> bool:
        return bool(self.getHandle().getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.getHandle().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, int(enabled))

    def getTcpKeepAlive(self) -> bool:
        return bool(self.getHandle().getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(enabled))

    # Beyond the interfaces: what programs know of Twisted's own transports

    @property
    def unsent(self) -> int:
        """Bytes that were written and that the kernel has not taken yet."""
        return sum(map(len, self._joined or ())) + int(self._transport.get_write_buffer_size())

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
        """The same as `getHandle`."""
        return self.getHandle()

    def getHandle(self) -> Any:
        """Give the socket: for its options, not to be read, written or closed."""
        if self._handle is None:
            inner = self._transport.get_extra_info("socket")
            self._handle = Handle(inner.family, inner.type, inner.proto, inner.fileno())
            self._settle()
        return self._handle

    def fileno(self) -> int:
        """The descriptor; -1 once the connection is gone."""
        return int(self._transport.get_extra_info("socket").fileno()) if self.connected else -1

    def logPrefix(self) -> str:
        """How this connection is named in the log."""
        protocol = self.protocol
        if ILoggingContext.providedBy(protocol):
            name = protocol.logPrefix()
        else:
            name = protocol.__class__.__name__
        peer = self.getPeer()
        return f"{name},{peer.port},{peer.host}"

    def __repr__(self) -> str:
        name = self.protocol.__class__.__name__
        return f"<{name} #{self.getPeer().port} on {self.getHost().port}>"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends, and gives the connection up."""
        if self.connected:
            self._transport.abort()
            self._lost(reason)

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
        self.streamingProducer = False
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
        self.reactor.live.add(self)
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
        if self._joined is None and self.producer is None:
            self._joined = []
        try:
            call(*arguments)
        except BaseException:
            self._failed()
        self._flush()

    def _failed(self) -> None:
        failure = Failure()
        self.log.failure("Unhandled error in {connection}", failure, connection=self)
        if self.connected:
            self._drop(failure)

    def _write(self, data: Any) -> None:
        """Write while nothing is joined, or what is not plain bytes."""
        if isinstance(data, str):
            raise TypeError("Data must be bytes, not str")
        if self._joined is not None:
            self._joined.append(bytes(data))
        elif self.producer is None:
            self._joined = [bytes(data)]
            self.reactor.loop.call_soon(self._flush)
        else:
            self._transport.write(data)
            if not self.streamingProducer:
                self._pull_soon()
            elif self._full:
                self._pause_producer()

    def _flush(self) -> None:
        joined = self._joined
        if joined:
            self._joined = None
            self._transport.write(joined[0] if len(joined) == 1 else b"".join(joined))
        elif joined is not NOTHING:
            self._joined = None

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
        self._flush()
        self._joined = NOTHING
        self._transport.close()

    def _drop(self, reason: Failure) -> None:
        """Close at once; what is unsent is lost."""
        self._reason = reason
        self._joined = NOTHING
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
            self._joined = NOTHING
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
        self._joined = NOTHING
        self.reactor.live.discard(self)
        producer, self.producer = self.producer, None
        protocol = self.protocol
        try:
            if producer is not None:
                producer.stopProducing()
        except BaseException:
            self._failed()
        try:
            protocol.connectionLost(reason)
        except BaseException:
            self._failed()
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


class Newcomer(Connection):
    """A connection that was accepted and is not served yet: `INewcomer`."""

    __slots__ = ()

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
        return int(self._origin.family)

    @property
    def sockaddr(self) -> Any:
        """Its peer's address, as ``accept`` gives it; None if the peer has left."""
        return self._transport.get_extra_info("peername")

    def serve(self, factory: Any) -> None:
        """Have it served by what *factory* builds; if that is None, close it."""
        protocol = factory.buildProtocol(self.getPeer())
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
