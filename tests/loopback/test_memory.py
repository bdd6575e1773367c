"""What happens in memory happens on loopback: the same steps, told to both ends alike."""

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from netsrv.testing.servers import LoopbackServer, MemoryServer
from tests.loopback.clients import PATIENCE, until
from tests.testing.test_servers import Recorder, Recording


def by_client(name, *arguments):
    """A step of the client."""
    return lambda client, service: getattr(client.transport, name)(*arguments)


def by_service(name, *arguments):
    """A step of the service."""
    return lambda client, service: getattr(service.transport, name)(*arguments)


ASK = by_client("write", b"question")
ANSWER = by_service("write", b"answer")
END = by_client("loseWriteConnection")
CLOSE = by_client("loseConnection")
SERVICE_CLOSES = by_service("loseConnection")

WAYS = {
    "asked and answered": [ASK, ANSWER, END, SERVICE_CLOSES],
    "the client closes": [ASK, ANSWER, CLOSE, SERVICE_CLOSES],
    "the client resets": [ASK, by_client("abortConnection")],
    "the service closes": [ASK, ANSWER, SERVICE_CLOSES, CLOSE],
    "the service closes at once": [SERVICE_CLOSES, CLOSE],
    "the service aborts": [ANSWER, by_service("abortConnection")],
    "the service ends first": [by_service("loseWriteConnection"), ASK, END, SERVICE_CLOSES],
    "what is written to one who is gone": [CLOSE, ANSWER, ANSWER],
    "who is closing hears no more": [ANSWER, SERVICE_CLOSES, ASK, CLOSE],
}


def in_memory(steps):
    """Take the steps; give what both ends were told after each."""
    factory = Recording()
    server = MemoryServer(factory)
    client = server.connect_protocol(Recorder())
    told = []
    for step in steps:
        step(client, factory.made[0])
        server.settle()
        told.append((list(client.told), list(factory.made[0].told)))
    told.append(dict(server.counts.closed))
    return told


def sent(server) -> bool:
    """Whether nothing waits to be written."""
    connections = server.server.posts[0].gate.connections
    return not (reactor.getWriters() or any(each.unsent for each in connections))


@pytest.mark.parametrize("way", WAYS)
@pytest_twisted.ensureDeferred
async def test_the_same_happens_on_loopback(way):
    """After each step both ends were told the same, in the same order, and the end counts alike."""
    *expected, closed = in_memory(WAYS[way])
    factory = Recording()
    async with LoopbackServer(reactor, factory) as server:
        client = await server.connect(Recorder())
        await server.wait_for_connections(1)
        for step, told in zip(WAYS[way], expected, strict=True):
            step(client, factory.made[0])
            same = until(
                lambda told=told: (client.told, factory.made[0].told) == told and sent(server)
            )
            await Deferred.fromCoroutine(same).addTimeout(PATIENCE, reactor)
        assert dict(server.counts.closed) == closed
