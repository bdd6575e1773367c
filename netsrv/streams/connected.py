"""A connection that another program has accepted, in the place of a listening socket."""

import socket
from collections.abc import Callable
from typing import Any

from zope.interface import implementer

from netsrv.uvreactor.interfaces import IAcceptor


def is_connected(sock: Any) -> bool:
    """Return True if a socket has a peer, and so is no listening one."""
    try:
        sock.getpeername()
    except AttributeError:  # of a listening socket in memory
        return False
    except OSError:
        return _is_left_by_peer(sock)
    return True


def _is_left_by_peer(sock: socket.socket) -> bool:
    """Return True for a unix socket whose peer has closed: its last data can still be read."""
    try:
        listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:
        return False
    return sock.family == socket.AF_UNIX and not listening


@implementer(IAcceptor)
class ConnectedAcceptor:
    """Serves the connection *sock* once; the other arguments are those of `IStreamAcceptor`."""

    port: Any = None
    yields = None
    pending = False
    accepting = False

    def __init__(
        self,
        reactor: Any,
        sock: socket.socket,
        serve: Callable[[Any, Any], None],
        *_callbacks: Callable[..., Any],
    ) -> None:
        self._reactor = reactor
        self._sock = sock
        self._serve = serve
        self._sockaddr = "" if sock.family == socket.AF_UNIX else sock.getpeername()

    def resume(self) -> None:
        """Serve the connection, which the transport owns from now on."""
        from netsrv.uvreactor.accepted_socket import AcceptedSocket

        if self._sock.fileno() == -1:
            return
        sock = socket.socket(fileno=self._sock.detach())
        accepted = AcceptedSocket(self._reactor, sock, self._sockaddr)
        try:
            self._serve(accepted, self._sockaddr)
        except BaseException:
            accepted.close()
            raise

    def suspend(self) -> None:
        """Do nothing: no other connection comes."""

    def drain(self) -> None:
        """Serve the connection, if that was not done yet."""
        self.resume()

    def detach(self) -> None:
        """Do nothing: the socket belongs to the caller until it is served."""

    def close_pending(self) -> None:
        """Do nothing: no accepted connection is ever held here."""
