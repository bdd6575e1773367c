"""The writing side of a TLS connection, up to its end.

What the protocol writes during one ``dataReceived`` is encrypted together; other writes are
encrypted immediately.  A half-close sends close_notify, and FIN after it.
"""

import ssl
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from twisted.internet.interfaces import ISystemHandle, ITLSTransport
from twisted.python.failure import Failure

from netsrv.forwarding import forward
from netsrv.uvreactor.writing_connection import to_bytes

MAX_RECORD = 16_384
"""Bytes of plaintext in one record (RFC 8446, 5.1)."""

MAX_JOINED_SIZE = MAX_RECORD
"""Bytes of several writes that are encrypted together."""


@forward(
    "below",
    ITLSTransport,
    ISystemHandle,
    *"client fileno hostname logPrefix logstr reactor server sessionno socket".split(),
    "streamingProducer",
)
class WritingSide:
    """Encrypts, and closes; `netsrv.tls.transport.TLSTransport` has the reading side."""

    __slots__ = (
        "__weakref__",
        "_accepted",
        "_closing",
        "_cork",
        "_corked",
        "_encrypted",
        "_failure",
        "_incoming",
        "_notified",
        "_outgoing",
        "_over",
        "_paused",
        "_peer_fin",
        "_peer_notified",
        "_plain",
        "_producer",
        "_read",
        "_rest",
        "_sent",
        "_shut",
        "_ssl",
        "_write",
        "below",
        "disconnecting",
        "protocol",
    )

    def __init__(
        self,
        below: Any,
        protocol: Any,
        ssl_object: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
    ) -> None:
        self.below = below
        self.protocol = protocol
        self._ssl = ssl_object
        self._read = ssl_object.read
        self._write = ssl_object.write
        self._incoming = incoming
        self._outgoing = outgoing
        # Reading
        self._paused = False
        self._rest = b""
        """Ciphertext that waits until the protocol reads again."""
        self._peer_notified = False
        self._peer_fin = False
        self._notified = False
        """True once the protocol knows that the peer has half-closed."""
        # Writing
        self._cork: list[bytes] | None = None
        """The writes of the present ``dataReceived``."""
        self._corked = 0
        self._producer: Any = None
        self._plain = 0
        """Bytes that the protocol has written."""
        self._encrypted = 0
        """Bytes that the transport below has got for them."""
        self._sent = 0
        """Bytes of the protocol that the kernel has accepted, as far as `unsent` has seen."""
        self._accepted = 0
        """Bytes of ciphertext that it had accepted then."""
        # The end
        self.disconnecting = False
        self._closing = False
        """True if close_notify follows what is written."""
        self._shut = False
        """True once close_notify is sent, or cannot be sent any more."""
        self._over = False
        self._failure: Failure | None = None

    def write(self, data: bytes) -> None:
        """Encrypt *data* and send it.  Raises TypeError if it is not bytes."""
        if data.__class__ is not bytes:
            data = to_bytes(data)
        if self._shut or self._over:
            return
        self._plain += len(data)
        cork = self._cork
        if cork is None:
            self._encrypt(data)
        else:
            cork.append(data)
            self._corked += len(data)
            if self._corked > MAX_JOINED_SIZE:
                self._uncork()
                self._cork = []

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        self.write(b"".join(iovec))

    @property
    def unsent(self) -> int:
        """Bytes that were written and that the kernel has not accepted yet.

        The transport below counts ciphertext.  Of what the kernel has accepted since the last
        look, the protocol's share is counted as sent: so without progress nothing more is.
        """
        waiting = int(getattr(self.below, "unsent", 0))
        progress = self._encrypted - waiting - self._accepted
        if progress > 0:
            before = self._plain - self._corked - self._sent
            self._sent += progress * before // (self._encrypted - self._accepted)
            self._accepted += progress
        return max(self._plain - self._sent, 1 if waiting else 0)

    @property
    def producerPaused(self) -> bool:
        """True while the transport below has paused the producer."""
        return bool(self.below.producerPaused)

    @producerPaused.setter
    def producerPaused(self, paused: bool) -> None:
        self.below.producerPaused = paused

    def loseConnection(self) -> None:
        """Close once everything written is sent, with close_notify at the end of it."""
        if not (self.disconnecting or self._over):
            self.disconnecting = self._closing = True
            self._close()

    def loseWriteConnection(self) -> None:
        """Half-close: send close_notify and FIN once everything written is sent."""
        if not (self._closing or self._over):
            self._closing = True
            self._close()

    def abortConnection(self) -> None:
        """Reset the connection; what is unsent is lost."""
        self._over = True
        self._cork, self._rest = None, b""
        self.below.abortConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self._cork:
            self._uncork()
        if not streaming:
            self._cork = None  # a pull producer is called again for each write
        self._producer = producer
        self.below.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        self._producer = None
        self.below.unregisterProducer()
        if self._closing and not self._over:
            self._close()

    # How it is done

    def _encrypt(self, data: bytes) -> None:
        if len(data) <= MAX_RECORD:
            if data:
                self._write(data)
                self._send()
            return
        view = memoryview(data)
        for start in range(0, len(data), MAX_RECORD):
            self._write(view[start : start + MAX_RECORD])
            self._send()

    def _send(self) -> None:
        data = self._outgoing.read()
        self._encrypted += len(data)
        self.below.write(data)

    def _uncork(self) -> None:
        cork, self._cork, self._corked = self._cork, None, 0
        if cork:
            self._encrypt(cork[0] if len(cork) == 1 else b"".join(cork))

    def _close(self) -> None:
        """Send close_notify, unless a producer has still to write; then half-close or close."""
        if self._cork:
            self._uncork()
        below = self.below
        if self._producer is not None and (below.producerPaused or not below.streamingProducer):
            return
        if not self._shut:
            self._shut = True
            with suppress(ssl.SSLError):  # the peer's close_notify has not come yet
                self._ssl.unwrap()
            if self._outgoing.pending:
                self._send()
        if self.disconnecting:
            below.loseConnection()
        else:
            below.loseWriteConnection()
