"""What services may ask about their server, with several listeners: the service agent asks it."""

import pytest_twisted
from twisted.internet import reactor, task
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from netsrv.interfaces import IServerAware
from netsrv.server import Server, listener
from tests.clients import connect, read_all, visit


async def ask(client, opened) -> bytes:
    """Return the line of an agent."""
    return await client(visit, opened)


async def until(condition) -> None:
    """Let the reactor turn until a condition is true."""
    while not condition():
        await task.deferLater(reactor, 0)


@pytest_twisted.ensureDeferred
async def test_the_fullest_listener_counts(serve, client):
    """Its free part is the percentage; the agent's own listener does not count."""
    addresses = ("tcp agent=127.0.0.1:0", "tcp echo=127.0.0.1:0", "tcp discard=127.0.0.1:0")
    server = serve(*addresses, "udp echo=127.0.0.1:0", max_connections=4)
    agent, echo, discard, _ = server.sockets
    assert await ask(client, agent) == b"ready up 100%\n"
    peers = [await client(connect, opened) for opened in (echo, discard, discard, discard)]
    await until(lambda: server.connections == 4)
    assert await ask(client, agent) == b"ready up 25%\n"
    for peer in peers:
        peer.close()
    held = await client(connect, agent)
    await until(lambda: server.connections == 1)
    assert await ask(client, agent) == b"ready up 100%\n"
    held.close()


@pytest_twisted.ensureDeferred
async def test_a_suspended_listener_wants_no_peer(serve, client):
    """The agent says what /readyz says, and says so again when that changes."""
    server = serve("tcp agent=127.0.0.1:0", "tcp echo=127.0.0.1:0")
    agent = server.sockets[0]
    server.listeners[1].suspend()
    assert await ask(client, agent) == b"drain\n"
    server.listeners[1].resume()
    assert await ask(client, agent) == b"ready up 100%\n"


@implementer(IServerAware)
class Asking(Factory):
    """A program's own factory that asks about its server."""

    protocol = Protocol

    def startFactory(self):
        self.ready_at_start = self.server.ready

    def buildProtocol(self, addr):
        peer = Protocol()
        peer.connectionMade = lambda: peer.transport.write(b"%.2f" % self.server.free_share)
        return peer


@pytest_twisted.ensureDeferred
async def test_a_third_partys_service_may_ask_too(started, client):
    """It has its server before it is started, and after a reload."""
    first, second = Asking(), Asking()
    server = started(Server(reactor, [listener("tcp", "127.0.0.1:0", first)]))
    assert first.ready_at_start is False
    running = server.listeners[0]
    running.update(listener("tcp", "127.0.0.1:0", second))
    assert second.ready_at_start is True
    peer = await client(connect, running.socket)
    peer.shutdown(1)
    assert await client(read_all, peer) == b"1.00"
    peer.close()
