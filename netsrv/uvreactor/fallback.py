"""Newcomers that plain code has accepted; Twisted's own transports serve them."""

import socket
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.address import UNIXAddress
from twisted.logger import Logger
from zope.interface import implementer

from netsrv.uvreactor.handle import reset_on_close, to_address
from netsrv.uvreactor.interfaces import IAcceptedConnection

log = Logger()


class _Unsent:
    """Tells how much is unsent."""

    dataBuffer: bytes
    offset: int
    _tempDataLen: int

    @property
    def unsent(self) -> int:
        """Bytes that were written and that the kernel has not taken yet."""
        return len(self.dataBuffer) - self.offset + self._tempDataLen


class TCPServer(_Unsent, tcp.Server):
    """Twisted's own transport for TCP."""


class UNIXServer(_Unsent, unix.Server):
    """Twisted's own transport for unix sockets."""


@implementer(IAcceptedConnection)
class AcceptedSocket:
    """A connection that was accepted and is not served yet: `IAcceptedConnection`."""

    def __init__(self, reactor: Any, sock: socket.socket, sockaddr: Any) -> None:
        self._reactor = reactor
        self._sock = sock
        self.sockaddr = sockaddr

    def getHandle(self) -> socket.socket:
        """Give its socket."""
        return self._sock

    def serve(self, factory: Any) -> None:
        """Have it served by what *factory* builds; if that is None, close it."""
        unix_path = self._sock.family == socket.AF_UNIX
        address = UNIXAddress(self.sockaddr) if unix_path else to_address(self.sockaddr)
        protocol = factory.buildProtocol(address)
        if protocol is None:
            self.close()
            return
        here = self._sock.getsockname()
        transport: Any
        no_port: Any = None
        if unix_path:
            transport = UNIXServer(self._sock, protocol, self.sockaddr, None, 0, self._reactor)
            place = here
        else:
            peer = tcp._getrealname(self.sockaddr)
            transport = TCPServer(self._sock, protocol, peer, no_port, peer[1], self._reactor)
            place = here[1]
        name = protocol.__class__.__name__
        transport.repstr = f"<{name} #{transport.sessionno} on {place}>"
        try:
            protocol.makeConnection(transport)
        except BaseException:  # as Twisted: not even SystemExit ends the server
            log.failure("Unhandled error in {connection}", connection=transport)
            transport.abortConnection()

    def close(self) -> None:
        """Close it."""
        self._sock.close()

    def reset(self) -> None:
        """Reset it."""
        reset_on_close(self._sock)
        self.close()
