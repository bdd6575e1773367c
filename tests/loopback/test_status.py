"""The status of a server in a program: with threads, and with the program's own registry."""

import json

import pytest_twisted
from prometheus_client import CollectorRegistry, generate_latest
from twisted.internet import reactor

from netsrv.cli.fetching import fetch, parse_target
from netsrv.config import Configuration, listener
from netsrv.config.status import StatusSettings
from netsrv.server.server import Server
from netsrv.sockets.addresses import InternetAddress
from netsrv.status import ServerCollector
from tests.clients import exchange, tcp
from tests.timeouts import CLIENT_TIMEOUT


@pytest_twisted.ensureDeferred
async def test_a_program_has_a_status_server_of_its_own(started, client):
    """It answers while the reactor runs, and leaves nothing in it."""
    settings = StatusSettings(address=InternetAddress("127.0.0.1", 0))
    echo = listener("tcp", "127.0.0.1:0", "echo")
    server = started(Server(reactor, Configuration((echo,), status=settings)))
    target = parse_target(server.status.urls["status"])
    answer = await client(fetch, target, "/status.json", "", CLIENT_TIMEOUT)
    assert [row["state"] for row in json.loads(answer.body)["listeners"]] == ["serving"]
    await server.stopService()
    assert server.status.urls == {}


@pytest_twisted.ensureDeferred
async def test_a_thread_may_scrape_the_registry_of_a_program(started, client):
    """The values are read in the reactor's thread."""
    server = started(Server(reactor, listener("tcp", "127.0.0.1:0", "echo")))
    registry = CollectorRegistry()
    registry.register(ServerCollector(server))
    with await client(tcp, server.listeners[0].port) as sock:
        await client(exchange, sock, b"hello")
        text = (await client(generate_latest, registry)).decode()
    name = server.listeners[0].name
    assert f'netsrv_received_bytes_total{{listener="{name}"}} 5.0\n' in text
