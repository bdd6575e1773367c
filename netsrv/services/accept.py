"""accept: the smallest server.  It closes each connection; the log shows the peer."""

from typing import Any

from twisted.internet.interfaces import IProtocolFactory
from zope.interface import implementer

from netsrv.interfaces import IStreamService
from netsrv.services.message import MessageFactory


@implementer(IStreamService)
class AcceptService:
    """The plugin."""

    name = "accept"
    description = "log the peer and close at once"
    settings = None

    def stream(self, settings: Any) -> IProtocolFactory:
        return MessageFactory(_no_message)


def _no_message(peer: Any) -> bytes:
    return b""
