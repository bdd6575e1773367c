"""The server's side of a TLS handshake."""

import ssl
from collections.abc import Callable
from typing import Any

from netsrv.tls.transport import SLICE_SIZE, TLSTransport

HANDSHAKE_RECORD = 22
"""The first byte of a TLS connection (RFC 8446, 5.1)."""


class Handshake:
    """The server's side of a handshake on the transport *below*.

    *make* returns a new `ssl.SSLObject` on two BIOs, for what comes in and what goes out.
    """

    __slots__ = ("_incoming", "_outgoing", "below", "rest", "ssl_object")

    def __init__(self, below: Any, make: Callable[[ssl.MemoryBIO, ssl.MemoryBIO], Any]) -> None:
        self.below = below
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.ssl_object = make(self._incoming, self._outgoing)
        self.rest = b""
        """What has come after the handshake, and OpenSSL has not got."""

    def receive(self, data: bytes) -> bool:
        """Go on with *data* from the peer; return True once the handshake is complete.

        Raises `ssl.SSLError` if it has failed; then the alert is sent already.
        """
        for start in range(0, len(data), SLICE_SIZE):
            end = start + SLICE_SIZE
            if self._receive(data[start:end]):
                self.rest = data[end:]
                return True
        return False

    def _receive(self, data: bytes) -> bool:
        self._incoming.write(data)
        try:
            self.ssl_object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            if self._outgoing.pending:
                self.below.write(self._outgoing.read())
        return True

    def transport(self, protocol: Any) -> TLSTransport:
        """Return the transport for *protocol*; the handshake is complete."""
        return TLSTransport(self.below, protocol, self.ssl_object, self._incoming, self._outgoing)
