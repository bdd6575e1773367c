"""Ports: Twisted's own, whose connections a `NativeAcceptor` accepts."""

import errno
from contextlib import suppress
from typing import Any

from twisted.internet import tcp, unix
from twisted.python.failure import Failure

from netsrv.uvreactor.acceptor import BATCH_SIZE


class TCPPort(tcp.Port):
    """A TCP port whose connections an `IAcceptor` of the reactor accepts."""

    reactor: Any
    _acceptor: Any = None

    def startReading(self) -> None:
        """Accept."""
        if self._acceptor is None:
            self._acceptor = self.reactor.acceptStreams(
                self.socket, self._serve, self._failed, self._gone, lambda: True
            )
            self._acceptor.port = self
        self.reactor.ports.add(self)
        self._acceptor.resume()

    def stopReading(self) -> None:
        """Stop accepting; new connections wait in the backlog."""
        self.reactor.ports.discard(self)
        if self._acceptor is not None:
            self._acceptor.suspend()

    def connectionLost(self, reason: Failure) -> None:
        self.stopReading()
        acceptor, self._acceptor = self._acceptor, None  # it has this socket, not the next one
        if acceptor is not None:
            acceptor.close_pending()
        super().connectionLost(reason)

    def _serve(self, connection: Any, sockaddr: Any) -> None:
        connection.serve(self.factory)

    def _failed(self, error: OSError) -> None:
        self._logger.info("Could not accept new connection ({error})", error=error)
        if error.errno == errno.EMFILE and tcp._reservedFD.available():
            self._close_waiting()

    def _close_waiting(self) -> None:
        """Close the connections that wait, as Twisted does, with the descriptor it reserves."""
        with tcp._reservedFD, suppress(OSError):
            for _ in range(BATCH_SIZE):
                self.socket.accept()[0].close()

    def _gone(self, error: OSError) -> None:
        self._logger.error("{port} cannot accept any more ({error})", port=self, error=error)


class UNIXPort(TCPPort, unix.Port):
    """A port at a unix socket, whose connections are Twisted's own."""
