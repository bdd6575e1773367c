"""A listener whose socket other processes accept from too."""

import pytest
import pytest_twisted
from twisted.internet import reactor

from netsrv.config.command_line import from_command_line
from netsrv.server.prepare import prepare
from netsrv.server.server import Server
from tests.clients import connect, exchange


class Share:
    """A part that is always ahead, of others that take no connection."""

    def __init__(self):
        self.told = []

    def is_ahead(self, connections):
        self.told.append(connections)
        return connections > 0

    def waits_in_vain(self):
        return True

    def leave(self):
        self.told.append("left")


def serve_some(opened, count):
    """Open connections, one after the other, each of which waits for its answer."""
    connections = [connect(opened) for _ in range(count)]
    for connection in connections:
        with connection:
            assert exchange(connection, b"x") == b"x"


@pytest.mark.parametrize("address", ["tcp echo=127.0.0.1:0", "unix echo={}/echo.sock"])
@pytest_twisted.ensureDeferred
async def test_connections_that_others_leave_waiting_are_served(address, started, client, tmp_path):
    """The process is ahead of the others, which are stopped, and looks for connections."""
    share = Share()
    transport, _, words = address.format(tmp_path).partition(" ")
    configuration = from_command_line([(transport, words)], {})
    prepared = prepare(configuration)
    prepared.listeners[0].socket.share = share
    server = started(Server(reactor, configuration, prepared))
    await client(serve_some, server.sockets[0], 20)
    assert max(told for told in share.told if told != "left") >= 1
    server.suspend()
    assert share.told[-1] == "left"
    server.resume()
    await client(serve_some, server.sockets[0], 2)
