"""forward with faults, limits and ends that come in the middle of its connections.

On the uvloop reactor, bytes pass without a call of the service; nothing else may differ.
"""

import json
import random
import socket
import threading
from contextlib import ExitStack, closing

import pytest
import pytest_twisted
from twisted.internet import reactor

from netsrv.config.fault_reading import read_fault
from netsrv.config.keywords import listener
from netsrv.server.server import Server
from netsrv.services.forward import ForwardSettings
from tests.clients import connect, read_all, talk
from tests.reactor import until
from tests.timeouts import CLIENT_TIMEOUT


@pytest.fixture
def front(serve, started):
    """Start an echo server, and one that forwards to it: ``front(**keywords)``."""

    def start(**keywords):
        host, port = serve("tcp echo=127.0.0.1:0").sockets[0].sock.getsockname()
        own = ForwardSettings(f"{host}:{port}")
        return started(
            Server(reactor, listener("tcp", "127.0.0.1:0", "forward", settings=own, **keywords))
        )

    return start


def exchange(sock, data):
    """Send bytes, and return what comes back, as many."""
    sock.sendall(data)
    received = b""
    while len(received) < len(data) and (chunk := sock.recv(1 << 20)):
        received += chunk
    return received


@pytest_twisted.ensureDeferred
async def test_a_fault_hits_a_connection_in_the_middle(front, client):
    """And the connection is as before when the fault is removed; both directions have theirs."""
    server = front()
    faults = server.listeners[0].faults
    sock = await client(connect, server.sockets[0])
    with closing(sock):
        for _ in range(3):
            assert await client(exchange, sock, b"before") == b"before"
        for stream in ("upstream", "downstream"):
            fault = {"type": "corrupt", "offset": 0, "bytes": 1, "stream": stream, "seed": 1}
            faults.add(read_fault(fault).settings(True))
            damaged = await client(exchange, sock, b"during")
            assert (damaged[1:], damaged != b"during") == (b"uring", True)
            faults.remove(f"corrupt_{stream}")
            for _ in range(2):
                assert await client(exchange, sock, b"after") == b"after"


@pytest_twisted.ensureDeferred
async def test_bytes_are_counted_in_the_middle(front, client):
    """Those of live connections too."""
    server = front()
    sock = await client(connect, server.sockets[0])
    with closing(sock):
        for _ in range(5):
            await client(exchange, sock, b"x" * 1000)
        [connection] = server.listeners[0].gate.connections
        assert (connection.received, connection.sent) == (5000, 5000)


@pytest_twisted.ensureDeferred
async def test_an_idle_connection_is_closed(front, client):
    """Both sides are, once no byte has moved for the time."""
    server = front(idle_timeout=1)
    sock = await client(connect, server.sockets[0])
    with closing(sock):
        await client(exchange, sock, b"x")
        await client(exchange, sock, b"y")
        assert await client(sock.recv, 1) == b""
    await until(lambda: not server.connections)
    assert server.counters.listeners[server.listeners[0].listener_info].closed["idle_timeout"] == 1


@pytest_twisted.ensureDeferred
async def test_an_end_of_input_in_the_middle_passes_on_alone(started, client):
    """After it, the other direction goes on; neither loses a byte."""
    with closing(socket.create_server(("127.0.0.1", 0))) as upstream:
        own = ForwardSettings(f"127.0.0.1:{upstream.getsockname()[1]}")
        server = started(Server(reactor, listener("tcp", "127.0.0.1:0", "forward", settings=own)))
        much = random.Random(1).randbytes(3_000_000)

        def run():
            for first_ends in (True, False):
                sock = connect(server.sockets[0])
                other, _ = upstream.accept()
                other.settimeout(CLIENT_TIMEOUT)
                for one, two in ((sock, other), (other, sock)) * 2:
                    one.sendall(b"there")
                    assert two.recv(100) == b"there"
                ending, going_on = (sock, other) if first_ends else (other, sock)
                ending.shutdown(socket.SHUT_WR)
                assert going_on.recv(1) == b""
                sender = threading.Thread(target=lambda to=going_on: (to.sendall(much), to.close()))
                sender.start()
                assert read_all(ending) == much
                sender.join(CLIENT_TIMEOUT)
                ending.close()

        await client(run)
        await until(lambda: not server.connections)


@pytest_twisted.ensureDeferred
async def test_every_byte_of_many_connections_comes_back(front, client):
    """In chunks of all sizes, all at once."""
    server = front()
    numbers = random.Random(7)
    data = [numbers.randbytes(numbers.choice((1, 100, 20_000, 300_000))) for _ in range(60)]

    def run():
        received = [b""] * len(data)

        def visit(number):
            received[number] = talk(connect(server.sockets[0]), data[number])

        threads = [threading.Thread(target=visit, args=(number,)) for number in range(len(data))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(CLIENT_TIMEOUT)
        return received

    assert await client(run) == data


@pytest_twisted.ensureDeferred
async def test_an_upstream_that_never_answers_delays_no_other(front, started, client):
    """Its client waits for the time limit; others are served meanwhile."""
    with ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        own = ForwardSettings(f"127.0.0.1:{full.getsockname()[1]}", connect_timeout=3)
        hanging = started(Server(reactor, listener("tcp", "127.0.0.1:0", "forward", settings=own)))
        other = front()
        waiting = client(lambda: talk(connect(hanging.sockets[0]), b"never"))
        await hanging.wait_for_connections(lambda count: count == 1)
        assert await client(lambda: talk(connect(other.sockets[0]), b"now")) == b"now"
        assert hanging.connections == 1
        assert await waiting == b""
        assert dict(hanging.listeners[0].service.connect_errors) == {"timeout": 1}


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest_twisted.ensureDeferred
async def test_the_upstream_gets_the_clients_address(started, client, transport, version):
    """By a header of the PROXY protocol; a listener of ours that takes it shows the client."""
    proxied = {"proxy_protocol_from": ["127.0.0.0/8"]}
    info = started(Server(reactor, listener(transport, "127.0.0.1:0", "info", **proxied)))
    host, port = info.sockets[0].sock.getsockname()
    own = ForwardSettings(f"{host}:{port}", send_proxy=version)
    front = started(Server(reactor, listener(transport, "127.0.0.1:0", "forward", settings=own)))
    kind = socket.SOCK_STREAM if transport == "tcp" else socket.SOCK_DGRAM

    def ask():
        with closing(socket.socket(socket.AF_INET, kind)) as sock:
            sock.settimeout(CLIENT_TIMEOUT)
            sock.connect(front.sockets[0].sock.getsockname())
            sock.send(b"x" * 500)
            return sock.getsockname(), json.loads(sock.recv(65535))

    (address, port), answer = await client(ask)
    assert answer["peer"] == f"{address}:{port}"


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest_twisted.ensureDeferred
async def test_a_listener_that_is_down_keeps_its_port_whatever_happens(started, client, transport):
    """Its service changes meanwhile; when it comes up, it serves on the same port."""
    server = started(Server(reactor, listener(transport, "127.0.0.1:0", "echo")))
    running = server.listeners[0]
    address = server.sockets[0].sock.getsockname()
    kind = socket.SOCK_STREAM if transport == "tcp" else socket.SOCK_DGRAM

    def ask():
        with closing(socket.socket(socket.AF_INET, kind)) as sock:
            sock.settimeout(CLIENT_TIMEOUT)
            sock.connect(address)
            sock.send(b"hello")
            return sock.recv(100)

    assert await client(ask) == b"hello"
    running.faults.add(read_fault({"type": "down", "name": "d"}).settings(transport == "tcp"))
    with pytest.raises(ConnectionRefusedError):
        await client(ask)
    running.update(listener(transport, "127.0.0.1:0", "daytime"))
    with pytest.raises(ConnectionRefusedError):
        await client(ask)
    running.faults.remove("d")
    assert (await client(ask)).endswith(b"\r\n")
    assert server.sockets[0].sock.getsockname() == address
