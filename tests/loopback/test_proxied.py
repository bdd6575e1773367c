"""The PROXY protocol over the kernel's loopback, on TCP, UDP and unix sockets."""

import json
import socket
import threading

import pytest
import pytest_twisted
from twisted.internet import reactor

from netsrv.config.keywords import listener
from netsrv.config.model import Configuration
from netsrv.proxy_protocol import Transport, make_v1, make_v2
from netsrv.server.server import Server
from tests.clients import connect, read_all, udp
from tests.reactor import until

CLIENT, SERVER = ("203.0.113.7", 56324), ("198.51.100.9", 443)
HEADER = make_v2(CLIENT, SERVER, tlvs=[(2, b"a.example")], checked=True)
BOTH = pytest.mark.parametrize("transport", ["tcp", "unix"])


@pytest.fixture
def serve(started, tmp_path):
    """Serve by the PROXY protocol: ``serve("tcp", "echo")`` returns the server."""

    def start(transport, service):
        address = str(tmp_path / "s") if transport == "unix" else "127.0.0.1:0"
        settings = listener(transport, address, service, proxy_protocol_from=["127.0.0.1"])
        return started(Server(reactor, Configuration((settings,))))

    return start


def exchange(opened, header, data):
    """Send a header and data, and FIN; return what comes back."""
    with connect(opened) as sock:
        sender = threading.Thread(target=send_all, args=(sock, header + data))
        sender.start()
        received = read_all(sock)
        sender.join()
        return received


def send_all(sock, data):
    """Send data and FIN, beside a thread that reads."""
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


@BOTH
@pytest_twisted.ensureDeferred
async def test_echo_returns_the_payload(serve, client, transport):
    """All of it in order, with the header in one segment with the first bytes."""
    server = serve(transport, "echo")
    data = bytes(range(256)) * 8_000
    for header in (HEADER, make_v1(CLIENT, SERVER)):
        assert await client(exchange, server.sockets[0], header, data) == data
    counts = server.listeners[0].info()["counts"]
    assert counts["proxy_headers"] == {"2": {"accepted": 1}, "1": {"accepted": 1}}


@BOTH
@pytest_twisted.ensureDeferred
async def test_headers_that_come_before_the_accept(serve, client, transport):
    """Whole ones with and without payload and FIN, and one that is cut: each gets its answer."""
    server = serve(transport, "echo")
    [listener] = server.listeners
    listener.suspend()
    socks = [connect(server.sockets[0]) for _ in range(3)]
    for sock, data in zip(socks, (HEADER + b"whole", HEADER, HEADER[:20]), strict=True):
        sock.sendall(data)
    socks[0].shutdown(socket.SHUT_WR)
    listener.resume()
    assert await client(read_all, socks[0]) == b"whole"
    for sock, rest in zip(socks[1:], (b"", HEADER[20:]), strict=True):
        sock.sendall(rest + b"later")
        assert await client(sock.recv, 100) == b"later"
    for sock in socks:
        sock.close()
    await until(lambda: not server.connections)


@BOTH
@pytest_twisted.ensureDeferred
async def test_a_service_of_one_message_knows_the_client(serve, client, transport):
    """It replies after the header, and closes so that the reply arrives."""
    server = serve(transport, "info")
    answer = json.loads(await client(exchange, server.sockets[0], HEADER, b""))
    assert (answer["peer"], answer["local"]) == ("203.0.113.7:56324", "198.51.100.9:443")
    assert answer["proxy"]["authority"] == "a.example"


@pytest_twisted.ensureDeferred
async def test_f81_a_drain_serves_a_header_that_comes_late(serve, client):
    """A pending connection may complete its header while the server drains."""
    server = serve("tcp", "daytime")
    with connect(server.sockets[0]) as sock:
        await until(lambda: server.listeners[0].gate.pending["proxy"])
        drained = server.drain(60)
        await client(sock.sendall, HEADER)
        assert (await client(read_all, sock)).endswith(b"-UTC\r\n")
    assert (await drained).aborted == 0


@pytest_twisted.ensureDeferred
async def test_f69_datagrams_in_batches(serve, client):
    """Some datagrams in one turn, with bad ones between: each payload comes back."""
    server = serve("udp", "echo")
    header = make_v2(CLIENT, SERVER, transport=Transport.DGRAM)
    with udp(server.listeners[0].port) as sock:
        for number in range(50):
            sock.send((header if number % 10 else b"bad") + str(number).encode())
        received = [await client(sock.recv, 100) for _ in range(45)]
    assert received == [str(number).encode() for number in range(50) if number % 10]
    counts = server.listeners[0].info()["counts"]
    assert counts["datagrams_dropped"] == {"proxy_header": 5}
