"""Connections that `Acceptor` has accepted; Twisted's own transports serve them."""

import socket
from contextvars import copy_context
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.address import UNIXAddress
from twisted.logger import Logger
from zope.interface import implementer

from netsrv.uvreactor import socket_handle
from netsrv.uvreactor.interfaces import IAcceptedConnection
from netsrv.uvreactor.socket_handle import (
    discard_unread,
    next_session,
    reset_on_close,
    shut_down,
    to_address,
)


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


def make_transport(reactor: Any, sock: Any, sockaddr: Any, protocol: Any, port: Any = None) -> Any:
    """Return Twisted's transport on a connected socket, for `protocol.makeConnection`.

    *sockaddr* is the peer's address as ``accept`` returns it.  The transport is the one that
    *port*, a listening port of Twisted, makes; without a port, the one that
    ``reactor.adoptStreamConnection`` makes, but it owns *sock* itself, not a duplicate.
    """
    transport: Any
    name = type(protocol).__name__
    local = sock.getsockname()
    number = None if port is None else next_session(port)
    if sock.family == socket.AF_UNIX:
        transport = UNIXServer(sock, protocol, sockaddr, port, number or 0, reactor)
        if port is None:
            transport.logstr = f"{transport._getLogPrefix(protocol)},0,{local}"
            transport.repstr = f"<{name} #0 on {local}>"
    else:
        address = to_address(sockaddr)
        peer = (address.host, *sockaddr[1:])
        session = address.port if number is None else number
        transport = TCPServer(sock, protocol, peer, port, session, reactor)
        transport.repstr = f"<{name} #{session} on {local[1]}>"
    return transport


@implementer(IAcceptedConnection)
class AcceptedSocket:
    """A connection that was accepted and is not served yet: `IAcceptedConnection`."""

    log = Logger()

    def __init__(self, reactor: Any, sock: socket.socket, sockaddr: Any, port: Any = None) -> None:
        self._reactor = reactor
        self._sock = sock
        self._sockaddr = sockaddr
        self._port = port
        self._forks = socket_handle.forks
        self._transport: Any = None

    def getHandle(self) -> socket.socket:
        """Return its socket."""
        return self._sock

    def serve(self, factory: Any) -> None:
        """Serve it with a protocol that *factory* builds; close it if *factory* builds none.

        A peer that has reset the connection is served too: Twisted reads what it has sent, and
        reports the loss.  Raises OSError if the socket is closed.
        """
        share = getattr(self._reactor, "set_context", None)
        if share is None:
            self._serve(factory)
        else:
            context = copy_context()
            context.run(self._serve, factory)
            share(self._sock.fileno(), context)

    def _serve(self, factory: Any) -> None:
        sockaddr = self._sockaddr
        self._sock.getsockname()
        local = self._sock.family == socket.AF_UNIX
        address = UNIXAddress(sockaddr) if local else to_address(sockaddr)
        protocol = factory.buildProtocol(address)
        if protocol is None:
            self.close()
            return
        self._transport = make_transport(self._reactor, self._sock, sockaddr, protocol, self._port)
        try:
            protocol.makeConnection(self._transport)
        except BaseException:  # as Twisted: not even SystemExit ends the server
            self.log.failure("Unhandled error in {connection}", connection=self._transport)
            self._transport.abortConnection()

    def read_early(self, size: int) -> bytes:
        """Return what the peer has sent already, up to *size* bytes; empty if that is nothing."""
        try:
            return self._sock.recv(size, socket.MSG_DONTWAIT)
        except OSError:
            return b""

    def close(self) -> None:
        """Close it, once what the peer has sent is read; abort it if it is served already."""
        if self._transport is not None:
            self._transport.abortConnection()
        else:
            if self._sock.fileno() != -1:
                self._sock.setblocking(False)
                discard_unread(self._sock)
                if self._forks != socket_handle.forks:
                    shut_down(self._sock)
            self._sock.close()

    def reset(self) -> None:
        """Reset it: the peer gets RST."""
        reset_on_close(self._sock)
        if self._transport is None:
            self._sock.close()
        else:
            self._transport.abortConnection()
