"""Streams over the kernel's loopback: how connections go on, and how they end."""

import json
import random
import re
import socket
import threading

import pytest
import pytest_twisted
from twisted.internet import reactor, task

from netsrv.services.chargen import ROUND
from tests.clients import connect, read_all, reset, visit
from tests.timeouts import CLIENT_TIMEOUT, TIMEOUT

MIB = 1 << 20


def gone(server):
    """Fire when the last connection of a server has ended."""
    return server.wait_for_connections(lambda count: count == 0).addTimeout(TIMEOUT, reactor)


@pytest.mark.parametrize(
    "listener", ["tcp echo=127.0.0.1:0", "tcp echo=[::1]:0", "tcp echo=[::]:0", "unix echo={}/s"]
)
@pytest_twisted.ensureDeferred
async def test_f4_a_half_closed_echo_returns_everything(serve, client, listener, tmp_path):
    """F4: after 20 MiB and FIN, all bytes come back, and then FIN."""
    server = serve(listener.format(tmp_path))
    data = random.randbytes(20 * MIB)
    assert await client(visit, server.sockets[0], data) == data
    await gone(server)


@pytest.mark.parametrize(
    ("service", "reply"),
    [
        ("accept", rb""),
        ("daytime", rb"\w+day, \w+ \d+, \d{4} \d\d:\d\d:\d\d-UTC\r\n"),
        ("time", rb"(?s)...."),
        ("qotd", rb"[ -~]+\r\n"),
        ("info", rb"{.*}\n"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_f5_a_peer_that_ends_first_gets_its_reply(serve, client, service, reply):
    """F5: a peer that half-closes before the reply gets the reply."""

    def end_and_read(opened):
        with connect(opened) as sock:
            sock.shutdown(socket.SHUT_WR)
            return read_all(sock)

    server = serve(f"tcp {service}=127.0.0.1:0")
    for _ in range(20):
        assert re.fullmatch(reply, await client(end_and_read, server.sockets[0]))
    await gone(server)


@pytest.mark.parametrize("service", ["daytime", "time", "qotd", "info"])
@pytest_twisted.ensureDeferred
async def test_f5b_a_peer_that_talks_gets_its_reply_and_no_reset(serve, client, service):
    """F5b: a one-shot service ends with FIN, not RST, despite unread input."""

    def talk_and_read(opened):
        with connect(opened) as sock:
            sock.sendall(b"x" * 10_000)
            reply = read_all(sock)
            sock.sendall(b"y" * 10_000)  # a reset would make one of these two fail
            sock.sendall(b"z" * 10_000)
            sock.shutdown(socket.SHUT_WR)
            return reply

    server = serve(f"tcp {service}=127.0.0.1:0")
    for _ in range(20):
        assert len(await client(talk_and_read, server.sockets[0])) >= 4
    await gone(server)


@pytest_twisted.ensureDeferred
async def test_f5b_accept_ends_without_reset_when_the_peer_has_talked(serve, client):
    """F5b: accept sends FIN, not RST, although the peer has sent data."""

    def talk(opened):
        sock = connect(opened)
        sock.sendall(b"hello")
        return sock

    server = serve("tcp accept=127.0.0.1:0")
    server.suspend()  # the peer talks before it is accepted
    sock = await client(talk, server.sockets[0])
    server.resume()
    assert await client(read_all, sock) == b""
    sock.close()
    await gone(server)


@pytest_twisted.ensureDeferred
async def test_f5b_a_peer_that_never_ends_is_closed_after_the_linger(serve, client):
    """A one-shot service closes a peer that keeps its side open, after 2 seconds."""

    all_seen = threading.Event()

    def hold_open(opened):
        with connect(opened) as sock:
            reply = read_all(sock)
            all_seen.wait(TIMEOUT)
            return reply

    server = serve("tcp time=127.0.0.1:0")
    reading = client(hold_open, server.sockets[0])
    gate = server.listeners[0].gate
    while not gate.connections:
        await task.deferLater(reactor, 0)
    await gone(server)
    all_seen.set()
    assert len(await reading) == 4


@pytest_twisted.ensureDeferred
async def test_f1_echo_stops_reading_from_a_peer_that_does_not_read(serve, client):
    """F1: echo buffers at most 1 MiB for such a peer, and then stops reading."""

    def feed(opened):
        sock = connect(opened)
        sock.settimeout(0.3)
        fed = 0
        try:
            while True:
                fed += sock.send(b"x" * 65_536)
        except TimeoutError:
            return sock, fed

    server = serve("tcp echo=127.0.0.1:0")
    sock, fed = await client(feed, server.sockets[0])
    [connection] = server.listeners[0].gate.connections
    waiting = connection.unsent
    assert fed > waiting
    assert waiting <= MIB

    def read_the_rest():
        sock.settimeout(CLIENT_TIMEOUT)
        sock.shutdown(socket.SHUT_WR)
        return len(read_all(sock))

    assert await client(read_the_rest) == fed
    sock.close()
    await gone(server)


@pytest_twisted.ensureDeferred
async def test_f6_f7_chargen_goes_on_until_the_peer_is_gone(serve, client):
    """F6, F7: chargen sends as the peer reads, and ignores input and half-close."""

    def read_a_while(opened):
        with connect(opened) as sock:
            sock.sendall(b"x" * 100_000)
            sock.shutdown(socket.SHUT_WR)
            got = b""
            while len(got) < 10 * MIB:
                got += sock.recv(MIB)
        return got

    server = serve("tcp chargen=127.0.0.1:0")
    got = await client(read_a_while, server.sockets[0])
    assert (ROUND * (len(got) // len(ROUND) + 1)).startswith(got)
    await gone(server)


@pytest_twisted.ensureDeferred
async def test_f7_what_a_talker_says_to_chargen_is_not_kept(serve, client):
    """F7: 20 MiB of input are read and not buffered."""
    read = 20 * MIB

    def talk(sock):
        sock.sendall(bytes(read))  # which goes on only while the client reads
        return sock

    server = serve("tcp chargen=127.0.0.1:0")
    sock = await client(connect, server.sockets[0])
    await client(talk, sock)
    [connection] = server.listeners[0].gate.connections
    while connection.received < read:
        await task.deferLater(reactor, 0)
    assert connection.unsent <= MIB
    sock.close()
    await gone(server)


@pytest_twisted.ensureDeferred
async def test_f6_chargen_to_a_peer_that_does_not_read_is_bounded(serve, client):
    """F6: chargen writes only while the transport has room."""
    server = serve("tcp chargen=127.0.0.1:0")
    sock = await client(connect, server.sockets[0])
    gate = server.listeners[0].gate
    while not gate.connections:
        await task.deferLater(reactor, 0)
    [connection] = gate.connections
    sent = -1
    while sent != connection.sent:  # until nothing moves between two turns of the reactor
        sent = connection.sent
        for _ in range(100):
            await task.deferLater(reactor, 0)
    assert connection.unsent <= MIB
    sock.close()
    await gone(server)


@pytest_twisted.ensureDeferred
async def test_discard_reads_everything_and_says_nothing(serve, client):
    """Discard takes 20 MiB, and ends when the peer does."""
    server = serve("tcp discard=127.0.0.1:0")
    assert await client(visit, server.sockets[0], bytes(20 * MIB)) == b""
    await gone(server)


@pytest_twisted.ensureDeferred
async def test_f3_a_reset_frees_the_slot(serve, client):
    """F3: RST at any time, before accept returns or in the middle of a write, is an end."""

    def reset_now(opened):
        for _ in range(50):
            reset(connect(opened))
            sock = connect(opened)
            sock.sendall(b"x" * 100_000)
            reset(sock)

    server = serve("tcp echo=127.0.0.1:0", "tcp chargen=127.0.0.1:0", "tcp time=127.0.0.1:0")
    for opened in server.sockets:
        await client(reset_now, opened)
    assert await client(visit, server.sockets[0], b"still here") == b"still here"
    await gone(server)


@pytest_twisted.ensureDeferred
async def test_f23_an_urgent_byte_leaves_the_stream_in_order(serve, client):
    """F23: urgent data does not end a connection, and the data around it stays in order."""

    def send_urgent(opened):
        with connect(opened) as sock:
            sock.sendall(b"before")
            sock.send(b"!", socket.MSG_OOB)
            sock.sendall(b"after")
            sock.shutdown(socket.SHUT_WR)
            return read_all(sock)

    server = serve("tcp echo=127.0.0.1:0")
    assert await client(send_urgent, server.sockets[0]) == b"beforeafter"


@pytest_twisted.ensureDeferred
async def test_connections_inherit_the_options_of_the_listening_socket(serve, client):
    """A listener's options are in effect on its connections, as `info` shows."""
    asked = {
        "SO_KEEPALIVE": 1,
        "TCP_NODELAY": 0,
        "TCP_KEEPIDLE": 77,
        "IP_TOS": 16,
        "SO_RCVBUF": 100_000,
    }
    options = [f"{name}={value}" for name, value in asked.items()]
    server = serve("tcp info=127.0.0.1:0", socket_options=options)
    told = json.loads(await client(visit, server.sockets[0]))
    in_effect = {name: told["options"][name] for name in asked}
    assert in_effect == {**asked, "SO_RCVBUF": 200_000}
    assert told["tcp_info"]["snd_mss"] > 500
    assert (told["tls"], told["proxy"], told["family"]) == (None, None, "AF_INET")


@pytest_twisted.ensureDeferred
async def test_a_suspended_listener_leaves_connections_in_the_backlog(serve, client):
    """Clients connect while it is suspended, and are served after resume."""
    server = serve("tcp echo=127.0.0.1:0")
    server.suspend()
    sock = await client(connect, server.sockets[0])
    assert server.listeners[0].gate.connections == {}
    server.resume()
    sock.sendall(b"at last")
    assert await client(sock.recv, 100) == b"at last"
    sock.close()
    await gone(server)


@pytest.mark.parametrize("service", ["echo", "discard"])
@pytest_twisted.ensureDeferred
async def test_f129_a_plain_close_on_a_unix_socket_is_the_peers(serve, client, tmp_path, service):
    """F129: a client that has read what it wanted and closes does not count as a reset."""
    server = serve(f"unix {service}={tmp_path}/s")

    def talk():
        with connect(server.sockets[0]) as sock:
            sock.sendall(b"x")
            if service == "echo":
                assert sock.recv(1) == b"x"

    counts = server.counters.listeners[server.listeners[0].listener_info]
    for number in range(1, 4):
        await client(talk)
        await gone(server)
        assert counts.closed == {"peer": number}
