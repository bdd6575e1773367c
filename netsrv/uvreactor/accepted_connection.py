"""A connection that uvloop has accepted and that is not served yet."""

from typing import Any

from zope.interface import implementer

from netsrv.uvreactor.connection import Connection
from netsrv.uvreactor.early_read import EarlyRead
from netsrv.uvreactor.interfaces import IAcceptedConnection
from netsrv.uvreactor.socket_handle import reset_on_close, to_address


@implementer(IAcceptedConnection)
class AcceptedConnection(Connection):
    """A connection that was accepted and is not served yet: `IAcceptedConnection`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<a newcomer from {self.sockaddr}>"

    def connection_made(self, transport: Any) -> None:
        """It is there."""
        self._transport = transport
        self._acceptor.arrived(self)

    def connection_lost(self, cause: Exception | None) -> None:
        """It has gone before it was served."""
        self._acceptor.left(self)

    @property
    def sockaddr(self) -> Any:
        """Its peer's address, as ``accept`` gives it; None if the peer has left."""
        if self.protocol is None:  # which is not needed for anything else yet
            self.protocol = self._transport.get_extra_info("peername")
        return self.protocol

    def serve(self, factory: Any) -> None:
        """Have it served by what *factory* builds; if that is None, close it."""
        protocol = factory.buildProtocol(to_address(self.protocol))
        if protocol is None:
            self.close()
            return
        self.__class__ = Connection  # type: ignore[assignment]
        self._begin(protocol)

    def hold(self) -> None:
        """Do not read from it yet."""
        self._early_read = EarlyRead(self)

    def close(self) -> None:
        """Close it."""
        self._transport.close()

    def reset(self) -> None:
        """Reset it."""
        reset_on_close(self._transport.get_extra_info("socket"))
        self._transport.abort()
