"""A connection that uvloop has accepted and that is not served yet."""

from typing import Any

from zope.interface import implementer

from netsrv.uvreactor.connection import Connection
from netsrv.uvreactor.interfaces import IAcceptedConnection
from netsrv.uvreactor.socket_handle import to_address


@implementer(IAcceptedConnection)
class AcceptedConnection:
    """Holds *connection* until it is served; *sockaddr* is its peer's address."""

    __slots__ = ("_connection", "_sockaddr")

    def __init__(self, connection: Connection, sockaddr: Any) -> None:
        self._connection = connection
        self._sockaddr = sockaddr

    def getHandle(self) -> Any:
        """Return its socket, for socket options."""
        return self._connection.getHandle()

    def serve(self, factory: Any) -> None:
        """Serve it with a protocol that *factory* builds; close it if *factory* builds none."""
        connection = self._connection
        protocol = connection.context.run(factory.buildProtocol, to_address(self._sockaddr))
        if protocol is None:
            connection.close()
        else:
            connection.serve(protocol)

    def read_early(self, size: int) -> bytes:
        """Return what the peer has sent already, up to *size* bytes; empty if that is nothing."""
        return self._connection.read_early(size)

    def close(self) -> None:
        """Close it, once what the peer has sent is read; abort it if it is served already."""
        self._connection.close()

    def reset(self) -> None:
        """Reset it: the peer gets RST."""
        self._connection.reset()
