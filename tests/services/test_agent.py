"""agent: the line for HAProxy's agent-check."""

import pytest
from attrs import frozen
from twisted.internet.testing import StringTransport

from netsrv.services.agent import AgentFactory
from netsrv.testing.servers import MemoryServer


@frozen
class Status:
    """What a server says of itself."""

    ready: bool
    free_share: float


@pytest.mark.parametrize(
    ("ready", "free_share", "line"),
    [
        (True, 1.0, b"ready up 100%\n"),
        (True, 0.504, b"ready up 50%\n"),
        (True, 0.01, b"ready up 1%\n"),
        (True, 0.0, b"ready up 1%\n"),
        (False, 1.0, b"drain\n"),
    ],
)
def test_the_line_has_haproxys_words(ready, free_share, line):
    """A full server keeps a weight, so that HAProxy does not turn clients away."""
    factory = AgentFactory()
    factory.server = Status(ready, free_share)
    protocol, transport = factory.buildProtocol(None), StringTransport()
    protocol.makeConnection(transport)
    assert (transport.value(), transport.disconnecting) == (line, True)


def test_a_peer_is_told_drain_from_the_first_moment_of_the_end():
    """What HAProxy may send first (agent-send) changes nothing."""
    server = MemoryServer("agent")
    assert server.connect().received == b"ready up 100%\n"
    server.drain(8, delay=5)
    client = server.connect(keep_open=True)
    client.send(b"a\n")
    assert client.received == b"drain\n"
    server.advance(20)
