"""Servers in the running reactor, for tests on loopback."""

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from netsrv.config.command_line import from_command_line
from netsrv.server.server import Server
from tests.timeouts import TIMEOUT


@pytest_twisted.async_yield_fixture
async def started():
    """Start servers, and stop them after the test: ``started(Server(...))`` returns the server."""
    servers = []

    def start(server):
        server.startService()
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.stopService().addTimeout(TIMEOUT, reactor)


@pytest.fixture
def serve(started):
    """Start servers: ``serve("tcp echo=127.0.0.1:0", ...)`` returns a started `Server`."""

    def start(*listeners, shutdown_timeout=8.0, **options):
        pairs = [tuple(each.split(" ", 1)) for each in listeners]
        configuration = from_command_line(pairs, options)
        return started(Server(reactor, evolve(configuration, shutdown_timeout=shutdown_timeout)))

    return start


@pytest.fixture
def client():
    """Run a blocking client beside the reactor: ``await client(function, *arguments)``."""

    def run(function, *arguments) -> Deferred:
        return deferToThread(function, *arguments).addTimeout(TIMEOUT, reactor)

    return run
