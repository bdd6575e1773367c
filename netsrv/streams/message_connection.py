"""A connection that gets one message and is closed, without a protocol and a transport."""

import socket
from contextlib import suppress
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IAddress
from zope.interface import implementer

from netsrv.gate import Permit
from netsrv.interfaces import CloseReason, IConnection
from netsrv.sockets.addresses import show_sockaddr
from netsrv.streams.connection import ORDINARY
from netsrv.streams.lingering import LingerWatcher
from netsrv.uvreactor.socket_handle import SocketHandle, reset_on_close, to_address

READ_SIZE = 65_536
"""Bytes that are read at once from a peer that is not listened to."""


class AcceptedPeer:
    """The peer of a connection that was just accepted, as the function of a service sees it.

    One object stands for one peer after the other.
    """

    __slots__ = ("_family", "descriptor", "sockaddr")

    def __init__(self, family: int) -> None:
        self._family = family
        self.descriptor = -1
        self.sockaddr: Any = None

    def getHandle(self) -> SocketHandle:
        """Return the socket, for socket options; the listener owns it."""
        return SocketHandle(self._family, socket.SOCK_STREAM, 0, self.descriptor)

    def getPeer(self) -> IAddress:
        """Return the address of the peer."""
        return self._address(self.sockaddr)

    def getHost(self) -> IAddress:
        """Return our own address."""
        return self._address(self.getHandle().getsockname())

    def _address(self, sockaddr: Any) -> IAddress:
        return to_address(sockaddr) if isinstance(sockaddr, tuple) else UNIXAddress(sockaddr)


@implementer(IConnection)
class MessageConnection:
    """A connection that gets a message, then FIN, and that lingers until the peer ends too.

    It drops what the peer sends, and calls the gate as `netsrv.streams.connection.Connection`
    does.  *watcher* calls `ready`.
    """

    __slots__ = (
        "__dict__",
        "_gate",
        "_rest",
        "_sock",
        "_watcher",
        "aborted",
        "close_reason",
        "permit",
        "received",
        "seconds",
        "sent",
    )

    disconnecting = True
    """It is closed from the beginning."""

    def __init__(self, permit: Permit, sock: Any, watcher: LingerWatcher) -> None:
        self._gate = permit.gate
        self._sock = sock
        self._watcher = watcher
        self._rest = b""
        self.permit = permit
        self.received = 0
        self.sent = 0
        self.seconds = 0.0
        self.close_reason = CloseReason.SERVICE
        self.aborted = False

    def send(self, message: bytes) -> None:
        """Send a message and FIN, as far as the kernel takes them now."""
        self.sent = len(message)
        self._rest = message
        self._send_rest()

    def ready(self) -> None:
        """Go on: send the rest of the message, or read."""
        if self._rest:
            self._send_rest()
            return
        try:
            data = self._sock.recv(READ_SIZE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            self._lost(CloseReason.RESET)
            return
        if data:
            self.dataReceived(data)
        else:
            self._lost()

    def dataReceived(self, data: bytes) -> None:
        """Count what the peer has sent."""
        self.received += len(data)

    @property
    def peer(self) -> str:
        """The peer's address, as in ``127.0.0.1:40000``."""
        return show_sockaddr(self.permit.sockaddr)

    @property
    def unsent(self) -> int:
        """Bytes of the message that wait because the peer does not read."""
        return len(self._rest)

    # The gate's side

    def end(self, reason: CloseReason) -> None:
        """Set the reason of the end, which has begun already."""
        if self.close_reason in ORDINARY:
            self.close_reason = reason

    def abort(self, reason: CloseReason) -> None:
        """Reset the connection for *reason*; what was not sent is lost."""
        self.aborted = True
        with suppress(OSError):
            reset_on_close(self._sock)
        self._lost(reason)

    def end_linger(self) -> None:
        """Close the connection: the peer has had its time to read the message."""
        self._lost()

    def give_up(self) -> None:
        """Close the connection, although an attempt to end it has failed."""
        self._lost()

    def _send_rest(self) -> None:
        sock = self._sock
        try:
            if self._rest:
                self._rest = self._rest[sock.send(self._rest, socket.MSG_DONTWAIT) :]
            if not self._rest:
                sock.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            pass
        except OSError:
            self._lost(CloseReason.RESET)
            return
        self._watcher.watch(sock.fileno(), self, bool(self._rest))
        if not self._rest:
            self._gate.linger(self)

    def _lost(self, reason: CloseReason | None = None) -> None:
        if reason is not None:
            self.end(reason)
        self.sent -= len(self._rest)
        self._rest = b""
        self._watcher.forget(self._sock.fileno())
        self._sock.close()
        self.seconds = self._gate.now() - self.permit.since
        self._gate.connection_lost(self)
