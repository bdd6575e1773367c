"""What happens in memory happens on loopback: the same steps, told to both ends alike."""

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from netsrv.testing.servers import LoopbackServer, MemoryServer
from tests.doubles import HalfCloseableRecorder, RecorderFactory
from tests.reactor import until
from tests.timeouts import TIMEOUT


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
    factory = RecorderFactory()
    server = MemoryServer(factory)
    client = server.connect_protocol(HalfCloseableRecorder())
    told = []
    for step in steps:
        step(client, factory.protocols[0])
        server.settle()
        told.append((list(client.events), list(factory.protocols[0].events)))
    told.append(dict(server.counts.closed))
    return told


def sent(server) -> bool:
    """Whether nothing waits to be written."""
    connections = server.server.listeners[0].gate.connections
    return not (reactor.getWriters() or any(each.unsent for each in connections))


@pytest.mark.parametrize("way", WAYS)
@pytest_twisted.ensureDeferred
async def test_the_same_happens_on_loopback(way):
    """After each step both ends were told the same, in the same order, and the end counts alike."""
    *expected, closed = in_memory(WAYS[way])
    factory = RecorderFactory()
    async with LoopbackServer(reactor, factory) as server:
        client = await server.connect(HalfCloseableRecorder())
        await server.wait_for_connections(1)
        for step, told in zip(WAYS[way], expected, strict=True):
            step(client, factory.protocols[0])
            same = until(
                lambda told=told: (
                    (client.events, factory.protocols[0].events) == told and sent(server)
                )
            )
            await Deferred.fromCoroutine(same).addTimeout(TIMEOUT, reactor)
        assert dict(server.counts.closed) == closed
