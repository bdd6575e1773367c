"""Tests of a service, in memory and on loopback: trial ./test_with_trial.py

Import your own protocol instead of `Shout`.
"""

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.basic import LineReceiver
from twisted.trial.unittest import SynchronousTestCase, TestCase

from netsrv.testing import LoopbackServer, MemoryServer


class Shout(LineReceiver):
    """Sends each line back in capitals."""

    def lineReceived(self, line: bytes) -> None:
        self.sendLine(line.upper())


class Listening(Protocol):
    """A client that waits for a number of bytes."""

    def __init__(self, size: int) -> None:
        self.got = b""
        self.size = size
        self.complete: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.got += data
        if len(self.got) >= self.size and not self.complete.called:
            self.complete.callback(self.got)


class ShoutTests(SynchronousTestCase):
    """In memory: no reactor and no port; an hour passes in no time."""

    def test_a_line(self) -> None:
        """Lines come back, also two that arrive together."""
        client = MemoryServer(Factory.forProtocol(Shout)).connect()
        client.send(b"one\r\ntwo\r\n")
        self.assertEqual(client.received, b"ONE\r\nTWO\r\n")

    def test_an_idle_peer_is_closed(self) -> None:
        """A peer that sends nothing for an hour is closed."""
        server = MemoryServer(Factory.forProtocol(Shout), idle_timeout=3600)
        client = server.connect(("192.0.2.55", 4000))
        server.advance(3599)
        self.assertIsNone(client.close_kind)
        server.advance(2)
        self.assertEqual(client.close_kind, "closed")
        self.assertEqual(server.counts.closed, {"idle_timeout": 1})

    def test_one_address_has_two_connections(self) -> None:
        """The third connection is closed; another address can still connect."""
        server = MemoryServer(Factory.forProtocol(Shout), per_source=2)
        peers = [("192.0.2.55", 4000 + number) for number in range(3)]
        clients = [server.connect(peer) for peer in [*peers, ("192.0.2.56", 4000)]]
        self.assertEqual([client.close_kind for client in clients], [None, None, "closed", None])


class ShoutOnLoopbackTests(TestCase):
    """On loopback: with a port, in trial's reactor."""

    timeout = 20

    async def test_a_line(self) -> None:
        """A line comes back, and the reactor is clean at the end."""
        async with LoopbackServer(reactor, Factory.forProtocol(Shout)) as server:
            client = await server.connect(Listening(5))
            await server.wait_for_connections(1)
            assert client.transport is not None
            client.transport.write(b"one\r\n")
            self.assertEqual(await client.complete, b"ONE\r\n")
