"""A TLS connection behind the interfaces of Twisted's transports.

It is a protocol to the transport *below*, which carries the ciphertext, and a transport to the
protocol above.  OpenSSL works on memory BIOs: what comes from below goes through `ssl.SSLObject`
to the protocol, and what that writes goes back the same way.  All records of one read become
one ``dataReceived``, and the writes of one ``dataReceived`` are encrypted together.

Closing: a half-close sends close_notify, and FIN after it.  The peer's close_notify is a
half-close too; a FIN without it is a truncation (RFC 8446, 6.1).
"""

import os
import ssl
from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IFileDescriptorReceiver,
    IHalfCloseableProtocol,
    IPushProducer,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from netsrv.tls.session import peer_certificate
from netsrv.tls.writing import MAX_RECORD, WritingSide

SLICE_SIZE = 17_408
"""Bytes of ciphertext that OpenSSL gets at once: the BIOs keep the memory that they once had."""


MIN_PLAINTEXT = SLICE_SIZE // 4
"""Bytes of plaintext in a slice: with less, its records are tiny."""


class TruncatedError(ConnectionLost):
    """The peer's FIN came without close_notify: what it has sent may be incomplete."""


TRUNCATED = Failure(TruncatedError())


@implementer(IConsumer, IPushProducer, IFileDescriptorReceiver)
class TLSTransport(WritingSide):
    """A TLS connection on the transport *below*, once its handshake is complete.

    *protocol* is the protocol above.  `start` passes on what came with the handshake.
    """

    __slots__ = ()

    TLS = True
    half_closes = True
    """True: `loseWriteConnection` is a half-close, which a transport of Twisted's TLS lacks."""

    def start(self, rest: bytes) -> None:
        """Pass on what the peer has sent after its handshake; OpenSSL has not got the *rest*."""
        data = self._incoming.read() + rest
        if data:
            self.dataReceived(data)

    # The protocol's side: the transport below calls

    def makeConnection(self, transport: Any) -> None:
        """Do nothing: the transport below is known."""

    def dataReceived(self, data: bytes) -> None:
        if self._paused or self._rest:
            self._rest += data
        else:
            self._receive(data)

    def readConnectionLost(self) -> None:
        """The peer's FIN has come."""
        self._peer_fin = True
        if not (self._paused or self._rest):
            self._report_end()

    def writeConnectionLost(self) -> None:
        """Our close_notify and our FIN are sent."""
        protocol: Any = IHalfCloseableProtocol(self.protocol, None)
        if protocol is not None and not self._over:
            protocol.writeConnectionLost()

    def fileDescriptorReceived(self, descriptor: int) -> None:
        """Close a descriptor from a peer on a unix socket: TLS does not protect it."""
        os.close(descriptor)

    def connectionLost(self, reason: Failure) -> None:
        """The transport below is gone, or the caller gives it up."""
        protocol, self.protocol = self.protocol, None
        if protocol is None:
            return
        self._over = True
        self._cork, self._rest = None, b""
        if self.below.connected:
            self.below.connectionLost(reason)
        protocol.connectionLost(self._failure or reason)

    def __conform__(self, interface: Any) -> Any:
        """Be half-closeable for the reactor, as `netsrv.streams.connection.Connection` is."""
        return self if interface is IHalfCloseableProtocol else None

    # The transport's side: the protocol calls

    def pauseProducing(self) -> None:
        self._paused = True
        self.below.pauseProducing()

    def resumeProducing(self) -> None:
        """Read again: first what has come already, in the next turn, as transports do."""
        if self._over:
            return
        self._paused = False
        if self._rest or self._has_end:
            self.below.reactor.callLater(0, self._resume)
        else:
            self.below.resumeProducing()

    def stopProducing(self) -> None:
        self.loseConnection()

    startReading = resumeProducing
    stopReading = pauseProducing

    # TLS

    @property
    def connected(self) -> bool:
        """True until the connection is lost."""
        return bool(self.below.connected) and not self._over

    @property
    def negotiatedProtocol(self) -> bytes | None:
        """The protocol that was chosen by ALPN."""
        name = self._ssl.selected_alpn_protocol()
        return None if name is None else name.encode("ascii")

    def getPeerCertificate(self) -> Any:
        """Return the client's certificate: see `netsrv.tls.session.peer_certificate`."""
        return peer_certificate(self._ssl)

    def startTLS(self, contextFactory: Any, normal: bool = True) -> None:
        """Raise RuntimeError: the connection is encrypted already."""
        raise RuntimeError("this is a TLS connection")

    # Reading

    def _receive(self, data: bytes) -> None:
        """Decrypt *data* and pass it on, as far as the protocol reads."""
        plain = self._decrypt(data) if len(data) <= SLICE_SIZE else self._decrypt_slices(data)
        if plain:
            self._deliver(plain)
        if self._has_end and not self._rest:
            self._report_end()

    def _decrypt_slices(self, data: bytes) -> bytes:
        """Return the plaintext of *data*, or of the slices that this turn has time for.

        Records of a few bytes, and those that change keys, take many times the work of their
        size: after a slice of them, other connections come first.
        """
        chunks, view = [], memoryview(data)
        for end in range(SLICE_SIZE, len(data) + SLICE_SIZE, SLICE_SIZE):
            chunks.append(self._decrypt(view[end - SLICE_SIZE : end]))
            if len(chunks[-1]) < MIN_PLAINTEXT and end < len(data) and not self._has_end:
                self._rest = data[end:]
                self.below.pauseProducing()
                self.below.reactor.callLater(0, self._resume)
                break
        return b"".join(chunks)

    @property
    def _has_end(self) -> bool:
        """True if the peer sends no more: it has half-closed, or failed."""
        return self._peer_notified or self._peer_fin or self._failure is not None

    def _decrypt(self, data: Any) -> bytes:
        """Return the plaintext of the records that are complete now."""
        if self._over or self._peer_notified:
            return b""
        incoming, read = self._incoming, self._read
        incoming.write(data)
        plain = b""
        chunks: list[bytes] = []
        try:
            plain = read(MAX_RECORD)
            if plain and not incoming.pending:
                if self._outgoing.pending:
                    self._send()
                return plain
            while plain:
                chunks.append(plain)
                plain = read(MAX_RECORD)
            self._peer_notified = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:  # both sides have sent close_notify
            self._peer_notified = True
        except ssl.SSLError as error:
            self._failure = Failure(ConnectionLost(f"TLS: {error.reason or error}"))
            self._shut = True  # OpenSSL encrypts nothing any more
        if self._outgoing.pending:
            self._send()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _deliver(self, plain: bytes) -> None:
        """Call the protocol, and encrypt what it writes meanwhile in one piece."""
        if self._producer is None or self.below.streamingProducer:
            self._cork = []
        try:
            self.protocol.dataReceived(plain)
        finally:
            if self._cork:
                self._uncork()
            self._cork = None

    def _report_end(self) -> None:
        """Tell the protocol that the peer has half-closed, or that the connection has failed."""
        if self._notified or not self._may_read():
            return
        self._notified = True
        if self._failure is not None:
            self._fail()
        elif not self._peer_notified:
            self._truncated()
        else:
            protocol: Any = IHalfCloseableProtocol(self.protocol, None)
            if protocol is None:
                self.loseConnection()
            else:
                protocol.readConnectionLost()

    def _fail(self) -> None:
        """Close after the peer has broken the protocol, or has sent an alert."""
        self._over = True
        producer = self._producer
        if producer is not None:
            self._producer = None
            self.below.unregisterProducer()
            producer.stopProducing()
        self.below.loseConnection()

    def _truncated(self) -> None:
        if self._shut:  # nothing more is expected
            protocol = IHalfCloseableProtocol(self.protocol, None)
            if protocol is not None:
                protocol.readConnectionLost()
            return
        self._failure = TRUNCATED
        report = getattr(self.protocol, "readConnectionTruncated", self.loseConnection)
        report()

    def _may_read(self) -> bool:
        return not (self._paused or self._over)

    def _resume(self) -> None:
        rest = self._rest
        if rest and self._may_read():
            self._rest = b""
            self._receive(rest)
        if self._has_end and not self._rest:
            self._report_end()
        if self._may_read() and not (self._rest or self._peer_fin):
            self.below.resumeProducing()
