"""Tests of a service, in memory and on loopback: trial ./test_with_trial.py

`Shout` stands for a protocol of your own; in a test of yours it is imported.
"""

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.basic import LineReceiver
from twisted.trial.unittest import SynchronousTestCase, TestCase

from netsrv.testing import LoopbackServer, MemoryServer


class Shout(LineReceiver):
    """Says each line again, in capitals."""

    def lineReceived(self, line: bytes) -> None:
        self.sendLine(line.upper())


class Listening(Protocol):
    """A client that waits for so many bytes."""

    def __init__(self, wanted: int) -> None:
        self.got = b""
        self.wanted = wanted
        self.complete: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.got += data
        if len(self.got) >= self.wanted and not self.complete.called:
            self.complete.callback(self.got)


class ShoutTests(SynchronousTestCase):
    """In memory: no reactor, no port, and an hour goes by at once."""

    def test_a_line(self) -> None:
        """A line comes back, and lines in one piece do too."""
        client = MemoryServer(Factory.forProtocol(Shout)).connect()
        client.send(b"one\r\ntwo\r\n")
        self.assertEqual(client.received, b"ONE\r\nTWO\r\n")

    def test_who_says_nothing_has_to_go(self) -> None:
        """After an hour."""
        server = MemoryServer(Factory.forProtocol(Shout), idle_timeout=3600)
        client = server.connect(("192.0.2.55", 4000))
        server.advance(3599)
        self.assertIsNone(client.ended)
        server.advance(2)
        self.assertEqual(client.ended, "closed")
        self.assertEqual(server.counts.closed, {"idle_timeout": 1})

    def test_two_from_one_address_are_enough(self) -> None:
        """The third is closed, and somebody else comes in."""
        server = MemoryServer(Factory.forProtocol(Shout), per_source=2)
        peers = [("192.0.2.55", 4000 + number) for number in range(3)]
        clients = [server.connect(each) for each in [*peers, ("192.0.2.56", 4000)]]
        self.assertEqual([each.ended for each in clients], [None, None, "closed", None])


class ShoutOnLoopbackTests(TestCase):
    """On loopback: with a port, in the reactor that trial runs."""

    timeout = 20

    async def test_a_line(self) -> None:
        """A line comes back; at the end nothing is left in the reactor."""
        async with LoopbackServer(reactor, Factory.forProtocol(Shout)) as server:
            client = await server.connect(Listening(5))
            await server.wait_for_connections(1)
            assert client.transport is not None
            client.transport.write(b"one\r\n")
            self.assertEqual(await client.complete, b"ONE\r\n")
