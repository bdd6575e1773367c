"""Scripts, handlers, restarts and asynchronous waits with real server processes."""

import asyncio
import socket

import pytest
import trio

from netsrv.fixture import close, expect, reply, script, start_server
from netsrv.fixture.process import servers
from tests.clients import exchange, read_all
from tests.timeouts import CLIENT_TIMEOUT, TIMEOUT

pytestmark = [
    pytest.mark.version_independent,
    # The reactor of these tests has its own handling of signals.
    pytest.mark.filterwarnings("ignore:It looks like Trio's signal handling code"),
]


async def divide(reader, writer):
    """Answer a number with 60 divided by it."""
    while line := await reader.readline():
        writer.write(b"%d\n" % (60 // int(line)))
        await writer.drain()
    for _ in range(6):
        await asyncio.sleep(0)
    writer.write(repr(writer.get_extra_info("peername")).encode())
    writer.close()
    await writer.wait_closed()


@pytest.fixture(scope="module")
def shared():
    """Start one server for these tests: a script, then a handler, then a service."""
    steps = [expect(b"PING\n"), reply(b"PONG\n"), close()]
    with start_server(script(steps, divide, "echo"), journal_size=5) as server:
        yield server


@pytest.fixture
def server(shared):
    """Return the server without records, at the first part of its script."""
    shared.clear()
    return shared


def connect(server):
    """Connect to a server."""
    return socket.create_connection(server.address, CLIENT_TIMEOUT)


def test_each_connection_has_its_part(server):
    """Steps, a handler and a service in this order, and again after clear()."""
    for _ in range(2):
        with connect(server) as client:
            client.sendall(b"PING\n")
            assert read_all(client) == b"PONG\n"
        with connect(server) as client:
            assert exchange(client, b"7\n") == b"8\n"
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == repr(client.getsockname()).encode()
        for _ in range(2):
            with connect(server) as client:
                assert exchange(client, b"hello") == b"hello"
        assert server.received == [b"PING\n", b"7\n", b"hello", b"hello"]
        reasons = [connection.close_reason for connection in server.connections]
        assert reasons == ["service", "peer", "peer", "peer"]
        assert (server.errors, server.dropped) == ([], 0)
        server.clear()
        assert (server.received, server.connections) == ([], [])


def test_a_handler_has_ended_when_its_connection_is_asked_for(server):
    """The answer comes after the handler has seen the client's end and closed."""
    with connect(server):
        pass
    for _ in range(5):
        with connect(server) as client:
            assert exchange(client, b"7\n") == b"8\n"
        assert server.connections[-1].close_reason == "peer"
        assert server.received[-1] == b"7\n"
        server.clear()
        with connect(server):
            server.wait_for_connections(1)


def test_errors_are_recorded(server):
    """A mismatch and an exception are in `errors` and in the log, and close the connection."""
    with connect(server) as client:
        client.sendall(b"PONG\n")
        assert read_all(client) == b""
        port = client.getsockname()[1]
    with connect(server) as client:
        client.sendall(b"0\n")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    mismatch = f"script: connection 1 from 127.0.0.1:{port}, step 1: expected b'PING\\n', got"
    assert server.errors == [
        f"{mismatch} b'PONG\\n'",
        "script: ZeroDivisionError: integer division or modulo by zero",
    ]
    assert f"{mismatch} b'PONG\\n'\n" in server.log
    assert "60 // int(line)" in server.log
    assert server.connections[1].close_reason == "service_failed"


def test_the_journal_and_the_counts(server):
    """The last connections are kept; waits count all of them since clear()."""
    for number in range(7):
        with connect(server) as client:
            client.sendall(b"%d" % number)
    server.wait_for_connections(7)
    with pytest.raises(TimeoutError, match="accepted 7 of 8 connections"):
        server.wait_for_connections(8, timeout=0.01)
    assert server.received == [b"2", b"3", b"4", b"5", b"6"]
    assert (server.dropped, server.truncated) == (2, True)


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_asynchronous_waits(library, server):
    """The loop runs while a task waits; too few connections are a TimeoutError."""
    turns = []

    async def connect_later(sleep):
        await sleep(0.01)
        turns.append(True)
        with connect(server):
            pass

    async def in_asyncio():
        task = asyncio.create_task(connect_later(asyncio.sleep))
        await server.async_wait_for_connections(1, TIMEOUT)
        await task
        with pytest.raises(TimeoutError, match="accepted 1 of 2 connections"):
            await server.async_wait_for_connections(2, timeout=0.01)
        with pytest.raises(ValueError, match="no datagrams on tcp"):
            await server.async_wait_for_datagrams(1)

    async def in_trio():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connect_later, trio.sleep)
            await server.async_wait_for_connections(1, TIMEOUT)
        with pytest.raises(TimeoutError, match="accepted 1 of 2 connections"):
            await server.async_wait_for_connections(2, timeout=0.01)

    if library == "asyncio":
        asyncio.run(in_asyncio())
    else:
        trio.run(in_trio)
    assert turns == [True]


# A server that goes away


def test_a_restart_keeps_the_addresses(netsrv_server):
    """Between stop() and start() clients are refused; then all listeners are where they were."""
    server = netsrv_server(config="[[listener]]\nservice = 'echo'\n[[listener]]\nudp = 'HOST:0'"
                           .replace("HOST", "127.0.0.1"))  # fmt: skip
    listeners, addresses = server.listeners, [listener.address for listener in server.listeners]
    with connect(server) as client:
        assert exchange(client, b"one") == b"one"
        server.stop()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert server.received == [b"one"]
    with pytest.raises(ConnectionRefusedError):
        connect(server)
    server.start()
    assert [listener.address for listener in server.listeners] == addresses
    assert (server.received, server.connections, server.errors) == ([], [], [])
    with connect(server) as client:
        assert exchange(client, b"two") == b"two"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(addresses[1])
        assert exchange(client, b"three") == b"three"
    server.wait_for_connections(1)
    assert [listener.received for listener in listeners] == [[b"two"], [b"three"]]
    assert server.log.count("Waiting for connections on") == 2
    assert server.log.count("Got connection from") == 2


def test_a_restart_ends_a_wait_at_once(netsrv_server):
    """The error has the status of the process that was asked, and its log."""
    server = netsrv_server("echo")

    async def restart():
        waiting = asyncio.create_task(server.async_wait_for_connections(5, TIMEOUT))
        await asyncio.sleep(0)  # the question is sent
        server.restart()
        with pytest.raises(Exception, match=r"while it was needed \(exit status -?\d+\)"):
            await waiting

    asyncio.run(restart())
    with connect(server) as client:
        assert exchange(client, b"again") == b"again"


def test_a_script_at_an_address_of_udp(netsrv_server):
    """Its steps are those of datagrams, as with transport="udp"."""
    server = netsrv_server.script(reply(b"pong"), udp="127.0.0.1:0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(CLIENT_TIMEOUT)
        client.connect(server.address)
        assert exchange(client, b"ping") == b"pong"
    with pytest.raises(Exception, match=r"close\(\)"):
        netsrv_server.script(reply(b"x"), close(), udp="127.0.0.1:0")


def test_a_restart_of_a_unix_socket(netsrv_server):
    """The path is the same, and start() of a server that runs is an error."""
    server = netsrv_server("echo", transport="unix")
    address = server.address
    with pytest.raises(Exception, match=r"^echo: is running; stop\(\) comes before start\(\)$"):
        server.start()
    server.restart()
    assert server.address == address
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address)
        assert exchange(client, b"hello") == b"hello"


def test_a_restart_where_the_port_is_taken(netsrv_server):
    """The error has the address; the server stays stopped, and can be started later."""
    server = netsrv_server(divide)
    with connect(server) as client:
        assert exchange(client, b"7\n") == b"8\n"
        server.stop()
    assert "Exception" not in server.log
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(server.address)
        taken.listen()
        with pytest.raises(Exception, match=f"^netsrv_server: tcp 127.0.0.1:{server.port}: Addr"):
            server.start()
    assert server.stopped
    assert server in servers  # a report of a failure has its log
    server.start()
    with connect(server) as client:
        assert exchange(client, b"6\n") == b"10\n"
