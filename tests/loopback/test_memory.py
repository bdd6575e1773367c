"""MemoryServer behaves like LoopbackServer: the same steps cause the same events."""

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from netsrv.testing.servers import LoopbackServer, MemoryServer
from tests.doubles import HalfCloseableRecorder, RecorderFactory
from tests.reactor import until
from tests.timeouts import TIMEOUT


def by_client(name, *arguments):
    """Return a step of the client."""
    return lambda client, service: getattr(client.transport, name)(*arguments)


def by_service(name, *arguments):
    """Return a step of the service."""
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
    "data for a closed socket": [CLOSE, ANSWER, ANSWER],
    "data after a close is not read": [ANSWER, SERVICE_CLOSES, ASK, CLOSE],
}


def in_memory(steps):
    """Run the steps; return the events at both ends after each."""
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
    """Return whether nothing waits to be written."""
    connections = server.server.listeners[0].gate.connections
    return not (reactor.getWriters() or any(each.unsent for each in connections))


@pytest.mark.parametrize("way", WAYS)
@pytest_twisted.ensureDeferred
async def test_the_same_happens_on_loopback(way):
    """After each step both ends have the same events in the same order, and close reasons agree."""
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
