"""A connection that gets one message and is closed, without a protocol and a transport."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from attrs import frozen
from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IAddress
from zope.interface import implementer

from netsrv.gate import Permit
from netsrv.guards.sources import Source
from netsrv.interfaces import CloseReason, IConnection, IServedConnections
from netsrv.sockets.addresses import show_sockaddr
from netsrv.streams.connection import ORDINARY
from netsrv.streams.lingering import LingerWatcher
from netsrv.uvreactor.socket_handle import SocketHandle, reset_on_close, to_address

_SEND_FLAGS = socket.MSG_DONTWAIT | getattr(socket, "MSG_MORE", 0)
"""The message waits for the FIN that follows, so that both are one segment (send(2))."""

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

    It drops what the peer sends.  The accept loop reports its beginning to the gate, and the
    watcher its end, together with those of others.  It holds a slot of *source*, unless it is
    over at once.
    """

    __slots__ = (
        "__dict__",
        "_rest",
        "_sock",
        "_watcher",
        "aborted",
        "close_reason",
        "peer",
        "permit",
        "received",
        "seconds",
        "sent",
        "source",
    )

    disconnecting = True
    """It is closed from the beginning."""
    proxy = tls = details = None

    def __init__(self, permit: Permit, source: Source | None, peer: str) -> None:
        self.permit = permit
        self.source = source
        self.peer = peer
        self.received = 0
        self.sent = 0
        self.seconds = 0.0
        self.close_reason = CloseReason.SERVICE
        self.aborted = False
        self._rest = b""

    def send(self, sock: Any, message: bytes, watcher: LingerWatcher) -> bool:
        """Send the message and FIN on *sock*, as far as the kernel takes them now.

        Returns False if the connection is over: call `finish`, and report it.
        """
        self._sock, self._rest, self._watcher = sock, message, watcher
        self.sent = len(message)
        return self._send_rest()

    def ready(self) -> bool:
        """Go on sending, or read; return False if the connection is over, as `send` does."""
        if self._rest:
            alive = self._send_rest()
            if alive and not self._rest:
                self.permit.gate.linger(self)
            return alive
        try:
            data = self._sock.recv(READ_SIZE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            self.end(CloseReason.RESET)
            return False
        if data:
            self.dataReceived(data)
        return bool(data)

    def finish(self) -> None:
        """Close the socket."""
        self._watcher.forget(self._sock.fileno())
        self._sock.close()
        self.sent -= len(self._rest)
        self._rest = b""
        self.seconds = self.permit.gate.now() - self.permit.since

    def dataReceived(self, data: bytes) -> None:
        """Count what the peer has sent."""
        self.received += len(data)

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
        self.end(reason)
        with suppress(OSError):
            reset_on_close(self._sock)
        self.finish()
        # In the next turn, as any transport: the caller goes through the live connections.
        self.permit.gate.clock.callLater(0, self._report)

    def end_linger(self) -> None:
        """Close the connection: the peer has had its time to read the message."""
        self.finish()
        self._report()

    def give_up(self) -> None:
        """Report the end of a connection, although an attempt to close it may have failed."""
        self._sock.close()
        self._report()

    def _report(self) -> None:
        if self in self.permit.gate.connections:
            self.permit.gate.connections_lost((self,), (self.source,))

    def _send_rest(self) -> bool:
        sock = self._sock
        try:
            if self._rest:
                self._rest = self._rest[sock.send(self._rest, _SEND_FLAGS) :]
            if not self._rest:
                sock.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            pass
        except OSError:
            self.end(CloseReason.RESET)
            return False
        self._watcher.watch(sock.fileno(), self, bool(self._rest))
        return True


@implementer(IServedConnections)
class ServedConnections:
    """Connections that were over at once; *sockaddrs* are the peers', as in `Permit`."""

    def __init__(self, sockaddrs: list[Any], seconds: float) -> None:
        self._sockaddrs = sockaddrs
        self.count = len(sockaddrs)
        self.seconds = seconds

    @property
    def peers(self) -> list[str]:
        """The addresses of the peers, as in ``127.0.0.1:40000``."""
        return [
            f"{sockaddr[0]}:{sockaddr[1]}" if len(sockaddr) == 2 else show_sockaddr(sockaddr)
            for sockaddr in self._sockaddrs
        ]

    def __iter__(self) -> Iterator["ServedConnection"]:
        return (ServedConnection(peer, self.seconds) for peer in self.peers)


@implementer(IConnection)
@frozen
class ServedConnection:
    """One connection that was over at once."""

    peer: str
    seconds: float
    received: int = 0
    sent: int = 0
    close_reason: CloseReason = CloseReason.SERVICE
    proxy: None = None
    tls: None = None
    details: None = None
