"""discard: read and drop all data (RFC 863)."""

from typing import Any

from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from zope.interface import implementer

from netsrv.interfaces import IDatagramBatchProtocol, IDatagramService, IStreamService
from netsrv.shortcuts import drops


class DiscardStream(Protocol):
    """Reads until the peer closes."""

    @drops
    def dataReceived(self, data: bytes) -> None:
        """Drop *data*."""


@implementer(IDatagramBatchProtocol)
class DiscardDatagrams(DatagramProtocol):
    """Never replies.  `DatagramProtocol` drops what it receives."""

    def datagramsReceived(self, batch: Any) -> None:
        """Drop the batch."""


@implementer(IStreamService, IDatagramService)
class DiscardService:
    """The plugin."""

    name = "discard"
    description = "read and drop everything (RFC 863)"
    settings = None

    def stream(self, settings: Any) -> IProtocolFactory:
        return Factory.forProtocol(DiscardStream)

    def datagram(self, settings: Any) -> DatagramProtocol:
        return DiscardDatagrams()
