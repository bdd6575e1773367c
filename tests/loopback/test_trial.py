"""A server in a trial test case: it runs under ``trial`` and under pytest alike."""

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import TestCase

from netsrv.config.command_line import from_command_line
from netsrv.server.server import Server
from netsrv.testing.servers import LoopbackServer


class Client(Protocol):
    """Sends hello, half-closes, and collects the answer."""

    def __init__(self) -> None:
        self.got = b""
        self.ended: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        self.transport.write(b"hello")
        self.transport.loseWriteConnection()

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: object) -> None:
        self.ended.callback(self.got)


class EchoTests(TestCase):
    """A server in trial's reactor, which trial checks after each test."""

    timeout = 20

    async def test_echo(self):
        """A server starts, answers, and leaves nothing in the reactor."""
        server = Server(reactor, from_command_line([("tcp", "echo=127.0.0.1:0")]))
        server.startService()
        self.addCleanup(server.stopService)
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", server.sockets[0].port)
        client = await connectProtocol(endpoint, Client())
        self.assertEqual(await client.ended, b"hello")

    async def test_the_server_for_tests(self):
        """`LoopbackServer` does the same in fewer lines, and closes its client."""
        async with LoopbackServer(reactor, "echo") as server:
            client = await server.connect(Client())
            self.assertEqual(await client.ended, b"hello")
            await server.connect(Client())
