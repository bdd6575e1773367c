"""echo: send back all data (RFC 862)."""

from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocolFactory, IUDPTransport
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from zope.interface import implementer

from netsrv.interfaces import IDatagramBatchProtocol, IDatagramService, IStreamService
from netsrv.shortcuts import sends_back


@implementer(IHalfCloseableProtocol)
class EchoStream(Protocol):
    """Sends back what it receives until the peer half-closes, and then closes.

    The reading side of the connection feeds its writing side: it is registered as its own
    producer, so that the service stops reading from a peer that does not read.
    """

    transport: Any

    def connectionMade(self) -> None:
        self.transport.registerProducer(self.transport, True)

    @sends_back
    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)

    def readConnectionLost(self) -> None:
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Not reached: the service does not half-close."""


@implementer(IDatagramBatchProtocol)
class EchoDatagrams(DatagramProtocol):
    """Sends each datagram back to its sender, empty ones too."""

    transport: IUDPTransport

    def datagramsReceived(self, batch: Any) -> None:
        batch.send_back()

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.transport.write(datagram, addr)


@implementer(IStreamService, IDatagramService)
class EchoService:
    """The plugin."""

    name = "echo"
    description = "send everything back (RFC 862)"
    settings = None

    def stream(self, settings: Any) -> IProtocolFactory:
        return Factory.forProtocol(EchoStream)

    def datagram(self, settings: Any) -> DatagramProtocol:
        return EchoDatagrams()
