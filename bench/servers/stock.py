"""Twisted alone, on epoll.

As in netsrv, a protocol stops reading from a peer that does not read.
"""

import socket
import sys

from twisted.internet import epollreactor

epollreactor.install()

from twisted.internet import reactor  # noqa: E402
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol  # noqa: E402

from bench.servers import CHUNK, GREETING, RECEIVE_BUFFER, announce  # noqa: E402


class Accept(Protocol):
    """Closes at once."""

    def connectionMade(self) -> None:
        self.transport.loseConnection()


class Daytime(Protocol):
    """Writes a line and closes."""

    def connectionMade(self) -> None:
        self.transport.write(GREETING)
        self.transport.loseConnection()


class Echo(Protocol):
    """Sends everything back."""

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self.transport, True)

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)

    def connectionLost(self, reason: object = None) -> None:
        self.transport.unregisterProducer()


class Chargen(Protocol):
    """Writes as fast as the peer reads."""

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        self.transport.write(CHUNK)

    def stopProducing(self) -> None:
        """The peer is gone."""


class EchoDatagrams(DatagramProtocol):
    """Sends each datagram back."""

    noisy = False

    def startProtocol(self) -> None:
        handle = self.transport.getHandle()
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.transport.write(datagram, addr)


STREAMS = {
    "accept": Accept,
    "daytime": Daytime,
    "echo": Echo,
    "chargen": Chargen,
    "discard": Protocol,
}


def main(work: str, host: str) -> None:
    """Serve until a signal comes."""
    if work == "udp":
        port = reactor.listenUDP(0, EchoDatagrams(), interface=host)
    else:
        factory = Factory.forProtocol(STREAMS[work])
        factory.noisy = False
        port = reactor.listenTCP(0, factory, backlog=1024, interface=host)
    address = port.getHost()
    announce((address.host, address.port), work == "udp", "Twisted on epoll")
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
