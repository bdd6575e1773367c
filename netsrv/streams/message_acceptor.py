"""The accept loop of a service that has one message for each peer, or none.

The loop itself sends the message and closes the connection::

    while True:
        connection, address = sock.accept()
        connection.send(message)
        connection.close()

That is the first server of every book.  Without a protocol, a transport and an entry in the
reactor, a connection costs a fifth of what it costs otherwise.  All rules hold: the gate admits
each connection, in batches; a peer that gets a message, or has sent something, is waited for as
in every close; what is neither served nor simple takes the ordinary way.
"""

import fcntl
import os
import select
import socket
import termios
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from attrs import frozen
from zope.interface import implementer

from netsrv.gate import Gate, Permit
from netsrv.guards.sources import Source, source_of
from netsrv.interfaces import CloseReason, IConnection, IMessageFactory, IServedConnections
from netsrv.overriding import defined_last
from netsrv.sockets.addresses import show_credentials, show_sockaddr
from netsrv.streams.lingering import linger_watcher
from netsrv.streams.message_connection import AcceptedPeer, MessageConnection
from netsrv.uvreactor.acceptor import BATCH_SIZE, Acceptor

_NOTHING = bytearray(4)
"""The answer of FIONREAD if there is nothing to read (tty_ioctl(4))."""


def accepts_messages(sock: Any, factory: Any) -> bool:
    """Return whether a `MessageAcceptor` can serve *factory* on *sock*.

    A subclass that overrides only ``buildProtocol`` is served by what that returns.
    """
    return (
        IMessageFactory.providedBy(factory)
        and defined_last(factory, "message", "buildProtocol")
        and isinstance(sock, socket.socket)
        and hasattr(select, "epoll")
    )


class MessageAcceptor(Acceptor):
    """Accepts connections on *sock*, sends each the message of *factory*, and closes it.

    The *callbacks* are those of `Acceptor`.  They are called with connections that *gate* has
    no slot for, or does not allow, so that they are rejected as any other.
    """

    def __init__(
        self,
        reactor: Any,
        sock: socket.socket,
        gate: Gate,
        factory: Any,
        *callbacks: Callable[..., Any],
    ) -> None:
        super().__init__(reactor, sock, *callbacks)
        self._gate = gate
        self._message = factory.message
        self._admission = gate.admission
        self._peer = AcceptedPeer(sock.family)
        self._watcher = linger_watcher(reactor)
        self._slot_is_free, self._may_accept = self._may_accept, self._has_budget
        self._accept = getattr(sock, "_accept", None) or partial(_accept, sock)
        self._unread = bytearray(4)
        self._began = 0.0
        self._budget = 0
        self._served: list[Any] = []

    def _accept_batch(self) -> bool:
        self._began = self._gate.now()
        try:
            return super()._accept_batch()
        finally:
            self._return_budget()
            if self._served:
                self._report_served()

    def _has_budget(self) -> bool:
        """Return True if the gate has a slot and a token, or rejects what has none."""
        if self._budget:
            return True
        self._budget = self._admission.reserve_batch(BATCH_SIZE, self._began)
        return self._budget > 0 or self._slot_is_free()

    def _accept_one(self) -> None:
        descriptor, sockaddr = self._accept()
        peer = self._peer
        peer.descriptor, peer.sockaddr = descriptor, sockaddr
        source = None
        if isinstance(sockaddr, tuple):
            source = source_of(sockaddr[0])
        else:
            sockaddr = show_credentials(peer.getHandle())
        if not self._budget or (source is not None and not self._admission.allows(source)):
            self._serve_in_full(descriptor, peer.sockaddr)
            return
        self._budget -= 1
        try:
            message = self._message(peer)
        except BaseException:  # as Twisted: not even SystemExit ends the server
            self._gate.report_failure("message")
            self._connection(descriptor, sockaddr, source).abort(CloseReason.SERVICE_FAILED)
            return
        fcntl.ioctl(descriptor, termios.FIONREAD, self._unread)
        if message or self._unread != _NOTHING:
            self._connection(descriptor, sockaddr, source).send(message)
        else:
            os.close(descriptor)
            self._served.append(sockaddr)

    def _connection(
        self, descriptor: int, sockaddr: Any, source: Source | None
    ) -> MessageConnection:
        """Return a connection that holds a slot until it has ended."""
        self._admission.enter(source)
        permit = Permit(self._gate, sockaddr, source, self._gate.limits, self._began)
        sock = socket.SocketType(self._sock.family, socket.SOCK_STREAM, 0, descriptor)
        connection = MessageConnection(permit, sock, self._watcher)
        self._gate.connection_made(connection)
        return connection

    def _serve_in_full(self, descriptor: int, sockaddr: Any) -> None:
        """Serve a connection as any other service's; the gate has a reason to reject it."""
        self._return_budget()
        sock = socket.socket(self._sock.family, socket.SOCK_STREAM, 0, descriptor)
        self._serve_one(self._make_connection(self.reactor, sock, sockaddr), sockaddr)

    def _return_budget(self) -> None:
        if self._budget:
            self._admission.cancel_batch(self._budget)
            self._budget = 0

    def _report_served(self) -> None:
        sockaddrs, self._served = self._served, []
        gate = self._gate
        seconds = (gate.now() - self._began) / len(sockaddrs)
        served = ServedConnections(sockaddrs, seconds)
        gate.observer.connections_served(gate.listener_info, served)


def _accept(sock: socket.socket) -> tuple[int, Any]:
    """Accept a connection, and return its descriptor and the peer's address."""
    connection, sockaddr = sock.accept()
    return connection.detach(), sockaddr


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
        return [show_sockaddr(sockaddr) for sockaddr in self._sockaddrs]

    def __iter__(self) -> Iterator["ServedConnection"]:
        return (ServedConnection(peer, self.seconds) for peer in self.peers)


@implementer(IConnection)
@frozen
class ServedConnection:
    """One of them."""

    peer: str
    seconds: float
    received: int = 0
    sent: int = 0
    close_reason: CloseReason = CloseReason.SERVICE
