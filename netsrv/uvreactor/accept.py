"""The accept loop of uvloop, and plain code for when it cannot be used.

uvloop accepts natively: one connection for each time that the socket is readable, and its
transport without a Python socket.  But without descriptors or memory it closes clients
without a word, or spins.  So when descriptors run short, or when somebody waits and
nobody is accepted, the loop accepts with plain code, until that has worked again.
"""

import errno
import select
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from zope.interface import implementer

from netsrv.uvreactor.fallback import AcceptedSocket
from netsrv.uvreactor.interfaces import IAcceptor
from netsrv.uvreactor.newcomer import AcceptedConnection
from netsrv.uvreactor.shortage import descriptor_limit, free_descriptors

AT_ONCE = 64
"""How many connections plain code accepts before other events get their turn."""

MOST_WAITING = 8192
"""How many who wait are accepted at the end; a flood must not keep a server from ending."""

PAUSE = 0.1
"""Seconds without accepting when trying again at once would only spin."""

SPARE = 16
"""Descriptors that are to be free while uvloop accepts."""

LOOKS = 3
"""Turns of the loop in which nobody is accepted who waits, before plain code is used."""

UNKNOWN = 256
"""Descriptors that a program may have beside those of its connections."""

LISTENER_GONE = frozenset({errno.EBADF, errno.EFAULT, errno.EINVAL, errno.ENOTSOCK})
"""The listening socket is not one any more.  All other errors, but those for want of
resources, are of one connection that failed before it was accepted."""

NO_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""No descriptor or no memory is left; trying again at once would only spin."""


@implementer(IAcceptor, IReadDescriptor)
class NativeAcceptor:
    """Accepts connections from a listening socket that it is given; see `IStreamAcceptor`."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        sock: socket.socket,
        serve: Callable[[Any, Any], None],
        failed: Callable[[OSError], None],
        gone: Callable[[OSError], None],
        may_accept: Callable[[], bool] = lambda: True,
    ) -> None:
        self.reactor = reactor
        self._sock = sock
        self._serve = serve
        self._failed = failed
        self._gone = gone
        self._may_accept = may_accept
        self.accepting = False
        """Whether the loop runs, be it in a pause."""
        self._plain = self._always_plain = sock.family == socket.AF_UNIX
        self.no_delay = False
        """Whether the listening socket has TCP_NODELAY, and so those who come."""
        self._server: Any = None
        self._unchecked = 0
        self._made = self._arrived = 0
        self._seen = 0
        self._held: deque[Any] = deque()
        self._pause: Any = None
        self._late = self._hold

    # IAcceptor

    def resume(self) -> None:
        """Accept from now on, first who was held when the loop was stopped."""
        self.accepting = True
        self._late = self._hold
        self._cancel_pause()
        while self.accepting and self._held and self._may_accept():
            self._serve_one(self._held.popleft())
        if self.accepting and self._may_accept():
            self._open()

    def suspend(self) -> None:
        """Accept no more.  The socket stays open: clients connect, and wait."""
        self.accepting = False
        self._shut()

    def drain(self) -> None:
        """Accept all who wait by now, and then nobody any more."""
        self._shut()
        while self.accepting and self._held and self._may_accept():
            self._serve_one(self._held.popleft())
        for _ in range(MOST_WAITING // AT_ONCE):
            if not (self.accepting and self._accept_some()):
                break
        self.detach()

    def detach(self) -> None:
        """Accept nobody any more, and close who was held; who is pending is still served."""
        self.suspend()
        self.close_pending()
        self._late = self._serve_one

    @property
    def pending(self) -> bool:
        """Whether uvloop has accepted somebody who is here in the next turn of the loop."""
        return self._made != self._arrived

    def close_pending(self) -> None:
        """Close the connections that were held, if there are any."""
        self._late = self._turn_away
        while self._held:
            self._turn_away(self._held.popleft())

    # uvloop's server

    def arrived(self, newcomer: AcceptedConnection) -> None:
        """uvloop has accepted somebody."""
        self._arrived += 1
        if self._server is None:
            self._arrived_late(newcomer)
            return
        self._unchecked -= 1
        if self._unchecked < 0:
            self._check_room()
        self._serve_one(newcomer)
        if self.accepting and not self._may_accept():
            self._shut()

    def _arrived_late(self, newcomer: AcceptedConnection) -> None:
        """uvloop had accepted somebody before its server was closed."""
        if not self.accepting:
            self._late(newcomer)
        elif self._may_accept():
            self._serve_one(newcomer)
        else:
            self._hold(newcomer)

    def left(self, newcomer: AcceptedConnection) -> None:
        """Somebody has gone before being served."""
        if newcomer in self._held:  # its text, in an error, would need the address of the peer
            self._held.remove(newcomer)

    def look(self) -> None:
        """Use plain code if somebody waits and uvloop accepts nobody."""
        if self._stalled():
            self._look_again(LOOKS)
        self._seen = self._arrived

    def _look_again(self, times: int) -> None:
        if not self._stalled():
            return
        if times:
            self.reactor.loop.call_soon(self._look_again, times - 1)
        else:
            self._use_plain_code()

    def _stalled(self) -> bool:
        if self._server is None or self._arrived != self._seen:
            return False
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(0))

    def _newcomer(self) -> AcceptedConnection:
        self._made += 1
        return AcceptedConnection(self)

    def _hold(self, newcomer: AcceptedConnection) -> None:
        self._held.append(newcomer)
        newcomer.hold()

    def _open(self) -> None:
        if self._plain:
            self.reactor.addReader(self)
        elif self._server is None:
            try:
                self._open_server()
            except OSError as error:
                if error.errno in LISTENER_GONE:
                    self._goes_on(error)
                else:  # there is no descriptor for the duplicate
                    self._failed(error)
                    self._use_plain_code()

    def _open_server(self) -> None:
        """Have uvloop accept; raises OSError if the socket or the process is out of order."""
        self.no_delay = bool(self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        self._server = serve_natively(self.reactor.loop, self._newcomer, self._sock)
        self.reactor.watchdog.watch(self)

    def _shut(self) -> None:
        self._cancel_pause()
        self.reactor.removeReader(self)
        if self._server is not None:
            self.reactor.watchdog.forget(self)
            self._server.close()
            self._server = None

    def _check_room(self) -> None:
        """Use plain code while few descriptors are free, for some that are known to be."""
        room = AT_ONCE + SPARE
        if self.reactor.descriptors * 2 + UNKNOWN > descriptor_limit():
            room = free_descriptors(self._sock.fileno(), room)
        self._unchecked = room - SPARE
        if room <= SPARE:
            self._use_plain_code()

    def _use_plain_code(self) -> None:
        self._plain = True
        self._shut()
        self._open()

    def _use_native_code(self) -> None:
        free = free_descriptors(self._sock.fileno(), 2 * SPARE)
        if self._plain and not self._always_plain and free == 2 * SPARE:
            self._plain = False
            self._shut()
            self._open()

    # Plain code

    def fileno(self) -> int:
        """The descriptor that the reactor watches."""
        return self._sock.fileno()

    def logPrefix(self) -> str:
        """How the reactor names this loop when it logs."""
        return "NativeAcceptor"

    def doRead(self) -> None:
        """Accept those who wait, up to `AT_ONCE`."""
        self._accept_some()

    def connectionLost(self, reason: Any) -> None:
        """The reactor gives the descriptor up: at its end, or since something is wrong with it.

        In the second case ``accept`` tells what.
        """
        if self.accepting and self.reactor.running:
            self.doRead()

    def _accept_some(self) -> bool:
        """Accept up to `AT_ONCE`; tell whether there may be more."""
        served = False
        for _ in range(AT_ONCE):
            if not self._may_accept():
                return False
            try:
                connection, sockaddr = self._sock.accept()
            except BlockingIOError:
                return False
            except OSError as error:
                if not self._goes_on(error):
                    return False
                continue
            self._serve_one(AcceptedSocket(self.reactor, connection, sockaddr))
            if not self.accepting:
                return False
            if not served:
                served = True
                self._use_native_code()
            if self._server is not None:
                return True
        return served or self._start_pause()

    def _goes_on(self, error: OSError) -> bool:
        """Sort an error of ``accept``; tell whether to try again at once."""
        if error.errno in LISTENER_GONE:
            self.suspend()
            self._gone(error)
            return False
        self._failed(error)
        return error.errno not in NO_RESOURCES or self._start_pause()

    def _start_pause(self) -> bool:
        """Leave the socket alone for `PAUSE` seconds; False, for those who ask to go on."""
        self._shut()
        self._pause = self.reactor.callLater(PAUSE, self._end_pause)
        return False

    def _cancel_pause(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    def _end_pause(self) -> None:
        self._pause = None
        self.resume()

    def _serve_one(self, newcomer: Any) -> None:
        """Have a newcomer served, whatever happens."""
        sockaddr = newcomer.sockaddr
        if sockaddr is None:
            self._turn_away(newcomer)
            self._failed(ConnectionAbortedError(errno.ECONNABORTED, "The peer has left"))
            return
        try:
            self._serve(newcomer, sockaddr)
        except OSError as error:
            self._turn_away(newcomer)
            self._failed(error)
        except BaseException:  # as Twisted: not even SystemExit ends the server
            self._turn_away(newcomer)
            self.log.failure("A newcomer could not be served")

    def _turn_away(self, newcomer: Any) -> None:
        if isinstance(newcomer, AcceptedConnection | AcceptedSocket):
            newcomer.close()
        else:
            newcomer.abortConnection()


def serve_natively(loop: Any, newcomer: Callable[[], Any], sock: socket.socket) -> Any:
    """Have uvloop accept from a duplicate of *sock*: closing the server closes that alone.

    The coroutine awaits nothing when it is given a socket.
    """
    duplicate = sock.dup()
    opening = loop.create_server(newcomer, sock=duplicate, backlog=backlog_of(sock))
    try:
        opening.send(None)
    except StopIteration as opened:
        return opened.value
    except OSError:
        duplicate.close()
        raise
    raise RuntimeError("uvloop's create_server has awaited something")


def backlog_of(sock: socket.socket) -> int:
    """How many may wait at a listening socket; uvloop calls ``listen`` again."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        return int(struct.unpack_from("8B6I", info)[-1])  # tcpi_sacked, tcp(7)
    except (OSError, AttributeError, struct.error):
        return socket.SOMAXCONN
