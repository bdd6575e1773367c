"""A program with an embedded server: a line protocol on TCP, a beacon on UDP.

    python3 embedded.py [TCP-ADDRESS [UDP-ADDRESS]]

The program owns the reactor and the signals.  Control-C ends it, and open connections have
8 seconds to end.
"""

import sys
from typing import Any

from twisted.application.service import MultiService
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.protocols.basic import LineReceiver

from netsrv.server import Server, listener


class Counting(LineReceiver):
    """Answers each line with the number of lines so far, from all peers."""

    factory: Any

    def connectionMade(self) -> None:
        self.sendLine(b"welcome")

    def lineReceived(self, line: bytes) -> None:
        self.factory.lines += 1
        self.sendLine(b"%d" % self.factory.lines)


class CountingFactory(Factory):
    """Creates a protocol for each connection; holds the state that they share."""

    protocol = Counting
    noisy = False

    def __init__(self) -> None:
        self.lines = 0


class Beacon(DatagramProtocol):
    """Answers each datagram with the number of lines so far."""

    noisy = False
    transport: Any

    def __init__(self, counting: CountingFactory) -> None:
        self.counting = counting

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.transport.write(b"%d lines" % self.counting.lines, addr)


def make_server(tcp: str, udp: str) -> Server:
    """Return a server with two listeners, each with its own limits."""
    counting = CountingFactory()
    return Server(
        reactor,
        [
            listener("tcp", tcp, counting, max_connections=100, per_source=10, idle_timeout=300),
            listener("udp", udp, Beacon(counting), only_from=["127.0.0.0/8"], datagram_rate=10),
        ],
    )


def main(tcp: str = "127.0.0.1:7100", udp: str = "127.0.0.1:7100") -> None:
    """Run until a signal arrives."""
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)])
    application = MultiService()
    server = make_server(tcp, udp)
    server.setServiceParent(application)
    application.startService()

    async def end() -> None:
        drained = await server.drain(8)
        print(f"{drained.ended} ended by themselves, {drained.aborted} were aborted")
        await application.stopService()  # now close what connections needed: files, databases

    runner: Any = reactor
    runner.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(end()))
    runner.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
