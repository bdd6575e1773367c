"""The accept loop of uvloop, which falls back to plain code.

uvloop accepts natively: one connection every time that the socket is readable, and its
transport without a Python socket.  But without descriptors or memory it closes connections
without an error, or spins.  So when descriptors run short, or when connections wait and none is
accepted, the plain code of `Acceptor` accepts, until it has succeeded.
"""

import errno
import select
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any

from netsrv.uvreactor.accepted_connection import AcceptedConnection
from netsrv.uvreactor.acceptor import BATCH_SIZE, LISTENER_ERRNOS, Acceptor
from netsrv.uvreactor.connection import Connection
from netsrv.uvreactor.fd_pressure import descriptor_limit, free_descriptors

MIN_FREE_DESCRIPTORS = 16
"""Descriptors that must be free while uvloop accepts."""

STALLED_TURNS = 3
"""Turns of the loop in which a connection waits and none is accepted, before plain code is used."""

OTHER_DESCRIPTORS = 256
"""Descriptors that a program may have open beside those of its connections."""


class NativeAcceptor(Acceptor):
    """Accepts connections with uvloop's server, or with plain code; see `IStreamAcceptor`."""

    def __init__(self, reactor: Any, sock: socket.socket, *callbacks: Any) -> None:
        super().__init__(reactor, sock, *callbacks)
        self._plain = self._always_plain = sock.family == socket.AF_UNIX
        self.no_delay = False
        """True if the listening socket has TCP_NODELAY, which its connections inherit."""
        self._server: Any = None
        self._unchecked = 0
        self._created = self._arrived = 0
        self._seen = 0
        self._watched = -1
        self._held: deque[Connection] = deque()
        self._on_late: Callable[[Connection], None] = self._hold

    # IAcceptor

    def resume(self) -> None:
        """Start accepting, or accept again, first the connections that are held."""
        self.accepting = True
        self._on_late = self._hold
        self._cancel_retry()
        self._serve_held()
        if self.accepting and self._may_accept() and not self._has_yielded():
            self._watch()

    def drain(self) -> None:
        self._unwatch()
        self._serve_held()
        super().drain()

    def detach(self) -> None:
        """Stop accepting for good and close the held connections; pending ones are served."""
        self.suspend()
        self.close_pending()
        self._on_late = self._serve_native

    @property
    def pending(self) -> bool:  # type: ignore[override]
        """True if uvloop has accepted a connection that arrives in the next turn of the loop."""
        return self._created != self._arrived

    def close_pending(self) -> None:
        """Close the connections that are held."""
        self._on_late = Connection.close
        while self._held:
            self._held.popleft().close()

    # What a connection that uvloop has accepted calls

    def arrived(self, connection: Connection) -> None:
        """Serve a connection that uvloop has accepted."""
        self._arrived += 1
        if self._server is None:
            self._arrived_late(connection)
            return
        self._unchecked -= 1
        if self._unchecked < 0:
            self._check_descriptors()
        if not self._may_accept():  # a limit was reached since uvloop has accepted it
            self._hold(connection)
            self._unwatch()
            return
        self._serve_native(connection)
        if self.accepting and not self._may_accept():
            self._unwatch()
        elif self.accepting:
            self._has_yielded()

    def left(self, connection: Connection) -> None:
        """Forget a connection that was lost before it was served."""
        if connection in self._held:  # its text, in an error, would need the address of the peer
            self._held.remove(connection)

    # What AcceptWatchdog calls

    def look(self) -> None:
        """Use plain code if connections wait and uvloop accepts none."""
        if self._stalled():
            self._look_again(STALLED_TURNS)
        self._seen = self._arrived

    def _look_again(self, turns: int) -> None:
        if not self._stalled():
            return
        if turns:
            self.reactor.loop.call_soon(self._look_again, turns - 1)
        else:
            self._use_plain_code()

    def _stalled(self) -> bool:
        if self._server is None or self._arrived != self._seen:
            return False
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(0))

    # Connections that uvloop had accepted before its server was closed

    def _arrived_late(self, connection: Connection) -> None:
        if not self.accepting:
            self._on_late(connection)
        elif self._may_accept():
            self._serve_native(connection)
        else:
            self._hold(connection)

    def _hold(self, connection: Connection) -> None:
        self._held.append(connection)
        connection.hold()

    def _serve_held(self) -> None:
        while self.accepting and self._held and self._may_accept():
            self._serve_native(self._held.popleft())

    def _serve_native(self, connection: Connection) -> None:
        sockaddr = connection.peername
        if sockaddr is None:
            connection.close()
            self._accept_failed(ConnectionAbortedError(errno.ECONNABORTED, "The peer has left"))
        else:
            self._serve_one(AcceptedConnection(connection, sockaddr), sockaddr)

    # uvloop's server

    def _watch(self) -> None:
        if self._plain:
            super()._watch()
        elif self._server is None:
            try:
                self._open_server()
            except OSError as error:
                if error.errno in LISTENER_ERRNOS:
                    self._can_continue(error)
                else:  # there is no descriptor for the duplicate
                    self._accept_failed(error)
                    self._use_plain_code()

    def _open_server(self) -> None:
        """Start uvloop's server.  Raises OSError if the socket is dead or no descriptor is left."""
        self.no_delay = bool(self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        self._server = serve_natively(self.reactor.loop, self._connection, self._sock)
        self._watched = self._sock.fileno()
        self.reactor.watchdog.watch(self, self._watched)

    def _connection(self) -> Connection:
        self._created += 1
        return Connection(self)

    def _unwatch(self) -> None:
        super()._unwatch()
        if self._server is not None:
            self.reactor.watchdog.forget(self._watched)
            self._server.close()
            self._server = None

    # Plain code

    def doRead(self) -> None:
        """Accept with plain code; use uvloop again if that has worked."""
        super().doRead()
        if self._always_plain or self._retry is not None:
            return
        if self.accepting and self._may_accept():
            self._use_native_code()

    def _check_descriptors(self) -> None:
        """Use plain code if few descriptors are free; else skip the check for some connections."""
        free = BATCH_SIZE + MIN_FREE_DESCRIPTORS
        if self.reactor.descriptors * 2 + OTHER_DESCRIPTORS > descriptor_limit():
            free = free_descriptors(self._sock.fileno(), free)
        self._unchecked = free - MIN_FREE_DESCRIPTORS
        if free <= MIN_FREE_DESCRIPTORS:
            self._use_plain_code()

    def _use_plain_code(self) -> None:
        self._plain = True
        self._unwatch()
        self._watch()

    def _use_native_code(self) -> None:
        enough = 2 * MIN_FREE_DESCRIPTORS
        if free_descriptors(self._sock.fileno(), enough) == enough:
            self._plain = False
            self._unwatch()
            self._watch()


def serve_natively(loop: Any, connection: Callable[[], Any], sock: socket.socket) -> Any:
    """Return a server of uvloop on a duplicate of *sock*, which is closed with the server.

    The coroutine awaits nothing when it is given a socket.
    """
    duplicate = sock.dup()
    opening = loop.create_server(connection, sock=duplicate, backlog=backlog_of(sock))
    try:
        opening.send(None)
    except StopIteration as opened:
        return opened.value
    except OSError:
        duplicate.close()
        raise
    raise RuntimeError("uvloop's create_server awaits, although it has a socket")


def backlog_of(sock: socket.socket) -> int:
    """Return the backlog of a listening socket, since uvloop calls ``listen`` again."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        return int(struct.unpack_from("8B6I", info)[-1])  # tcpi_sacked, tcp(7)
    except (OSError, AttributeError, struct.error):
        return socket.SOMAXCONN
