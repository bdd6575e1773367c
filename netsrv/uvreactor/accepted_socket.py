"""Connections that `Acceptor` has accepted; Twisted's own transports serve them."""

import socket
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.address import UNIXAddress
from twisted.logger import Logger
from zope.interface import implementer

from netsrv.uvreactor.interfaces import IAcceptedConnection
from netsrv.uvreactor.socket_handle import reset_on_close, to_address


class _Unsent:
    """Counts the unsent bytes in the buffers of `twisted.internet.abstract.FileDescriptor`."""

    dataBuffer: bytes
    offset: int
    _tempDataLen: int

    @property
    def unsent(self) -> int:
        """Bytes that were written and that the kernel has not accepted yet."""
        return len(self.dataBuffer) - self.offset + self._tempDataLen


class TCPServer(_Unsent, tcp.Server):
    """Twisted's transport for TCP."""


class UNIXServer(_Unsent, unix.Server):
    """Twisted's transport for unix sockets."""


def make_transport(reactor: Any, sock: Any, sockaddr: Any, protocol: Any) -> Any:
    """Return Twisted's transport on a connected socket, for `protocol.makeConnection`.

    *sockaddr* is the peer's address as ``accept`` returns it.  The transport is the one that
    ``reactor.adoptStreamConnection`` makes, but it owns *sock* itself, not a duplicate.
    """
    transport: Any
    no_port: Any = None
    name = type(protocol).__name__
    local = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        transport = UNIXServer(sock, protocol, sockaddr, no_port, 0, reactor)
        transport.logstr = f"{transport._getLogPrefix(protocol)},0,{local}"
        transport.repstr = f"<{name} #0 on {local}>"
    else:
        address = to_address(sockaddr)
        peer = (address.host, *sockaddr[1:])
        transport = TCPServer(sock, protocol, peer, no_port, address.port, reactor)
        transport.repstr = f"<{name} #{address.port} on {local[1]}>"
    return transport


@implementer(IAcceptedConnection)
class AcceptedSocket:
    """A connection that was accepted and is not served yet: `IAcceptedConnection`."""

    log = Logger()

    def __init__(self, reactor: Any, sock: socket.socket) -> None:
        self._reactor = reactor
        self._sock = sock
        self._transport: Any = None

    def getHandle(self) -> socket.socket:
        """Return its socket."""
        return self._sock

    def serve(self, factory: Any) -> None:
        """Serve it with a protocol that *factory* builds; close it if *factory* builds none.

        Raises OSError if the peer has left.
        """
        sockaddr = self._sock.getpeername()
        local = self._sock.family == socket.AF_UNIX
        address = UNIXAddress(sockaddr) if local else to_address(sockaddr)
        protocol = factory.buildProtocol(address)
        if protocol is None:
            self.close()
            return
        self._transport = make_transport(self._reactor, self._sock, sockaddr, protocol)
        try:
            protocol.makeConnection(self._transport)
        except BaseException:  # as Twisted: not even SystemExit ends the server
            self.log.failure("Unhandled error in {connection}", connection=self._transport)
            self._transport.abortConnection()

    def close(self) -> None:
        """Close it; abort it if it is served already."""
        if self._transport is None:
            self._sock.close()
        else:
            self._transport.abortConnection()

    def reset(self) -> None:
        """Reset it: the peer gets RST."""
        reset_on_close(self._sock)
        self.close()
