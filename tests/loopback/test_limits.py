"""Limits on a running server: access, numbers, and rates."""

import socket
from contextlib import suppress

import pytest
import pytest_twisted
from twisted.internet import reactor

from netsrv.guards.sources import source_of
from netsrv.interfaces import RejectReason
from tests.clients import connect, read_all, reset, target, visit
from tests.reactor import until
from tests.timeouts import CLIENT_TIMEOUT

SOURCE = source_of("127.0.0.1")
FULL = RejectReason.MAX_CONNECTIONS


def ping(sock):
    """Exchange a byte with echo; return False if the server has ended the connection."""
    sock.sendall(b"x")
    return sock.recv(1) == b"x"


def inside(server):
    """Return how many connections the first listener serves."""
    return len(server.listeners[0].gate.connections)


@pytest_twisted.ensureDeferred
async def test_f10_beyond_the_limit_connections_wait_for_a_slot(serve, client):
    """F10: the limit is exact; further connections wait in the backlog and are served later."""
    server = serve("tcp echo=127.0.0.1:0", max_connections="3")
    socks = [await client(connect, server.sockets[0]) for _ in range(5)]
    for each in socks[:3]:
        assert await client(ping, each)
    assert inside(server) == 3
    for number in (0, 1):  # one leaves, and the first in the backlog is served
        socks[number].close()
        assert await client(ping, socks[3 + number])
        assert inside(server) == 3
    for each in socks[2:]:
        each.close()
    await until(lambda: inside(server) == 0)


@pytest.mark.parametrize("service", ["echo", "chargen", "time"])
@pytest_twisted.ensureDeferred
async def test_f3_a_reset_releases_a_slot_exactly_once(serve, client, service):
    """F3: after RST before accept, or in the middle of a write, all slots are free."""

    def write_and_reset(opened):
        with connect(opened) as sock:
            sock.sendall(bytes(500_000) if service == "echo" else b"x")
            reset(sock)

    listeners = (f"tcp {service}=127.0.0.1:0", "tcp echo=127.0.0.1:0")
    server = serve(*listeners, max_connections="2", per_source="2")
    listener, opened = server.listeners[0], server.sockets[0]
    for _ in range(20):
        listener.suspend()
        early = [await client(connect, opened) for _ in range(2)]
        for each in early:
            reset(each)
        listener.resume()
        with suppress(ConnectionError):
            await client(write_and_reset, opened)
    await until(lambda: inside(server) == 0)
    admission = listener.gate.admission
    assert [each.in_use for each in admission.slots] == [0, 0]
    assert [admission.admit(SOURCE, 0.0) for _ in range(3)] == [None, None, FULL]
    for _ in range(2):
        admission.release(SOURCE)


@pytest.mark.parametrize("overload", ["close", "reset"])
@pytest_twisted.ensureDeferred
async def test_f10_beyond_the_limit_connections_are_rejected(serve, client, overload):
    """F10: the overload policy closes or resets them without delay; served ones stay."""

    def come_and_see(opened):
        with connect(opened) as sock:
            return sock.recv(1)

    server = serve("tcp echo=127.0.0.1:0", max_connections="1", overload=overload)
    first = await client(connect, server.sockets[0])
    assert await client(ping, first)
    for _ in range(3):
        if overload == "close":
            assert await client(come_and_see, server.sockets[0]) == b""
        else:
            with pytest.raises(ConnectionResetError):
                await client(come_and_see, server.sockets[0])
    assert await client(ping, first)
    first.close()
    await until(lambda: inside(server) == 0)
    assert await client(visit, server.sockets[0], b"room again") == b"room again"


@pytest_twisted.ensureDeferred
async def test_f11_one_source_cannot_take_all_slots(serve, client):
    """F11: beyond its share a source is rejected, and another one is served."""
    server = serve("tcp echo=127.0.0.1:0", per_source="2")
    [opened] = server.sockets
    greedy = [await client(connect, opened, "127.0.0.2") for _ in range(4)]
    assert [await client(ping, each) for each in greedy[:2]] == [True, True]
    assert [await client(each.recv, 1) for each in greedy[2:]] == [b"", b""]
    other = await client(connect, opened, "127.0.0.3")
    assert await client(ping, other)
    for each in (*greedy, other):
        each.close()
    await until(lambda: inside(server) == 0)
    assert await client(visit, opened, b"again") == b"again"


@pytest_twisted.ensureDeferred
async def test_the_rate_makes_connections_wait(serve, client):
    """The burst is served without delay, and each next one with its token; none is lost."""
    server = serve("tcp time=127.0.0.1:0", connection_rate="20:2")
    began = reactor.seconds()
    for _ in range(6):
        assert len(await client(visit, server.sockets[0])) == 4
    assert reactor.seconds() - began > 3.5 / 20


@pytest.mark.parametrize(
    ("options", "served"),
    [
        ({"only_from": "127.0.0.2"}, {"127.0.0.2"}),
        ({"no_access": "127.0.0.2,127.0.0.3"}, {"127.0.0.4"}),
        ({"only_from": "127.0.0.0/30", "no_access": "127.0.0.2/32"}, {"127.0.0.3"}),
        ({"no_access": "127.0.0.0/8", "only_from": "127.0.0.4/32"}, {"127.0.0.4"}),
    ],
)
@pytest.mark.parametrize("listener", ["tcp echo=127.0.0.1:0", "tcp echo=[::]:0"])
@pytest_twisted.ensureDeferred
async def test_f13_access_is_by_network(serve, client, listener, options, served):
    """F13: the longest prefix decides, and an IPv4 peer of an IPv6 socket counts as IPv4."""

    def visit(host):
        with socket.socket() as sock:
            sock.settimeout(CLIENT_TIMEOUT)
            sock.bind((host, 0))
            sock.connect(("127.0.0.1", target(server.sockets[0])[1]))
            try:
                return ping(sock)
            except ConnectionError:
                return False

    server = serve(listener, **options)
    hosts = ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
    assert {each for each in hosts if await client(visit, each)} == served


@pytest_twisted.ensureDeferred
async def test_f19_a_connection_that_is_not_served_releases_its_slot(serve, client, monkeypatch):
    """F19: when the factory returns no protocol for a peer, its slot is free again."""
    server = serve("tcp echo=127.0.0.1:0", max_connections="1", per_source="1")
    service = server.listeners[0].service
    monkeypatch.setattr(service, "buildProtocol", lambda address: None)
    for _ in range(3):
        assert await client(visit, server.sockets[0]) == b""
    monkeypatch.undo()
    assert await client(visit, server.sockets[0], b"served") == b"served"


@pytest.mark.parametrize(
    "listener", ["tcp echo=127.0.0.1:0", "tcp discard=127.0.0.1:0", "unix echo={}/s"]
)
@pytest_twisted.ensureDeferred
async def test_f8_a_peer_that_says_nothing_is_closed(serve, client, listener, tmp_path):
    """F8: the idle timeout closes a connection without traffic, with FIN."""
    server = serve(listener.format(tmp_path), idle_timeout="0.1")
    sock = await client(connect, server.sockets[0])
    assert await client(sock.recv, 1) == b""
    sock.close()
    await until(lambda: inside(server) == 0)


@pytest_twisted.ensureDeferred
async def test_f9_a_peer_that_drips_is_closed(serve, client):
    """F9: a peer that sends byte by byte is closed at the lifetime."""

    def drip(sock):
        count = 0
        while ping(sock):
            count += 1
        return count

    server = serve("tcp echo=127.0.0.1:0", lifetime="0.2", idle_timeout="5")
    sock = await client(connect, server.sockets[0])
    assert await client(drip, sock) > 1
    sock.close()
    await until(lambda: inside(server) == 0)


@pytest.mark.parametrize("service", ["chargen", "echo"])
@pytest_twisted.ensureDeferred
async def test_f1_f6_a_peer_that_does_not_read_is_aborted(serve, client, service):
    """F1, F6: output without progress for the write timeout ends in a reset."""

    def never_read(opened):
        sock = connect(opened)
        try:
            while True:
                sock.sendall(bytes(65_536))
        except ConnectionError:
            return True
        finally:
            sock.close()

    server = serve(f"tcp {service}=127.0.0.1:0", write_timeout="0.2")
    assert await client(never_read, server.sockets[0])
    await until(lambda: inside(server) == 0)


@pytest.mark.parametrize("limit", ["lifetime", "idle_timeout"])
@pytest_twisted.ensureDeferred
async def test_f2_a_limit_holds_for_a_peer_that_does_not_read(serve, client, limit):
    """F2: it is closed, then aborted after the grace; its descriptor is freed whatever it does."""
    limits = {limit: "0.1", "close_grace": "0.1"}
    server = serve("tcp chargen=127.0.0.1:0", **limits)
    sock = await client(connect, server.sockets[0])
    await until(lambda: inside(server) == 1)
    await until(lambda: inside(server) == 0)
    with pytest.raises(ConnectionResetError):
        await client(read_all, sock)
    sock.close()
