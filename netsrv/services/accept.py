"""accept: the smallest server.  It closes each connection; the log shows the peer."""

from typing import Any

from twisted.internet.interfaces import IProtocolFactory, ITransport
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from netsrv.interfaces import IStreamService


class AcceptStream(Protocol):
    """Closes each connection."""

    transport: ITransport

    def connectionMade(self) -> None:
        self.transport.loseConnection()


@implementer(IStreamService)
class AcceptService:
    """The plugin."""

    name = "accept"
    description = "log the peer and close at once"
    settings = None

    def stream(self, settings: Any) -> IProtocolFactory:
        return Factory.forProtocol(AcceptStream)
