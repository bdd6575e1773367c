"""A connection: a uvloop transport behind Twisted's interfaces.

uvloop calls the methods in lower case, an application those in camel case.  Here are the
reading side, TLS, the beginning and the end; `netsrv.uvreactor.writing_connection` has the
writing side.
"""

import os
from typing import Any

from twisted.internet import error
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
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer

from netsrv.uvreactor import socket_handle, writing_connection
from netsrv.uvreactor.connection_info import DISCARD, JOIN, TLS
from netsrv.uvreactor.early_read import EarlyRead
from netsrv.uvreactor.receivers import (
    ByteCounter,
    Drop,
    Receiver,
    RelayReceived,
    RelaySent,
    SendBack,
)
from netsrv.uvreactor.socket_handle import (
    borrowed_socket,
    discard_unread,
    next_session,
    reset_on_close,
    shut_down,
)
from netsrv.uvreactor.writing_connection import CONNECTION_ABORTED, WritingConnection

CONNECTION_DONE = Failure(error.ConnectionDone())
CONNECTION_LOST = Failure(error.ConnectionLost())
"""The usual reasons, shared by all connections, as in Twisted's reactors."""


@implementer(ITCPTransport, ITLSTransport, ISystemHandle, IConsumer, IPushProducer, ILoggingContext)
class Connection(WritingConnection):
    """A connection that uvloop has accepted; `serve` gives it a protocol."""

    __slots__ = ()

    # What the acceptor calls

    def hold(self) -> None:
        """Read nothing until the connection is served, and its protocol wants to read."""
        self._early_read = EarlyRead(self, self._transport)

    def read_early(self, size: int) -> bytes:
        """Return what the peer has sent already, up to *size* bytes; empty if that is nothing.

        uvloop begins to read when `connection_made` has returned, or has begun if the connection
        is held.
        """
        if self._early_read is not None:
            return b""
        try:
            return os.read(self._transport.get_extra_info("socket").fileno(), size)
        except OSError:  # nothing is there, or the connection is lost: uvloop finds out
            return b""

    def serve(self, protocol: Any) -> None:
        """Serve the connection with *protocol*."""
        self.protocol = protocol
        self.connected = True
        self._acceptor.reactor.live.add(self)
        if self._acceptor.port is not None:
            self._number = next_session(self._acceptor.port)
        self._write_mode = JOIN
        writing_connection.log_context.append(self)
        try:
            self.context.run(protocol.makeConnection, self)
        except BaseException:
            self._protocol_failed()
        writing_connection.log_context.pop()
        self._flush_writes()
        if self.disconnecting or self._close_reason is not None:
            return
        self._restore_no_delay()
        if self._early_read is not None:
            self.resumeProducing()
        elif self._paused:
            self.hold()

    def close(self) -> None:
        """Close the connection, once what the peer has sent is read; abort it if it is served."""
        if self.connected:
            self.abortConnection()
        elif not self._transport.is_closing():
            with borrowed_socket(self._descriptor) as sock:
                discard_unread(sock)
            self._transport.close()

    def reset(self) -> None:
        """Reset the connection, which is not served."""
        reset_on_close(self._transport.get_extra_info("socket"))
        self._close_reason = CONNECTION_ABORTED
        self._transport.abort()

    # What uvloop calls

    def connection_made(self, transport: Any) -> None:
        """Pass the connection to the acceptor."""
        self._transport = transport
        self._acceptor.arrived(self)

    def eof_received(self) -> bool:
        """The peer has half-closed; a protocol that is not prepared for it loses the connection."""
        self._peer_ended = True
        protocol: Any = IHalfCloseableProtocol(self.protocol, None)
        if protocol is None:
            self._discard_writes()
            self._transport.abort()
        else:
            self._call_protocol(protocol.readConnectionLost)
        return True

    def connection_lost(self, cause: Exception | None) -> None:
        """The connection is gone; its descriptor is still open."""
        if self._forks != socket_handle.forks:
            self._shut_down()
        if not self.connected:
            self._acceptor.left(self)
        else:
            if self._close_reason is not None:
                reason = self._close_reason
            elif cause is None:
                reason = CONNECTION_DONE
            elif isinstance(cause, OSError):
                reason = CONNECTION_LOST
            else:
                reason = Failure(cause)
            self._lost(reason)

    # What the application calls

    def pauseProducing(self) -> None:
        """Stop reading."""
        self._paused = True
        self._transport.pause_reading()

    def resumeProducing(self) -> None:
        """Read again."""
        if self.connected and not (self.disconnecting or self._peer_ended):
            self._paused = False
            if self._early_read is None:
                self._transport.resume_reading()
            else:
                self.reactor.loop.call_soon(self._release_early_read)

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()

    stopReading = pauseProducing
    startReading = resumeProducing

    def sendBack(self, counter: ByteCounter) -> bool:
        """Send back what the peer sends, and count it, without a call of the protocol.

        That ends when either side closes.  Returns False if it is not possible here.
        """
        return self._use_receiver(SendBack, counter)

    def dropInput(self, counter: ByteCounter) -> bool:
        """Drop what the peer sends, and count it, as `sendBack` sends it back."""
        return self._use_receiver(Drop, counter)

    def _use_receiver(self, receiver: type[Receiver], counter: ByteCounter) -> bool:
        if self._early_read is not None or self.TLS or self.disconnecting or self._half_closing:
            return False
        self._transport.set_protocol(receiver(self, self._transport, counter))
        return True

    def relay(self, other: Any, counter: ByteCounter) -> bool:
        """Send what comes here to *other*, and the other way round, as `sendBack` sends it back.

        *counter* counts the bytes of this connection.  The protocols pause each other as
        producers, and are called for everything but data.  It ends when either side closes its
        writing side.  Returns False if it is not possible here, or not yet.
        """
        if other.__class__ is not Connection or not (self._may_relay and other._may_relay):
            return False
        for connection in (self, other):
            connection._flush()
        ends = self._transport, other._transport
        ends[0].set_protocol(RelayReceived(self, ends[0], counter, ends[1]))
        ends[1].set_protocol(RelaySent(other, ends[1], counter, ends[0]))
        self._relayed, other._relayed = other, self
        return True

    @property
    def _may_relay(self) -> bool:
        closing = self.disconnecting or self._half_closing or self._peer_ended
        return self.connected and self._early_read is None and not (self.TLS or closing)

    def endSendBack(self) -> None:
        """Call the protocol again with what the peer sends; of a relay, that of either side."""
        other, self._relayed = self._relayed, None
        if self.connected and self._early_read is None:
            self._transport.set_protocol(self)
        if other is not None:
            other.endSendBack()

    def loseWriteConnection(self) -> None:
        """Half-close: send FIN when everything written is sent; the peer may still write."""
        self.endSendBack()
        super().loseWriteConnection()

    # TLS

    def startTLS(self, contextFactory: Any, normal: bool = True) -> None:
        """Speak TLS from now on: as the server, or as the client if not *normal*."""
        from netsrv.uvreactor.tls import TLSTransport, make_tls_protocol

        producer, streaming = self.producer, self.streamingProducer
        if producer is not None:
            self.unregisterProducer()
        below = TLSTransport(
            self,
            self._join,
            super().loseConnection,
            super().registerProducer,
            super().unregisterProducer,
        )
        self.protocol = self._tls = make_tls_protocol(contextFactory, self.protocol, normal)
        self.TLS = True
        if self._write_mode is not DISCARD:
            self._write_mode = TLS
        directlyProvides(self, ISSLTransport)
        self.protocol.makeConnection(below)
        if producer is not None:
            self.registerProducer(producer, streaming)

    def loseConnection(self) -> None:
        if self._tls is None:
            super().loseConnection()
        elif self.connected and not self.disconnecting:
            self._tls.loseConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self._tls is None:
            super().registerProducer(producer, streaming)
        else:
            self._tls.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        if self._tls is None:
            super().unregisterProducer()
        else:
            self._tls.unregisterProducer()

    def getHandle(self) -> Any:
        """Return the socket, or OpenSSL's connection if TLS is used."""
        return self.socket if self._tls is None else self._tls.getHandle()

    def getPeerCertificate(self) -> Any:
        """Return the peer's certificate; None if there is none."""
        return None if self._tls is None else self._tls.getPeerCertificate()

    # What the reactor calls

    def connectionLost(self, reason: Failure) -> None:
        """Abort the connection: the reactor ends."""
        if self.connected:
            if self._forks != socket_handle.forks and not self._transport.is_closing():
                self._shut_down()
            self._transport.abort()
            self.context = self.context.copy()  # the protocol may be the caller, in its context
            self._lost(reason)

    def forget(self) -> None:
        """Close without a call of the protocol: another descriptor continues the connection."""
        self.connected = False
        self._discard_writes()
        self.reactor.live.discard(self)
        self._close_reason = CONNECTION_ABORTED  # the other descriptor must not be shut down
        self._transport.abort()

    # How it is done

    def _release_early_read(self) -> None:
        early_read = self._early_read
        if early_read is not None and self.connected and not self._paused:
            self._early_read = None
            early_read.release()

    def _shut_down(self) -> None:
        """Tell the peer that the connection ends: a forked process may have its descriptor too.

        shutdown(2) costs 15 % of a short connection, so others are only closed.
        """
        if self._close_reason is not CONNECTION_ABORTED:
            with borrowed_socket(self._descriptor) as sock:
                shut_down(sock)

    def _lost(self, reason: Failure) -> None:
        self.connected = False
        if self._relayed is not None:
            self.endSendBack()
        self._discard_writes()
        self._acceptor.reactor.live.discard(self)
        if self.producer is not None:
            producer, self.producer = self.producer, None
            self._call_protocol(producer.stopProducing)
        writing_connection.log_context.append(self)
        try:
            self.context.run(self.protocol.connectionLost, reason)
        except BaseException:
            self._protocol_failed()
        writing_connection.log_context.pop()
        self.protocol = self._tls = None
        if self._socket_handle is not None:
            self._socket_handle.detach()
