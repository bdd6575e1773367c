"""What Twisted alone takes for the same work: the services of ``bench.gate`` without netsrv.

The streams flow as ours do: a peer that does not read is not read from.
"""

import sys

from twisted.internet import reactor
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol


class Accept(Protocol):
    """Closes at once."""

    def connectionMade(self) -> None:
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


class EchoDatagrams(DatagramProtocol):
    """Sends each datagram back."""

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.transport.write(datagram, addr)


def main(host: str) -> None:
    """Serve until a signal comes; the lines are those of netsrv."""
    for protocol in (Accept, Echo):
        factory = Factory.forProtocol(protocol)
        factory.noisy = False
        port = reactor.listenTCP(0, factory, backlog=1024, interface=host).getHost().port
        print(f"Waiting for connections on tcp {host}:{port} (bare)")
    datagrams = EchoDatagrams()
    datagrams.noisy = False
    port = reactor.listenUDP(0, datagrams, interface=host).getHost().port
    print(f"Waiting for datagrams on udp {host}:{port} (bare)", flush=True)
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1])
