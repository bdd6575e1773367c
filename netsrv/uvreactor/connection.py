"""A connection: a uvloop transport behind Twisted's interfaces.

uvloop calls the methods in lower case, an application those in camel case.  Here are the
reading side, the beginning and the end; `netsrv.uvreactor.writing_connection` has the writing side.
"""

from typing import Any

from twisted.internet import error
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    ILoggingContext,
    IPushProducer,
    ISystemHandle,
    ITCPTransport,
    ITLSTransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from netsrv.uvreactor import writing_connection
from netsrv.uvreactor.early_read import EarlyRead
from netsrv.uvreactor.writing_connection import DISCARD, EMPTY, WritingConnection

CONNECTION_DONE = Failure(error.ConnectionDone())
CONNECTION_LOST = Failure(error.ConnectionLost())
"""The usual reasons, made once, as Twisted's reactors do."""


@implementer(ITCPTransport, ITLSTransport, ISystemHandle, IConsumer, IPushProducer, ILoggingContext)
class Connection(WritingConnection):
    """A connection that is served."""

    __slots__ = ()

    # What uvloop calls

    def eof_received(self) -> bool:
        """The peer has said its last; who does not know half-closed connections loses it."""
        self._peer_ended = True
        protocol: Any = IHalfCloseableProtocol(self.protocol, None)
        if protocol is None:
            self._write_buffer = DISCARD
            self._transport.abort()
        else:
            self._call_protocol(protocol.readConnectionLost)
        return True

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

    # What the application calls

    def pauseProducing(self) -> None:
        """Do not read what the peer sends."""
        self._paused = True
        self._transport.pause_reading()

    def resumeProducing(self) -> None:
        """Read again."""
        if self.connected and not (self.disconnecting or self._peer_ended):
            self._paused = False
            if self._early_read is None:
                self._transport.resume_reading()
            else:
                self.reactor.loop.call_soon(self._end_early_read)

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()

    stopReading = pauseProducing
    startReading = resumeProducing

    def startTLS(self, contextFactory: Any, normal: bool = True) -> None:
        """Speak TLS from now on: as the server, or as the client if not *normal*."""
        from twisted.internet._newtls import _BypassTLS
        from twisted.protocols.tls import TLSMemoryBIOFactory

        from netsrv.uvreactor.tls import TLSConnection

        producer, streaming = self.producer, self.streamingProducer
        if producer is not None:
            self.unregisterProducer()
        factory = TLSMemoryBIOFactory(contextFactory, not normal, None)  # type: ignore[arg-type]
        self.protocol = factory.protocol(factory, self.protocol, False)
        self.__class__ = TLSConnection
        self.protocol.makeConnection(_BypassTLS(Connection, self))
        if producer is not None:
            self.registerProducer(producer, streaming)

    def close(self) -> None:
        """Abort the connection: what has accepted it could not serve it."""
        self.abortConnection()

    # What the reactor calls

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends, and gives the connection up."""
        if self.connected:
            self._transport.abort()
            self._lost(reason)

    def forget(self) -> None:
        """Close, and tell nobody: the connection lives on elsewhere, by another descriptor."""
        self.connected = False
        self._write_buffer = DISCARD
        self.reactor.live.discard(self)
        self._transport.abort()

    # How it is done

    def _begin(self, protocol: Any) -> None:
        """Serve the connection with *protocol*."""
        self.protocol = protocol
        self.connected = True
        self._acceptor.reactor.live.add(self)
        self._write_buffer = EMPTY
        writing_connection.log_context.append(self)
        try:
            protocol.makeConnection(self)
        except BaseException:
            self._failed()
        writing_connection.log_context.pop()
        self._flush_writes()
        if not self.disconnecting and self._reason is None:
            self._restore_no_delay()
            if self._early_read is not None:
                self.resumeProducing()
            elif self._paused:
                self._early_read = EarlyRead(self)

    def _end_early_read(self) -> None:
        hold = self._early_read
        if hold is not None and self.connected and not self._paused:
            self._early_read = None
            hold.end()

    def _lost(self, reason: Failure) -> None:
        self.connected = False
        self._write_buffer = DISCARD
        self._acceptor.reactor.live.discard(self)
        if self.producer is not None:
            producer, self.producer = self.producer, None
            self._call_protocol(producer.stopProducing)
        writing_connection.log_context.append(self)
        try:
            self.protocol.connectionLost(reason)
        except BaseException:
            self._failed()
        writing_connection.log_context.pop()
        self.protocol = None
        if self._socket_handle is not None:
            self._socket_handle.detach()
