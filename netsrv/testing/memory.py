"""A network in memory: sockets without a kernel, and a reactor that turns on demand.

The sockets behave as those of the kernel, as far as Twisted's transports and ours need it: a
buffer that fills while the peer does not read, a half-close, a reset.  Twisted's own transport
for TCP uses them unchanged, so a protocol sees what it sees elsewhere.  No operating system
watches anything here, and time passes only when the clock is advanced.
"""

import errno
import itertools
import os
import socket
import struct
from collections import deque
from collections.abc import Iterable
from typing import Any
from weakref import WeakValueDictionary

from attrs import define, field
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IProtocol,
    IReactorFDSet,
    IReactorTime,
)
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from netsrv.uvreactor.accepted_socket import make_transport

BUFFER = 65_536
"""Bytes that a direction of a connection holds while they are not read, as in the kernel."""

MAX_DATAGRAM_SIZE = 65_507
"""Bytes of a datagram over IPv4."""

MAX_TURNS = 10_000
"""Turns of the reactor after which server and peers are assumed to never stop."""

Peer = tuple[str, int]
"""A numeric address and a port."""

_numbers = itertools.count(1 << 24)
"""Stand-ins for descriptors, which no open file of the process has."""

_sockets: WeakValueDictionary[int, "_Socket"] = WeakValueDictionary()
"""The open sockets by number."""


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def sockaddr_of(peer: Peer) -> Any:
    """Return an address as the kernel does: IPv6 has flow and scope too."""
    return (*peer, 0, 0) if ":" in peer[0] else peer


class _Socket:
    """What all sockets have: a number, a name, and options; of these only SO_LINGER matters."""

    type = socket.SOCK_STREAM
    readable = False
    writable = False

    def __init__(self, own: Peer) -> None:
        self.family = socket.AF_INET6 if ":" in own[0] else socket.AF_INET
        self.own = own
        self._number = next(_numbers)
        _sockets[self._number] = self
        self._options: dict[tuple[int, int], Any] = {}

    def fileno(self) -> int:
        return self._number

    def setblocking(self, flag: bool) -> None: ...

    def getsockname(self) -> Any:
        return sockaddr_of(self.own)

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        self._options[level, option] = value

    def getsockopt(self, level: int, option: int, size: int = 0) -> Any:
        return self._options.get((level, option), bytes(size) if size else 0)

    def close(self) -> None:
        _sockets.pop(self._number, None)
        self._number = -1


# Connections


@define
class _Direction:
    """One direction of a connection."""

    data: bytearray = field(factory=bytearray)
    ended: bool = False
    """True if the sender has sent FIN."""
    reset: bool = False
    """True if the sender has sent RST."""
    closed: bool = False
    """True if the receiver has closed: it answers more data with RST."""


class StreamSocket(_Socket):
    """One end of a connection."""

    def __init__(self, own: Peer, peer: Peer, to_peer: _Direction, from_peer: _Direction) -> None:
        super().__init__(own)
        self.peer = peer
        self._out = to_peer
        self._in = from_peer

    def getpeername(self) -> Any:
        return sockaddr_of(self.peer)

    @property
    def readable(self) -> bool:  # type: ignore[override]
        return bool(self._in.data) or self._in.ended or self._in.reset

    @property
    def writable(self) -> bool:  # type: ignore[override]
        return len(self._out.data) < BUFFER or self._out.closed or self._in.reset

    def recv(self, size: int, _flags: int = 0) -> bytes:
        if self._in.reset:
            raise _error(errno.ECONNRESET)
        if not self._in.data and not self._in.ended:
            raise _error(errno.EAGAIN)
        data = bytes(self._in.data[:size])
        del self._in.data[:size]
        return data

    def send(self, data: Any) -> int:
        if self._in.reset:
            raise _error(errno.ECONNRESET)
        if self._out.closed:
            self._in.reset = True
            return len(data)
        room = BUFFER - len(self._out.data)
        if room <= 0:
            raise _error(errno.EAGAIN)
        self._out.data += data[:room]
        return min(room, len(data))

    def shutdown(self, how: int) -> None:
        if how in (socket.SHUT_WR, socket.SHUT_RDWR):
            self._out.ended = True

    def close(self) -> None:
        super().close()
        self._in.closed = True
        self._in.data.clear()
        linger = self._options.get((socket.SOL_SOCKET, socket.SO_LINGER))
        if linger == struct.pack("ii", 1, 0):
            self._out.reset = True
            self._out.data.clear()
        else:
            self._out.ended = True


class ListeningSocket(_Socket):
    """A listening socket; its backlog is never full."""

    def __init__(self, own: Peer) -> None:
        super().__init__(own)
        self._backlog: deque[tuple[StreamSocket, Any]] = deque()
        self._is_down = False

    @property
    def readable(self) -> bool:  # type: ignore[override]
        return bool(self._backlog)

    def connect(self, peer: Peer, server: Peer) -> StreamSocket:
        """Connect from *peer* to *server*, an address of ours.  Raises ConnectionRefusedError."""
        if self.fileno() == -1 or self._is_down:
            raise _error(errno.ECONNREFUSED)
        to_server, to_client = _Direction(), _Direction()
        self._backlog.append((StreamSocket(server, peer, to_client, to_server), sockaddr_of(peer)))
        return StreamSocket(peer, server, to_server, to_client)

    def listen(self, backlog: int) -> None:
        """Take connections; the backlog has no limit."""
        self._is_down = False

    def shutdown(self, how: int) -> None:
        """Refuse connections, until `listen`."""
        self._is_down = True
        self._reset_backlog()

    def accept(self) -> tuple[StreamSocket, Any]:
        if not self._backlog:
            raise _error(errno.EAGAIN)
        return self._backlog.popleft()

    def close(self) -> None:
        super().close()
        self._reset_backlog()

    def _reset_backlog(self) -> None:
        for waiting, _ in self._backlog:
            waiting.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            waiting.close()
        self._backlog.clear()


# Datagrams


class DatagramSocket(_Socket):
    """A UDP socket; `sent` has the datagrams that it has sent."""

    type = socket.SOCK_DGRAM

    def __init__(self, own: Peer) -> None:
        super().__init__(own)
        self.sent: list[tuple[bytes, Peer]] = []
        self._arrived: deque[tuple[bytes, Peer]] = deque()
        self._connected: Peer | None = None

    @property
    def readable(self) -> bool:  # type: ignore[override]
        return bool(self._arrived)

    def arrive(self, data: bytes, peer: Peer) -> None:
        """Let a datagram arrive from *peer*; a connected socket has one peer only."""
        if self.fileno() != -1 and self._connected in (None, peer):
            self._arrived.append((data, peer))

    def connect(self, peer: Peer | None) -> None:
        self._connected = peer

    def recvmsg(self, size: int, _space: int) -> tuple[bytes, list[Any], int, Any]:
        if not self._arrived:
            raise _error(errno.EAGAIN)
        data, peer = self._arrived.popleft()
        cut = socket.MSG_TRUNC if len(data) > size else 0
        return data[:size], [], cut, sockaddr_of(peer)

    def sendto(self, data: bytes, peer: Any) -> None:
        if len(data) > MAX_DATAGRAM_SIZE:
            raise _error(errno.EMSGSIZE)
        self.sent.append((bytes(data), (peer[0], peer[1])))

    def send(self, data: bytes) -> None:
        self.sendto(data, self._connected)

    def sendmsg(self, data: Iterable[bytes], _messages: Any, _flags: int, peer: Any) -> None:
        self.sendto(b"".join(data), peer)


# The reactor


@implementer(IReactorTime, IReactorFDSet)
class MemoryReactor:
    """A reactor that turns on demand; its time is that of *clock*."""

    running = True

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.seconds = clock.seconds
        self.callLater = clock.callLater
        self.getDelayedCalls = clock.getDelayedCalls
        self._watched: dict[str, list[Any]] = {"doRead": [], "doWrite": []}
        self._turning = False

    def settle(self) -> None:
        """Turn until nothing is left to do now.  Raises RuntimeError if that never happens."""
        if self._turning:
            return
        self._turning = True
        try:
            for _ in range(MAX_TURNS):
                if not self._turn():
                    return
        finally:
            self._turning = False
        raise RuntimeError("server and peers never stop sending; use a client that does not read")

    def advance(self, seconds: float) -> None:
        """Advance the clock from one timer to the next: each is called at its own time."""
        end = self.seconds() + seconds
        self.settle()
        while (due := min(self._due_times(), default=end + 1)) <= end:
            self.clock.advance(max(0.0, due - self.seconds()))
            self.settle()
        self.clock.advance(max(0.0, end - self.seconds()))
        self.settle()

    def _due_times(self) -> Iterable[float]:
        return (call.getTime() for call in self.getDelayedCalls())

    def _turn(self) -> bool:
        """Serve what is ready once; return True if there was anything."""
        due = any(time <= self.seconds() for time in self._due_times())
        self.clock.advance(0)
        readers = [
            (reader, "doRead") for reader in self.getReaders() if _socket_of(reader).readable
        ]
        writers = [
            (writer, "doWrite") for writer in self.getWriters() if _socket_of(writer).writable
        ]
        ready = [*readers, *writers]
        for descriptor, method in ready:
            if descriptor in self._watched[method]:
                why = getattr(descriptor, method)()
                if why:
                    self._disconnect(descriptor, why, method)
        return due or bool(ready)

    def _disconnect(self, transport: Any, why: Exception, way: str) -> None:
        """As `twisted.internet.posixbase` does."""
        self.removeReader(transport)
        if way == "doRead" and isinstance(why, ConnectionDone):
            transport.readConnectionLost(Failure(why))
        else:
            self.removeWriter(transport)
            transport.connectionLost(Failure(why))

    # What a server asks of a reactor

    def callWhenRunning(self, call: Any, *arguments: Any, **keywords: Any) -> None:
        call(*arguments, **keywords)

    def addReader(self, reader: Any) -> None:
        self._add("doRead", reader)

    def addWriter(self, writer: Any) -> None:
        self._add("doWrite", writer)

    def removeReader(self, reader: Any) -> None:
        self._remove("doRead", reader)

    def removeWriter(self, writer: Any) -> None:
        self._remove("doWrite", writer)

    def removeAll(self) -> list[Any]:
        found = [*self.getReaders(), *self.getWriters()]
        self._watched = {"doRead": [], "doWrite": []}
        return found

    def getReaders(self) -> list[Any]:
        return list(self._watched["doRead"])

    def getWriters(self) -> list[Any]:
        return list(self._watched["doWrite"])

    def _add(self, way: str, watched: Any) -> None:
        if watched not in self._watched[way]:
            self._watched[way].append(watched)

    def _remove(self, way: str, watched: Any) -> None:
        if watched in self._watched[way]:
            self._watched[way].remove(watched)

    def adopt(self, sock: StreamSocket, protocol: IProtocol) -> None:
        """Connect a protocol to a socket, by way of Twisted's transport."""
        protocol.makeConnection(make_transport(self, sock, sock.getpeername(), protocol))


_NOT_OURS = _Socket(("0.0.0.0", 0))
"""Stands for what is watched and is no socket of this module, and so is never ready."""


def _socket_of(watched: Any) -> _Socket:
    return _sockets.get(watched.fileno(), _NOT_OURS)
