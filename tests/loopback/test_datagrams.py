"""Datagrams over a real kernel."""

import json
import random
import socket
from contextlib import suppress

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol

from netsrv.addresses import InternetAddress
from netsrv.sockets import open_datagram
from netsrv.transports.datagrams import DatagramPort
from tests.loopback.clients import ask, connect, read_all, target
from twisted.plugins import netsrv_services


@pytest.mark.parametrize(
    ("listener", "largest"),
    [("udp echo=127.0.0.1:0", 65_507), ("udp echo=[::1]:0", 65_527), ("udp echo=[::]:0", 65_527)],
)
@pytest_twisted.ensureDeferred
async def test_f25_f27_echo_returns_datagrams_of_every_size(serve, client, listener, largest):
    """F25, F27: from the empty one to the largest that there can be, none is cut."""
    server = serve(listener)
    datagrams = [random.randbytes(size) for size in (0, 1, 8_192, 8_193, 65_000, largest)]
    assert await client(ask, server.sockets[0], *datagrams) == datagrams


@pytest.mark.parametrize(
    ("service", "size"), [("daytime", 40), ("time", 4), ("qotd", 30), ("chargen", 0)]
)
@pytest_twisted.ensureDeferred
async def test_f25_an_empty_datagram_is_answered(serve, client, service, size):
    """F25: the one-shot services answer whatever they are sent, be it nothing."""
    server = serve(f"udp {service}=127.0.0.1:0")
    [answer] = await client(ask, server.sockets[0], b"")
    assert size <= len(answer) <= 56


@pytest_twisted.ensureDeferred
async def test_f25_discard_is_silent(serve, client):
    """Discard receives and never answers: the echo of a later datagram comes alone."""

    def discard_then_echo(discard, echo):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(20)
            sock.sendto(b"x", target(discard))
            sock.sendto(b"y", target(echo))
            return sock.recv(100)

    server = serve("udp discard=127.0.0.1:0", "udp echo=127.0.0.1:0")
    assert await client(discard_then_echo, *server.sockets) == b"y"


@pytest_twisted.ensureDeferred
async def test_an_ipv4_peer_of_an_ipv6_socket_is_answered(serve, client):
    """`[::]` serves both families."""

    def ask_over_ipv4(opened):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(20)
            sock.sendto(b"x" * 50, ("127.0.0.1", opened.port))
            return json.loads(sock.recv(1000))

    server = serve("udp info=[::]:0")
    told = await client(ask_over_ipv4, server.sockets[0])
    assert told["peer"].startswith("127.0.0.1:")
    assert told["received"] == 50


@pytest_twisted.ensureDeferred
async def test_f30_f31_what_seems_to_come_from_a_server_is_not_answered(serve, client):
    """F30, F31: neither NFS's port nor one that this server serves gets an answer."""

    def ask_from(host, port):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(20)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
            sock.sendto(b"x", target(echo))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as proof:
                proof.settimeout(20)
                proof.sendto(b"y", target(echo))
                assert proof.recv(10) == b"y"  # so the first one was seen before
            sock.setblocking(False)
            try:
                return sock.recv(10)
            except BlockingIOError:
                return None

    server = serve("udp echo=127.0.0.1:0", "udp discard=127.0.0.1:0")
    echo, discard = server.sockets
    assert await client(ask_from, "127.0.0.2", 2049) is None
    assert await client(ask_from, "127.0.0.2", discard.port) is None
    assert await client(ask_from, "127.0.0.2", 0) == b"x"


@pytest_twisted.ensureDeferred
async def test_f37_a_peer_that_is_gone_stops_nothing(serve, client):
    """F37: answers to a closed port come back as ICMP errors, and the next peer is served."""

    def ask_and_go(opened):
        for _ in range(20):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(b"x", target(opened))

    server = serve("udp echo=127.0.0.1:0")
    await client(ask_and_go, server.sockets[0])
    assert await client(ask, server.sockets[0], b"next") == [b"next"]


@pytest_twisted.ensureDeferred
async def test_f37_a_connected_port_outlives_a_refusal(client):
    """F37: after an ICMP error the protocol is told, and receives on, whatever the reactor."""
    refused, received = Deferred(), Deferred()

    class Asking(DatagramProtocol):
        noisy = False

        def connectionRefused(self):
            refused.callback(None)

        def datagramReceived(self, datagram, addr):
            received.callback(datagram)

    opened = open_datagram(InternetAddress("127.0.0.1", 0))
    port = DatagramPort(reactor, opened.sock, Asking(), [].append, lambda: None)
    port.startListening()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        there = peer.getsockname()
    port.connect(*there)
    port.write(b"is anyone there?")
    await refused.addTimeout(20, reactor)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(there)
        peer.sendto(b"now I am", target(opened))
        assert await received.addTimeout(20, reactor) == b"now I am"
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_f28_what_is_longer_than_the_buffer_is_dropped(client):
    """F28: it is told, and not served short; the next one is served."""
    received, dropped = Deferred(), []

    class Collect(DatagramProtocol):
        noisy = False

        def datagramReceived(self, datagram, addr):
            received.callback(datagram)

    opened = open_datagram(InternetAddress("127.0.0.1", 0))
    port = DatagramPort(reactor, opened.sock, Collect(), dropped.append, lambda: None, largest=1000)
    port.startListening()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.sendto(bytes(1001), target(opened))
        peer.sendto(bytes(1000), target(opened))
        assert await received.addTimeout(20, reactor) == bytes(1000)
    assert dropped == ["too long"]
    await port.stopListening()


@pytest.mark.parametrize("service", ["echo", "daytime", "time", "qotd", "chargen", "info"])
@pytest_twisted.ensureDeferred
async def test_f35_an_answer_is_at_most_three_times_as_long(serve, client, monkeypatch, service):
    """F35: with headers; a service shortens what it says, or says nothing."""
    monkeypatch.setattr(netsrv_services.qotd, "_choose", lambda quotes: max(quotes, key=len))

    def ask_each(opened):
        answers = {}
        for size in (0, 1, 10, 50, 100, 400):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(bytes(size), target(opened))
                ask(opened, bytes(400))  # when this one is answered, the first one has been
                sock.setblocking(False)
                with suppress(BlockingIOError):
                    answers[size] = sock.recv(65_536)
        return answers

    server = serve(f"udp {service}=127.0.0.1:0")
    answers = await client(ask_each, *server.sockets)
    headers = 28
    for size, answer in answers.items():
        assert len(answer) + headers <= 3 * (size + headers)
        if service == "info":
            assert json.loads(answer)["received"] == size  # whole, or nothing
    assert 400 in answers
    assert (0 in answers) == (service != "info")


@pytest.mark.parametrize(
    ("now", "answer"),
    [
        (2_085_978_495, b"\xff\xff\xff\xff"),
        (2_085_978_496, b"\0\0\0\0"),
        (2_085_978_497.5, b"\0\0\0\1"),
        (-2_208_988_801, None),
    ],
)
@pytest_twisted.ensureDeferred
async def test_f105_time_starts_again_and_does_not_guess(serve, client, monkeypatch, now, answer):
    """F105: modulo 2^32 from 2036-02-07 06:28:16 on; nothing where the clock is before 1900."""

    def ask_both(stream, datagrams, echo):
        with connect(stream) as sock:
            told = read_all(sock)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"?", target(datagrams))
            if answer is None:
                ask(echo, b"so the other one was seen too")
                sock.setblocking(False)
            with suppress(BlockingIOError):
                return told, sock.recv(100)
        return told, None

    monkeypatch.setattr(netsrv_services.time, "_clock", lambda: now)
    names = ("tcp time=127.0.0.1:0", "udp time=127.0.0.1:0", "udp echo=127.0.0.1:0")
    server = serve(*names)
    assert await client(ask_both, *server.sockets) == (answer or b"", answer)


@pytest_twisted.ensureDeferred
async def test_a_port_can_be_asked_for_all_that_twisted_offers(client):
    """Multicast, broadcast and connected sending work as with Twisted's own port."""
    opened = open_datagram(InternetAddress("127.0.0.1", 0))
    got = []

    class Collect(DatagramProtocol):
        noisy = False

        def datagramReceived(self, datagram, addr):
            got.append((datagram, addr))

    port = DatagramPort(reactor, opened.sock, Collect(), got.append, lambda: None)
    port.startListening()
    host = port.getHost()
    assert (host.type, host.host, host.port) == ("UDP", "127.0.0.1", opened.port)
    port.setBroadcastAllowed(True)
    assert port.getBroadcastAllowed()
    port.setTTL(3)
    assert port.getTTL() == 3
    port.setLoopbackMode(False)
    assert not port.getLoopbackMode()
    await port.joinGroup("224.0.0.251", "127.0.0.1")
    await port.leaveGroup("224.0.0.251", "127.0.0.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.settimeout(20)
        peer.bind(("127.0.0.1", 0))
        port.connect(*peer.getsockname())
        port.write(b"hello")
        assert await client(peer.recv, 100) == b"hello"
    port.write(b"nobody there")
    await port.stopListening()


def test_sending_to_another_family_is_refused(expected_failures):
    """An IPv6 address cannot be sent to from an IPv4 port, and the caller is told."""
    from twisted.internet.error import InvalidAddressError

    opened = open_datagram(InternetAddress("127.0.0.1", 0))
    port = DatagramPort(reactor, opened.sock, DatagramProtocol(), [].append, lambda: None)
    with pytest.raises(InvalidAddressError):
        port.write(b"x", ("::1", 7))
    opened.close()
