"""The accept loop: take connections from a listening socket, one by one::

    while True:
        connection, address = sock.accept()
        serve(connection)

That is the loop of every server.  Here the reactor runs it: it waits until the
socket is readable, which means that somebody is waiting, and calls `doRead`.
What `accept` may raise is sorted in three, after accept(2).
"""

import errno
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

AT_ONCE = 64
"""How many connections are taken before other events get their turn."""

MOST_WAITING = 8192
"""How many who wait are accepted at the end; a flood must not keep a server from ending."""

PAUSE = 0.1
"""Seconds without accepting when trying again at once would only spin."""

LISTENER_GONE = frozenset({errno.EBADF, errno.EFAULT, errno.EINVAL, errno.ENOTSOCK})
"""The listening socket is not one any more.  All other errors, but those for want of
resources, are of one connection that failed before it was accepted."""

NO_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""No descriptor or no memory is left; trying again at once would only spin."""


@implementer(IReadDescriptor)
class Acceptor:
    """Accepts connections from a listening socket that it is given.

    *serve* is called with each connection's socket and address and owns the socket,
    unless it raises OSError.  *failed* is told of each such error, and of those of
    ``accept``.  *gone* is told, once, when the listening socket has failed for good.
    *may_accept* is asked before each one; who says no has stopped the loop, or will.
    """

    def __init__(
        self,
        reactor: Any,
        sock: socket.socket,
        serve: Callable[[socket.socket, Any], None],
        failed: Callable[[OSError], None],
        gone: Callable[[OSError], None],
        may_accept: Callable[[], bool] = lambda: True,
    ) -> None:
        self._reactor = reactor
        self._sock = sock
        self._serve = serve
        self._failed = failed
        self._gone = gone
        self._may_accept = may_accept
        self.accepting = False
        """Whether the loop runs, be it in a pause."""
        self._pause: Any = None
        self._held: tuple[socket.socket, Any] | None = None

    def fileno(self) -> int:
        """The descriptor that the reactor watches."""
        return self._sock.fileno()

    def logPrefix(self) -> str:
        """How the reactor names this loop when it logs."""
        return "Acceptor"

    def resume(self) -> None:
        """Accept from now on, first who was held when the loop was stopped."""
        self.accepting = True
        self._reactor.addReader(self)
        if self._held is not None:
            self._accept_some()

    def suspend(self) -> None:
        """Accept no more.  The socket stays open: clients connect, and wait."""
        self.accepting = False
        self._reactor.removeReader(self)
        self._cancel_pause()

    pending = False
    """Whether somebody is accepted who is served later: who is accepted here is served at once."""

    def drain(self) -> None:
        """Accept all who wait by now, and then nobody any more."""
        self._cancel_pause()
        for _ in range(MOST_WAITING // AT_ONCE):
            if not (self.accepting and self._accept_some()):
                break
        self.detach()

    def detach(self) -> None:
        """Accept nobody any more, and close who was held."""
        self.suspend()
        self.close_pending()

    def close_pending(self) -> None:
        """Close the connection that was held, if there is one."""
        if self._held is not None:
            self._held[0].close()
            self._held = None

    def doRead(self) -> None:
        """Accept those who wait, up to `AT_ONCE`."""
        self._accept_some()

    def _accept_some(self) -> bool:
        """Accept up to `AT_ONCE`; tell whether there may be more."""
        served = False
        for _ in range(AT_ONCE):
            if not self._may_accept():
                return False
            try:
                connection, sockaddr = self._held or self._sock.accept()
            except BlockingIOError:
                return False
            except OSError as error:
                if not self._goes_on(error):
                    return False
                continue
            served = self._serve_or_hold(connection, sockaddr)
            if not (served and self.accepting):
                return False
        return served or self._start_pause()

    def _goes_on(self, error: OSError) -> bool:
        """Sort an error of ``accept``; tell whether to try again at once."""
        if error.errno in LISTENER_GONE:
            self.suspend()
            self._gone(error)
            return False
        self._failed(error)
        return error.errno not in NO_RESOURCES or self._start_pause()

    def _serve_or_hold(self, connection: socket.socket, sockaddr: Any) -> bool:
        """Have a connection served; if a descriptor is missing, hold it for after a pause."""
        self._held = None
        try:
            self._serve(connection, sockaddr)
        except OSError as error:
            self._failed(error)
            if error.errno in NO_RESOURCES:
                self._held = (connection, sockaddr)
                return self._start_pause()
            connection.close()  # the peer has left meanwhile
        return True

    def _start_pause(self) -> bool:
        """Leave the socket alone for `PAUSE` seconds; False, for those who ask to go on."""
        self._cancel_pause()
        self._reactor.removeReader(self)
        self._pause = self._reactor.callLater(PAUSE, self._end_pause)
        return False

    def _cancel_pause(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    def _end_pause(self) -> None:
        self._pause = None
        self.resume()

    def connectionLost(self, reason: Any) -> None:
        """The reactor gives the descriptor up: at its end, or since something is wrong with it.

        In the second case ``accept`` tells what.
        """
        if self.accepting and self._reactor.running:
            self._reactor.addReader(self)
            self.doRead()
