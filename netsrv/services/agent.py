"""agent: tell HAProxy whether the server wants peers, and how many (agent-check)."""

from typing import Any

from twisted.internet.interfaces import IProtocolFactory
from zope.interface import implementer

from netsrv.interfaces import IServerAware, IServerStatus, IStreamService
from netsrv.services.message import MessageFactory


@implementer(IServerAware)
class AgentFactory(MessageFactory):
    """Sends one line about *server*, and closes."""

    server: IServerStatus

    def __init__(self) -> None:
        super().__init__(self._line)

    def _line(self, _peer: Any) -> bytes:
        """Return HAProxy's words for the state.

        A full server says 1 %: with 0 % at all of them HAProxy would turn clients away, although
        they could wait in a backlog.
        """
        if not self.server.ready:
            return b"drain\n"
        return b"ready up %d%%\n" % max(1, round(100 * self.server.free_share))


@implementer(IStreamService)
class AgentService:
    """The plugin."""

    name = "agent"
    description = "tell HAProxy's agent-check: ready and the free capacity, or drain"
    settings = None

    def stream(self, settings: Any) -> IProtocolFactory:
        return AgentFactory()
