"""The accept loop: take connections from a listening socket, one by one::

    while True:
        connection, address = sock.accept()
        serve(connection)

That is the loop of every server.  Here the reactor runs it: when the socket becomes readable,
a connection waits in its backlog, and the reactor calls `doRead`.
The errors of `accept` are sorted into three groups, after accept(2).
"""

import errno
import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from zope.interface import implementer

from netsrv.uvreactor.interfaces import IAcceptor, IStreamAcceptor

BATCH_SIZE = 64
"""Connections accepted before other events get their turn."""

MAX_DRAINED = 8192
"""Connections accepted by a drain; a flood of new ones cannot keep a server from ending."""

RETRY_DELAY = 0.1
"""Seconds without accepting after an error that an immediate retry would only repeat."""

LISTENER_ERRNOS = frozenset({errno.EBADF, errno.EFAULT, errno.EINVAL, errno.ENOTSOCK})
"""The descriptor is no longer a listening socket.  All other errors, except resource
exhaustion, concern one connection that failed before it was accepted."""

RESOURCE_ERRNOS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""No descriptor or no memory is left."""


def accept_streams(
    reactor: Any,
    sock: socket.socket,
    serve: Callable[[Any, Any], None],
    accept_failed: Callable[[OSError], None],
    listener_failed: Callable[[OSError], None],
    may_accept: Callable[[], bool],
) -> Any:
    """Return an acceptor for *sock*: the reactor's native one if it has one, else `Acceptor`.

    The arguments are those of `IStreamAcceptor`.
    """
    native: Any = IStreamAcceptor(reactor, None)
    if native is None:
        return Acceptor(reactor, sock, serve, accept_failed, listener_failed, may_accept)
    return native.acceptStreams(sock, serve, accept_failed, listener_failed, may_accept)


def out_of_memory() -> OSError:
    """Return the kernel's error for what Python raises as MemoryError."""
    return OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


@implementer(IAcceptor, IReadDescriptor)
class Acceptor:
    """Accepts connections on any reactor that provides `IReactorFDSet`; see `IStreamAcceptor`."""

    log = Logger()

    port: Any = None
    """The listening port of Twisted whose connections it accepts; None if it has none."""

    yields: Callable[[], bool] | None = None
    """Returns True if other processes are to take the next connections; `resume` ends that."""

    pending = False
    """True if an accepted connection is served later; here a connection is served immediately."""

    def __init__(
        self,
        reactor: Any,
        sock: socket.socket,
        serve: Callable[[Any, Any], None],
        accept_failed: Callable[[OSError], None],
        listener_failed: Callable[[OSError], None],
        may_accept: Callable[[], bool] = lambda: True,
    ) -> None:
        # Late: it imports Twisted's TCP and TLS, which a start that fails does without.
        from netsrv.uvreactor.accepted_socket import AcceptedSocket

        self.reactor = reactor
        self._make_connection = AcceptedSocket
        self._sock = sock
        self._serve = serve
        self._accept_failed = accept_failed
        self._listener_failed = listener_failed
        self._may_accept = may_accept
        self.accepting = False
        """True while the acceptor runs, also during a pause of `RETRY_DELAY`."""
        self._retry: Any = None

    # IAcceptor

    def resume(self) -> None:
        """Start accepting, or accept again."""
        self.accepting = True
        self._cancel_retry()
        if not self._has_yielded():
            self._watch()

    def suspend(self) -> None:
        """Stop accepting.  The socket stays open: new connections wait in its backlog."""
        self.accepting = False
        self._unwatch()

    def drain(self) -> None:
        """Accept the connections that wait in the backlog, then detach."""
        self._unwatch()
        for _ in range(MAX_DRAINED // BATCH_SIZE):
            if not (self.accepting and self._accept_batch()):
                break
        self.detach()

    def detach(self) -> None:
        """Stop accepting for good; the socket belongs to the caller."""
        self.suspend()

    def close_pending(self) -> None:
        """Do nothing: no accepted connection is ever held here."""

    # IReadDescriptor

    def fileno(self) -> int:
        """Return the descriptor that the reactor watches."""
        return self._sock.fileno()

    def logPrefix(self) -> str:
        """Return the name of this acceptor in the reactor's log."""
        return type(self).__name__

    def doRead(self) -> None:
        """Accept the connections that wait, up to `BATCH_SIZE`."""
        self._accept_batch()

    def connectionLost(self, reason: Any) -> None:
        """Find out why the reactor gives the descriptor up.

        It does so at its end, or when the descriptor has an error, which ``accept`` raises.
        """
        if self.accepting and self.reactor.running:
            self.doRead()
        if self.accepting and self.reactor.running and self._retry is None:
            self._watch()

    # How it is done

    def _watch(self) -> None:
        self.reactor.addReader(self)

    def _unwatch(self) -> None:
        self._cancel_retry()
        self.reactor.removeReader(self)

    def _accept_batch(self) -> bool:
        """Accept up to `BATCH_SIZE` connections; return True if more may be waiting."""
        served = False
        for _ in range(BATCH_SIZE):
            if not self._may_accept() or self._has_yielded():
                return False
            try:
                self._accept_one()
            except BlockingIOError:
                return False
            except OSError as error:
                if not self._can_continue(error):
                    return False
                continue
            except MemoryError:
                return self._can_continue(out_of_memory())
            served = True
            if not self.accepting:
                return False
        return served or self._retry_later()

    def _has_yielded(self) -> bool:
        """Return True, and watch the socket no more, if other processes take what comes."""
        if self.yields is None or not self.yields():
            return False
        self._unwatch()
        return True

    def _accept_one(self) -> None:
        """Accept a connection and serve it.  Raises OSError or MemoryError of ``accept``."""
        sock, sockaddr = self._sock.accept()
        self._serve_one(self._make_connection(self.reactor, sock, sockaddr, self.port), sockaddr)

    def _serve_one(self, connection: Any, sockaddr: Any) -> None:
        """Serve a connection; close it if that raises."""
        try:
            self._serve(connection, sockaddr)
        except OSError as error:  # the connection has failed
            connection.close()
            self._accept_failed(error)
        except MemoryError:
            connection.close()
            self._accept_failed(out_of_memory())
        except BaseException:  # as Twisted: not even SystemExit ends the server
            connection.close()
            self.log.failure("A connection could not be served")

    def _can_continue(self, error: OSError) -> bool:
        """Report an error of ``accept``; return True if the next connection can be accepted."""
        if error.errno in LISTENER_ERRNOS:
            self.suspend()
            self._listener_failed(error)
            return False
        self._accept_failed(error)
        return error.errno not in RESOURCE_ERRNOS or self._retry_later()

    def _retry_later(self) -> bool:
        """Pause for `RETRY_DELAY` seconds; return False, as nothing can be accepted before."""
        self._unwatch()
        self._retry = self.reactor.callLater(RETRY_DELAY, self._end_pause)
        return False

    def _cancel_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _end_pause(self) -> None:
        self._retry = None
        self.resume()
