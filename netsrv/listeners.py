"""Listeners: a socket, the gate, and a service, put together.

A listener is given its socket, bound and ready, and never asks where it came
from.  The way of a peer is one expression in each class: read `start`.
"""

import socket
from typing import Any, Protocol

from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import DatagramProtocol

from netsrv.gate import Gate
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


class StreamListener:
    """Accepts connections on *sock*, and has *factory* serve them."""

    def __init__(
        self, reactor: Any, sock: socket.socket, gate: Gate, factory: IProtocolFactory
    ) -> None:
        self.gate = gate
        self._reactor = reactor
        self._sock = sock
        self._factory = gate.stream(factory)
        self._loop = AcceptLoop(reactor, sock, self._serve, self._failed, self._gone)

    def start(self) -> None:
        """Start the factory, and accept."""
        self._factory.doStart()
        self._loop.start()

    def suspend(self) -> None:
        """Accept nobody; newcomers wait in the backlog."""
        self._loop.stop()

    def resume(self) -> None:
        """Accept again."""
        self._loop.start()

    def finish(self) -> None:
        """Accept those in the backlog, and stop the factory."""
        self._loop.finish()
        try:
            self._factory.doStop()
        except BaseException:
            self.gate.observer.service_failed(self.gate.listener, "stopFactory")

    def _serve(self, connection: socket.socket) -> None:
        """Hand a connection to the reactor, which keeps a descriptor of its own."""
        self._reactor.adoptStreamConnection(connection.fileno(), connection.family, self._factory)
        connection.close()

    def _failed(self, error: OSError) -> None:
        self.gate.observer.accept_failed(self.gate.listener, error)

    def _gone(self, error: OSError) -> None:
        self._sock.close()  # nobody shall wait there in vain
        self.gate.observer.listener_gone(self.gate.listener, error)


class DatagramListener:
    """Receives datagrams on *sock*, and has *protocol* answer them."""

    def __init__(
        self, reactor: Any, sock: socket.socket, gate: Gate, protocol: DatagramProtocol
    ) -> None:
        self.gate = gate
        self._port = DatagramPort(
            reactor, sock, gate.datagrams(protocol), self._dropped, self._raised
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

    def _dropped(self, reason: str) -> None:
        self.gate.observer.datagram_dropped(self.gate.listener, reason)

    def _raised(self) -> None:
        self.gate.observer.service_failed(self.gate.listener, "datagram protocol")
