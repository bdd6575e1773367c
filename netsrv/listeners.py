"""Listeners: a socket, the gate, and a service, put together.

A listener is given its socket, bound and ready, and never asks where it came
from.  The way of a peer is put together in each class's `__init__`.
"""

import socket
import struct
from typing import Any, Protocol

from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import DatagramProtocol

from netsrv.addresses import show_credentials
from netsrv.gate import Gate
from netsrv.guards.datagrams import DatagramGuard
from netsrv.interfaces import Refusal
from netsrv.limits import Overload
from netsrv.transports.accept import AcceptLoop
from netsrv.transports.datagrams import DatagramPort


class Listener(Protocol):
    """What the server asks of a listener, whatever it listens for."""

    gate: Gate

    def start(self) -> None:
        """Serve from now on."""

    def suspend(self) -> None:
        """Take nothing in; the socket stays bound, and peers wait in the kernel."""

    def resume(self) -> None:
        """Serve again, those who waited first."""

    def finish(self) -> None:
        """Take in who waits by now, and then nobody any more.  Live connections go on."""

    def release(self) -> None:
        """Leave the socket, and who waits there, to another listener."""


class StreamListener:
    """Accepts connections on *sock*, and has *factory* serve them."""

    def __init__(
        self,
        reactor: Any,
        sock: socket.socket,
        gate: Gate,
        factory: IProtocolFactory,
        overload: Overload = Overload.PAUSE,
    ) -> None:
        self.gate = gate
        self._reactor = reactor
        self._sock = sock
        self._factory = gate.stream(factory)
        self._loop = AcceptLoop(
            reactor, sock, self._serve, self._failed, self._gone, self._may_accept
        )
        self._overload = overload
        self._open = False
        self._next_token: Any = None

    def start(self) -> None:
        """Start the factory, and accept."""
        self._factory.doStart()
        self.resume()

    def suspend(self) -> None:
        """Accept nobody; newcomers wait in the backlog."""
        self._open = False
        self._loop.stop()
        self._stop_waiting()

    def resume(self) -> None:
        """Accept again."""
        self._open = True
        self._loop.start()

    def finish(self) -> None:
        """Accept those in the backlog for whom there is a place, and stop the factory."""
        self._loop.finish()
        self.release()

    def release(self) -> None:
        """Accept nobody, and stop the factory."""
        self.suspend()
        try:
            self._factory.doStop()
        except BaseException:
            self.gate.observer.service_failed(self.gate.listener, "stopFactory")

    def _serve(self, connection: socket.socket, sockaddr: Any) -> None:
        """Hand an admitted connection to the reactor, which keeps a descriptor of its own."""
        if connection.family == socket.AF_UNIX:
            sockaddr = show_credentials(connection)
        if self.gate.admit(sockaddr) is not None:
            self._turn_away(connection)
            return
        try:
            self._reactor.adoptStreamConnection(
                connection.fileno(), connection.family, self._factory
            )
        finally:
            self.gate.withdraw()
        connection.close()

    def _turn_away(self, connection: socket.socket) -> None:
        """Close a connection that is not served, or reset it."""
        if self._overload is Overload.RESET:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    def _may_accept(self) -> bool:
        """Whether there is a place for whoever comes; if not, and we pause, wait for one."""
        if self._overload is not Overload.PAUSE:
            return True
        admission = self.gate.admission
        if admission.full:
            for each in admission.places:
                if each.full:
                    each.when_left(self._place_left)
            return self._pause(Refusal.MAX_CONNECTIONS)
        wait = admission.wait(self.gate.now())
        if wait:
            self._next_token = self._reactor.callLater(wait, self._place_left)
            return self._pause(Refusal.CONNECTION_RATE)
        return True

    def _pause(self, reason: Refusal) -> bool:
        self._loop.stop()
        self.gate.observer.suspended(self.gate.listener, reason)
        return False

    def _place_left(self) -> None:
        self._stop_waiting()
        if self._open:
            self.gate.observer.resumed(self.gate.listener)
            self._loop.start()

    def _stop_waiting(self) -> None:
        if self._next_token is not None and self._next_token.active():
            self._next_token.cancel()
        self._next_token = None

    def _failed(self, error: OSError) -> None:
        self.gate.observer.accept_failed(self.gate.listener, error)

    def _gone(self, error: OSError) -> None:
        self._sock.close()  # nobody shall wait there in vain
        self.gate.observer.listener_gone(self.gate.listener, error)


class DatagramListener:
    """Receives datagrams on *sock*, and has *protocol* answer them."""

    def __init__(
        self,
        reactor: Any,
        sock: socket.socket,
        gate: Gate,
        protocol: DatagramProtocol,
        guard: DatagramGuard,
    ) -> None:
        self.gate = gate
        self._port = DatagramPort(
            reactor, sock, gate.datagrams(protocol, guard), self._dropped, self._raised
        )

    def start(self) -> None:
        """Start the protocol, and receive."""
        self._port.startListening()

    def suspend(self) -> None:
        """Receive nothing; datagrams wait in the socket's buffer while there is room."""
        self._port.suspend()

    def resume(self) -> None:
        """Receive again."""
        self._port.resume()

    def finish(self) -> None:
        """Receive one last batch, and stop the protocol."""
        self._port.doRead()
        self._port.stopListening()

    def release(self) -> None:
        """Receive nothing, and stop the protocol."""
        self._port.release()

    def _dropped(self, reason: str) -> None:
        self.gate.observer.datagram_dropped(self.gate.listener, reason)

    def _raised(self) -> None:
        self.gate.observer.service_failed(self.gate.listener, "datagram protocol")
