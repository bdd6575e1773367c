"""An acceptor on a listening socket of loopback, or on one with a script; and all it reports."""

import errno
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from zope.interface.verify import verifyObject

from netsrv.uvreactor.acceptor import Acceptor
from netsrv.uvreactor.interfaces import IAcceptedConnection
from netsrv.uvreactor.native_acceptor import NativeAcceptor
from tests.doubles import ReactorClock
from tests.uvreactor.conftest import Recorder, Runner, Served
from tests.uvreactor.peer import Peer


class Accepting:
    """An acceptor that runs; *kind* is `NativeAcceptor` or `Acceptor`."""

    def __init__(self, runner: Runner, sock: socket.socket, kind: type[Acceptor]) -> None:
        self.runner = runner
        self.sock = sock
        native = kind is NativeAcceptor
        self.served_as = "AcceptedConnection" if native else "AcceptedSocket"
        self.max_served = 1000
        self.served: list[str] = []
        self.failed: list[int | None] = []
        self.gone: list[int | None] = []
        self.factory = Served(Recorder, {})
        self.acceptor: Any = kind(
            runner.reactor,
            sock,
            self.serve,
            lambda error: self.failed.append(error.errno),
            lambda error: self.gone.append(error.errno),
            lambda: len(self.served) < self.max_served,
        )
        self.peers: list[Peer] = []
        self.acceptor.resume()

    def serve(self, connection: Any, sockaddr: Any) -> None:
        """Serve, and count."""
        verifyObject(IAcceptedConnection, connection)
        self.served.append(type(connection).__name__)
        connection.serve(self.factory)

    def connect(self, number: int = 1) -> list[Peer]:
        """Connect *number* peers."""
        peers = [Peer(self.runner, *self.sock.getsockname()) for _ in range(number)]
        self.peers += peers
        return peers

    def until_served(self, number: int) -> None:
        """Wait until *number* connections are served, and check that no more are."""
        self.runner.until(lambda: len(self.served) >= number)
        self.runner.turns()
        assert len(self.served) == number


@contextmanager
def accepting_on_loopback(runner: Runner, kind: type[Acceptor]) -> Iterator[Accepting]:
    """Run an acceptor on a free port with a backlog of 64."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as sock:
        sock.setblocking(False)
        accepting = Accepting(runner, sock, kind)
        yield accepting
        accepting.acceptor.suspend()
        accepting.acceptor.close_pending()
        for peer in accepting.peers:
            peer.sock.close()


def backlog_length(sock: socket.socket) -> int:
    """Return the number of connections in a backlog: tcpi_unacked, tcp(7)."""
    information = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return int.from_bytes(information[24:28], sys.byteorder)


class ScriptedSocket:
    """A socket with a script: numbers are errors, anything else is accepted."""

    family = socket.AF_UNIX  # where NativeAcceptor uses plain code alone

    def __init__(self, *script):
        self.script = list(script)

    def accept(self):
        if not self.script:
            raise BlockingIOError(errno.EAGAIN, "the backlog is empty")
        step = self.script.pop(0)
        if step is MemoryError:
            raise MemoryError
        if isinstance(step, int):
            raise OSError(step, os.strerror(step))
        return step, None


class Connection:
    """A connection that knows whether it was closed."""

    closed = False

    def fileno(self):
        return -1

    def close(self):
        self.closed = True


class Scripted:
    """A started acceptor, and all that it reports."""

    def __init__(self, kind, *script, serve=None):
        self.reactor = ReactorClock()
        self.sock = ScriptedSocket(*script)
        self.served, self.failed, self.gone = [], [], []
        self.acceptor = kind(
            self.reactor,
            self.sock,
            lambda connection, sockaddr: (serve or self.served.append)(connection.getHandle()),
            lambda error: self.failed.append(error.errno),
            lambda error: self.gone.append(error.errno),
        )
        self.acceptor.resume()

    @property
    def watching(self):
        """True if the reactor watches the socket."""
        return self.acceptor in self.reactor.readers
