"""The accept loop of a service that has one message for each peer, or none.

The loop itself sends the message and closes the connection::

    while True:
        connection, address = sock.accept()
        connection.send(message)
        connection.close()

That is the first server of every book.  Without a protocol, a transport and an entry in the
reactor, a connection costs a third of what it costs otherwise, and a seventh without a message.
All rules hold: the gate admits each connection, in batches; a peer that gets a message, or has
sent something, is waited for as in every close; a connection that the gate has no slot for, or
does not allow, takes the ordinary way.
"""

import fcntl
import os
import select
import socket
import termios
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from netsrv.gate import Gate, Permit
from netsrv.guards.sources import Source, source_of
from netsrv.interfaces import CloseReason, IMessageFactory
from netsrv.shortcuts import defined_last
from netsrv.sockets.addresses import show_credentials, show_sockaddr
from netsrv.streams.lingering import linger_watcher
from netsrv.streams.message_connection import AcceptedPeer, MessageConnection, ServedConnections
from netsrv.uvreactor.acceptor import BATCH_SIZE, Acceptor
from netsrv.uvreactor.interfaces import IReadableWatcher
from netsrv.uvreactor.socket_handle import reset_on_close
from netsrv.uvreactor.writing_connection import to_bytes

_NOTHING = bytearray(4)
"""The answer of FIONREAD if there is nothing to read."""


def accepts_messages(sock: Any, factory: Any) -> bool:
    """Return whether a `MessageAcceptor` can serve *factory* on *sock*.

    A subclass that overrides only ``buildProtocol`` is served by what that returns.
    """
    return (
        IMessageFactory.providedBy(factory)
        and defined_last(factory, "message", "buildProtocol")
        and isinstance(sock, socket.socket)
        and hasattr(sock, "_accept")  # accept without a socket object, in CPython
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
        self._family = int(sock.family)  # an enumeration, which takes its time to look up
        self._is_unix = sock.family == socket.AF_UNIX
        self._peer = AcceptedPeer(self._family)
        self._watches_natively = IReadableWatcher.providedBy(reactor)
        self._watched: socket.socket | None = None
        self._watcher: Any = None
        self._slot_is_free, self._may_accept = self._may_accept, self._has_budget
        self._accept: Callable[[], tuple[int, Any]] = sock._accept  # type: ignore[attr-defined]
        self._unread = bytearray(4)
        self._budget = 0
        self._permit = Permit(gate, None, None, gate.limits, 0.0)
        self._served: list[Any] = []
        self._made: list[MessageConnection] = []
        self._over: list[MessageConnection] = []
        self._lingering: list[MessageConnection] = []

    def _watch(self) -> None:
        """Have the loop call `doRead` itself: a reader of the reactor costs as much as a peer.

        The loop watches a duplicate: if other code closes the descriptor, and its number is used
        again, the loop would confuse the two.
        """
        if self._watches_natively and self._watched is None:
            with suppress(OSError):  # no descriptor is left
                self._watched = self._sock.dup()
        if self._watched is not None:
            self.reactor.watchReadable(self._watched.fileno(), self.doRead)
        else:
            super()._watch()

    def _unwatch(self) -> None:
        if self._watched is None:
            super()._unwatch()
        else:
            self._cancel_retry()
            self.reactor.ignoreReadable(self._watched.fileno())
            self._watched.close()
            self._watched = None

    def _accept_batch(self) -> bool:
        gate = self._gate
        self._permit = Permit(gate, None, None, gate.limits, gate.now())
        try:
            return super()._accept_batch()
        finally:
            self._return_budget()
            self._report()

    def _has_budget(self) -> bool:
        """Return True if the gate has a slot and a token, or rejects what has none."""
        if self._budget:
            return True
        self._budget = self._admission.reserve_batch(BATCH_SIZE, self._permit.since)
        return self._budget > 0 or self._slot_is_free()

    def _accept_one(self) -> None:
        descriptor, sockaddr = self._accept()
        peer, source = self._peer, None
        peer.descriptor, peer.sockaddr = descriptor, sockaddr
        if self._is_unix:
            sockaddr = show_credentials(peer.getHandle())
        else:
            source = source_of(sockaddr[0])
        if not self._budget or (source is not None and not self._admission.allows(source)):
            self._serve_in_full(descriptor, peer.sockaddr)
            return
        self._budget -= 1
        try:
            message = self._message(peer)
            if message.__class__ is not bytes:
                message = to_bytes(message)
        except BaseException:  # as Twisted: not even SystemExit ends the server
            self._gate.report_failure("message")
            self._reset(self._connection(source, sockaddr), descriptor)
            return
        if message or self._has_sent(descriptor):
            self._send(self._connection(source, sockaddr), descriptor, message)
        else:
            self._served.append(sockaddr)
            os.close(descriptor)

    def _has_sent(self, descriptor: int) -> bool:
        """Return True if the peer has sent something (FIONREAD, tty_ioctl(4))."""
        fcntl.ioctl(descriptor, termios.FIONREAD, self._unread)
        return self._unread != _NOTHING

    def _connection(self, source: Source | None, sockaddr: Any) -> MessageConnection:
        connection = MessageConnection(self._permit, source, show_sockaddr(sockaddr))
        self._made.append(connection)
        return connection

    def _send(self, connection: MessageConnection, descriptor: int, message: bytes) -> None:
        if self._watcher is None:
            self._watcher = linger_watcher(self.reactor)
        if connection.send(self._socket(descriptor), message, self._watcher):
            self._admission.enter(connection.source)
            if not connection.unsent:
                self._lingering.append(connection)
        else:
            connection.finish()
            self._over.append(connection)

    def _reset(self, connection: MessageConnection, descriptor: int) -> None:
        connection.close_reason = CloseReason.SERVICE_FAILED
        sock = self._socket(descriptor)
        reset_on_close(sock)
        sock.close()
        self._over.append(connection)

    def _socket(self, descriptor: int) -> Any:
        return socket.SocketType(self._family, socket.SOCK_STREAM, 0, descriptor)

    def _serve_in_full(self, descriptor: int, sockaddr: Any) -> None:
        """Serve a connection as that of any other service; the gate may have to reject it."""
        self._return_budget()
        sock = socket.socket(self._family, socket.SOCK_STREAM, 0, descriptor)
        self._serve_one(self._make_connection(self.reactor, sock, sockaddr), sockaddr)

    def _return_budget(self) -> None:
        if self._budget:
            self._admission.cancel_batch(self._budget)
            self._budget = 0

    def _report(self) -> None:
        """Report the connections of a turn to the gate."""
        gate = self._gate
        if self._made:
            made, over, lingering = self._made, self._over, self._lingering
            self._made, self._over, self._lingering = [], [], []
            gate.connections_made(made)
            gate.linger(*lingering)
            if over:
                gate.connections_lost(over, ())
        if self._served:
            served, self._served = self._served, []
            seconds = (gate.now() - self._permit.since) / len(served)
            gate.observer.connections_served(gate.listener_info, ServedConnections(served, seconds))
