"""A connection on which TLS was started."""

from collections.abc import Iterable
from typing import Any

from twisted.internet.interfaces import ISSLTransport
from zope.interface import implementer

from netsrv.uvreactor.connection import Connection


@implementer(ISSLTransport)
class TLSConnection(Connection):
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
