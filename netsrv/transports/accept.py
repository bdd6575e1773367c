"""The accept loop: take connections from a listening socket, one by one.

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

PAUSE = 0.1
"""Seconds without accepting when the system has no resources for a connection."""

CONNECTION_DEAD = frozenset(
    getattr(errno, name)
    for name in (
        "ECONNABORTED EHOSTDOWN EHOSTUNREACH ENETDOWN ENETUNREACH ENONET ENOPROTOOPT "
        "EOPNOTSUPP EPERM EPROTO ETIMEDOUT"
    ).split()
    if hasattr(errno, name)
)
"""The connection failed before it was accepted; the next one may be well."""

NO_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""No descriptor or no memory is left; trying again at once would only spin."""


@implementer(IReadDescriptor)
class AcceptLoop:
    """Accepts connections from a listening socket that it is given.

    *serve* is called with each connection's socket and owns it, unless it raises
    OSError.  *failed* is told of each connection that was lost here.  An error that is in
    neither list means that the listening socket is gone: *gone* is told, once.
    """

    def __init__(
        self,
        reactor: Any,
        sock: socket.socket,
        serve: Callable[[socket.socket], None],
        failed: Callable[[OSError], None],
        gone: Callable[[OSError], None],
    ) -> None:
        self._reactor = reactor
        self._sock = sock
        self._serve = serve
        self._failed = failed
        self._gone = gone
        self._accepting = False
        self._pause: Any = None

    def fileno(self) -> int:
        """The descriptor that the reactor watches."""
        return self._sock.fileno()

    def logPrefix(self) -> str:
        """How the reactor names this loop when it logs."""
        return "AcceptLoop"

    def start(self) -> None:
        """Accept from now on."""
        self._accepting = True
        self._reactor.addReader(self)

    def stop(self) -> None:
        """Accept no more.  The socket stays open: clients connect, and wait."""
        self._accepting = False
        self._reactor.removeReader(self)
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    def doRead(self) -> None:
        """Accept those who wait, up to `AT_ONCE`."""
        for _ in range(AT_ONCE):
            try:
                connection, _address = self._sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in NO_RESOURCES:
                    return self._start_pause(error)
                if error.errno not in CONNECTION_DEAD:
                    self.stop()
                    return self._gone(error)
                self._failed(error)
                continue
            try:
                self._serve(connection)
            except OSError as error:  # the peer has left, or a descriptor is missing
                connection.close()
                if error.errno in NO_RESOURCES:
                    return self._start_pause(error)
                self._failed(error)
            if not self._accepting:
                return

    def _start_pause(self, error: OSError) -> None:
        self._failed(error)
        self._reactor.removeReader(self)
        self._pause = self._reactor.callLater(PAUSE, self._end_pause)

    def _end_pause(self) -> None:
        self._pause = None
        self._reactor.addReader(self)

    def connectionLost(self, reason: Any) -> None:
        """The reactor gives the descriptor up: at its end, or as `doRead` raised."""
