"""echo: everything comes back (RFC 862)."""

from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocolFactory, IUDPTransport
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from zope.interface import implementer

from netsrv.interfaces import IDatagramBatchProtocol, IDatagramService, IStreamService


@implementer(IHalfCloseableProtocol)
class EchoStream(Protocol):
    """Sends back what it receives until the peer has ended, and then closes.

    The connection's reading side feeds its writing side: it is registered as its own
    producer, so that a peer that does not read is not read from either.
    """

    transport: Any

    def connectionMade(self) -> None:
        self.transport.registerProducer(self.transport, True)

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)

    def readConnectionLost(self) -> None:
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Never: only the peer ends an echo."""


@implementer(IDatagramBatchProtocol)
class EchoDatagrams(DatagramProtocol):
    """Sends each datagram back to where it came from, empty ones too."""

    transport: IUDPTransport

    def datagramsReceived(self, batch: Any) -> None:
        batch.send_back()

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.transport.write(datagram, addr)


@implementer(IStreamService, IDatagramService)
class EchoService:
    """The service as a plugin."""

    name = "echo"
    description = "send everything back (RFC 862)"
    settings = None

    def stream(self, settings: Any) -> IProtocolFactory:
        return Factory.forProtocol(EchoStream)

    def datagram(self, settings: Any) -> DatagramProtocol:
        return EchoDatagrams()
