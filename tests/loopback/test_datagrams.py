"""Datagrams over the kernel's loopback."""

import json
import os
import random
import socket
from contextlib import ExitStack, suppress

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol

from netsrv.datagrams.port import DatagramPort, kernel_drops
from netsrv.interfaces import DropReason
from netsrv.registry import find_services
from netsrv.sockets.addresses import InternetAddress
from netsrv.sockets.opening import open_datagram
from tests.clients import ask, connect, read_all, target
from tests.timeouts import CLIENT_TIMEOUT, TIMEOUT
from twisted.plugins import netsrv_services

REGISTRY = find_services()

DATAGRAM_SERVICES = sorted(
    each for each in REGISTRY.services if "udp" in REGISTRY.transports(each).split()
)


@pytest.mark.parametrize(
    ("listener", "largest"),
    [("udp echo=127.0.0.1:0", 65_507), ("udp echo=[::1]:0", 65_527), ("udp echo=[::]:0", 65_527)],
)
@pytest_twisted.ensureDeferred
async def test_f25_f27_echo_returns_datagrams_of_every_size(serve, client, listener, largest):
    """F25, F27: from the empty datagram to the largest possible, none is truncated."""
    server = serve(listener)
    datagrams = [random.randbytes(size) for size in (0, 1, 8_192, 8_193, 65_000, largest)]
    assert await client(ask, server.sockets[0], *datagrams) == datagrams


@pytest.mark.parametrize(
    ("service", "size"), [("daytime", 40), ("time", 4), ("qotd", 30), ("chargen", 0)]
)
@pytest_twisted.ensureDeferred
async def test_f25_an_empty_datagram_is_answered(serve, client, service, size):
    """F25: one-shot services answer every datagram, even an empty one."""
    server = serve(f"udp {service}=127.0.0.1:0")
    [answer] = await client(ask, server.sockets[0], b"")
    assert size <= len(answer) <= 56


@pytest.mark.parametrize(("host", "headers"), [("127.0.0.1", 20 + 8), ("::1", 40 + 8)])
@pytest.mark.parametrize("service", DATAGRAM_SERVICES)
@pytest_twisted.ensureDeferred
async def test_f35_no_answer_is_more_than_three_times_its_request(serve, service, host, headers):
    """On the wire, all answers of any installed service to a request of any size together."""
    server = serve(f"udp {service}=[{host}]:0" if ":" in host else f"udp {service}={host}:0")
    [opened] = server.sockets
    address, family = target(opened), opened.sock.family
    with ExitStack() as clients:
        asked = {}
        for size in (0, 1, 2, 10, 100, 512, 1400):
            asked[size] = clients.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            asked[size].sendto(bytes(size), address)
        await server.stopService()  # which serves what is queued
        sent = {size: sum(headers + each for each in lengths(sock)) for size, sock in asked.items()}
    assert {size: on_wire for size, on_wire in sent.items() if on_wire > 3 * (headers + size)} == {}
    assert (max(sent.values()) == 0) == (service == "discard")


def lengths(sock):
    """Return the length of each datagram received."""
    sock.setblocking(False)
    found = []
    while True:
        try:
            found.append(len(sock.recv(65535)))
        except BlockingIOError:
            return found


@pytest_twisted.ensureDeferred
async def test_f25_discard_is_silent(serve, client):
    """Discard never answers: only the later datagram's echo comes."""

    def discard_then_echo(discard, echo):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(CLIENT_TIMEOUT)
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
            sock.settimeout(CLIENT_TIMEOUT)
            sock.sendto(b"x" * 50, ("127.0.0.1", opened.port))
            return json.loads(sock.recv(1000))

    server = serve("udp info=[::]:0")
    told = await client(ask_over_ipv4, server.sockets[0])
    assert told["peer"].startswith("127.0.0.1:")
    assert told["received"] == 50


@pytest_twisted.ensureDeferred
async def test_f30_f31_what_seems_to_come_from_a_server_is_not_answered(serve, client):
    """F30, F31: neither NFS's port nor one of this server's gets an answer."""

    def ask_from(host, port):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(CLIENT_TIMEOUT)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
            sock.sendto(b"x", target(echo))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as proof:
                proof.settimeout(CLIENT_TIMEOUT)
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


def ignore(reason, error):
    """Ignore a drop."""


def asked_at(host, port, data=b"x"):
    """Ask over IPv4; return the answering address, or None once a later answer is back."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(CLIENT_TIMEOUT)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        sock.bind(("127.0.0.1", 0))
        sock.sendto(data, (host, port))
        sock.sendto(b"proof", ("127.0.0.1", port))
        answer, peer = sock.recvfrom(100)
        return None if answer == b"proof" else peer


@pytest.mark.parametrize("listener", ["udp echo=0.0.0.0:0", "udp echo=[::]:0"])
@pytest_twisted.ensureDeferred
async def test_f42_a_reply_leaves_from_the_address_asked(serve, client, listener):
    """The source of an answer is the destination of its request."""
    port = serve(listener).sockets[0].port
    for host in ("127.0.0.1", "127.0.0.2", "127.1.2.3"):
        assert await client(asked_at, host, port) == (host, port)


@pytest.mark.skipif("sys.platform != 'linux'", reason="only Linux is asked")
@pytest.mark.parametrize("listener", ["0.0.0.0", "::", "127.255.255.255"])
@pytest_twisted.ensureDeferred
async def test_f34_a_broadcast_is_not_answered(serve, client, listener):
    """It is dropped, whatever the socket is bound to, and the observer gets the reason."""
    told = []
    proof = serve("udp echo=127.0.0.1:0").sockets[0]
    address = f"[{listener}]" if ":" in listener else listener
    server = serve(f"udp echo={address}:0", "udp discard=127.0.0.1:0")
    server.listeners[0].gate.observer.datagrams_refused = lambda *what: told.append(what[2])

    def ask_all():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(CLIENT_TIMEOUT)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sock.sendto(b"x", ("127.255.255.255", server.sockets[0].port))
            sock.sendto(b"proof", target(proof))
            return sock.recv(10)

    assert await client(ask_all) == b"proof"
    assert told == [DropReason.DESTINATION]


@pytest.mark.skipif("sys.platform != 'linux'", reason="only Linux is asked")
@pytest.mark.parametrize("listener", ["0.0.0.0", "::"])
@pytest_twisted.ensureDeferred
async def test_f34_what_goes_to_a_group_is_for_a_protocol_of_your_own(client, listener):
    """Without a guard it is received, known as multicast, and answered from our own address."""
    got = []

    class Answer(DatagramProtocol):
        noisy = False

        def datagramReceived(self, datagram, addr):
            got.append(self.transport.arrival.unicast)
            self.transport.write(datagram, addr)

    opened = open_datagram(InternetAddress(listener, 0))
    group = socket.inet_aton("224.0.0.251") + socket.inet_aton("127.0.0.1")
    opened.sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
    port = DatagramPort(reactor, opened.sock, Answer(), ignore, lambda: None)
    port.startListening()
    assert await client(asked_at, "224.0.0.251", opened.port) == ("127.0.0.1", opened.port)
    assert got[0] is False
    await port.stopListening()


@pytest.mark.parametrize("listener", ["0.0.0.0", "::"])
@pytest_twisted.ensureDeferred
async def test_f42_one_that_came_before_the_server_started_is_answered_too(client, listener):
    """A datagram queued before IP_PKTINFO was set is answered too."""

    class Answer(DatagramProtocol):
        noisy = False

        def datagramReceived(self, datagram, addr):
            self.transport.write(b"unicast" * self.transport.arrival.unicast, addr)

    opened = open_datagram(InternetAddress(listener, 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(CLIENT_TIMEOUT)
        sock.sendto(b"early", ("127.0.0.2", opened.port))
        port = DatagramPort(reactor, opened.sock, Answer(), ignore, lambda: None)
        port.startListening()
        assert await client(sock.recvfrom, 100) == (b"unicast", ("127.0.0.2", opened.port))
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_f42_what_is_sent_later_is_left_to_the_kernel(client):
    """Only the answer to the datagram being served leaves from the address asked."""
    received = Deferred()

    class Later(DatagramProtocol):
        noisy = False

        def datagramReceived(self, datagram, addr):
            self.transport.write(b"now", addr)
            reactor.callLater(0, received.callback, addr)

    opened = open_datagram(InternetAddress("0.0.0.0", 0))
    port = DatagramPort(reactor, opened.sock, Later(), ignore, lambda: None)
    port.startListening()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(CLIENT_TIMEOUT)
        sock.sendto(b"x", ("127.0.0.2", opened.port))
        assert await client(sock.recvfrom, 10) == (b"now", ("127.0.0.2", opened.port))
        port.write(b"later", await received.addTimeout(TIMEOUT, reactor))
        assert await client(sock.recvfrom, 10) == (b"later", ("127.0.0.1", opened.port))
    await port.stopListening()


@pytest.mark.parametrize("taken", [False, True], ids=["closed", "taken"])
@pytest_twisted.ensureDeferred
async def test_f38_a_descriptor_that_is_ours_no_more_is_left_alone(serve, client, taken):
    """Its number may belong to another file; the server opens a new socket."""
    server = serve("udp daytime=127.0.0.1:0")
    [opened], listener = server.sockets, server.listeners[0]._listener
    before = opened.address
    number = opened.sock.fileno()
    service = listener._port._protocol._service
    replace, open_again = listener._port.replace, Deferred()
    listener._port.replace = lambda sock: open_again.callback(replace(sock))
    other = os.open(os.devnull, os.O_RDONLY)

    def close_it(datagram, addr):
        service.datagramReceived = service.transport.write
        if taken:
            os.dup2(other, number)
        else:
            os.close(number)

    service.datagramReceived = close_it
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"close it", target(opened))
    await open_again.addTimeout(TIMEOUT, reactor)
    assert opened.address == before
    assert await client(ask, opened, b"next") == [b"next"]
    if taken:
        assert os.path.sameopenfile(number, other)
        os.close(number)
    os.close(other)


@pytest_twisted.ensureDeferred
async def test_f43_what_the_kernel_drops_is_known(serve):
    """Datagrams that overflow the buffer of a suspended listener are counted by the kernel."""
    server = serve("udp discard=127.0.0.1:0", socket_options=["SO_RCVBUF=4096"])
    listener = server.listeners[0]
    if listener.kernel_drops is None:
        pytest.skip("this kernel does not tell (SO_MEMINFO)")
    assert listener.kernel_drops == 0
    listener.suspend()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _ in range(100):
            sock.sendto(bytes(1000), target(server.sockets[0]))
    assert 0 < listener.kernel_drops < 100
    listener.resume()


def test_f43_a_closed_socket_has_no_count():
    """A closed socket has no kernel counters."""
    opened = open_datagram(InternetAddress("127.0.0.1", 0))
    opened.close()
    assert kernel_drops(opened.sock) is None


@pytest_twisted.ensureDeferred
async def test_f37_a_peer_that_is_gone_stops_nothing(serve, client):
    """F37: ICMP errors for answers to a closed port do not keep the next peer from being served."""

    def ask_and_go(opened):
        for _ in range(20):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(b"x", target(opened))

    server = serve("udp echo=127.0.0.1:0")
    await client(ask_and_go, server.sockets[0])
    assert await client(ask, server.sockets[0], b"next") == [b"next"]


@pytest_twisted.ensureDeferred
async def test_f37_a_connected_port_outlives_a_refusal(client):
    """F37: an ICMP error calls connectionRefused, and receiving goes on, on any reactor."""
    refused, received = Deferred(), Deferred()

    class Asking(DatagramProtocol):
        noisy = False

        def connectionRefused(self):
            refused.callback(None)

        def datagramReceived(self, datagram, addr):
            received.callback(datagram)

    opened = open_datagram(InternetAddress("127.0.0.1", 0))
    port = DatagramPort(reactor, opened.sock, Asking(), ignore, lambda: None)
    port.startListening()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        there = peer.getsockname()
    port.connect(*there)
    port.write(b"is anyone there?")
    await refused.addTimeout(TIMEOUT, reactor)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(there)
        peer.sendto(b"now I am", target(opened))
        assert await received.addTimeout(TIMEOUT, reactor) == b"now I am"
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_f28_what_is_longer_than_the_buffer_is_dropped(client):
    """F28: it is reported, and not served truncated; the next one is served."""
    received, dropped = Deferred(), []

    class Collect(DatagramProtocol):
        noisy = False

        def datagramReceived(self, datagram, addr):
            received.callback(datagram)

    def drop(reason, error):
        dropped.append(reason)

    opened = open_datagram(InternetAddress("127.0.0.1", 0))
    port = DatagramPort(reactor, opened.sock, Collect(), drop, lambda: None, largest=1000)
    port.startListening()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.sendto(bytes(1001), target(opened))
        peer.sendto(bytes(1000), target(opened))
        assert await received.addTimeout(TIMEOUT, reactor) == bytes(1000)
    assert dropped == [DropReason.TOO_LONG]
    await port.stopListening()


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
    """F105: modulo 2^32 from 2036-02-07 06:28:16 on; no answer if the clock is before 1900."""

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
async def test_a_port_has_what_twisteds_port_offers(client):
    """Multicast, broadcast and connected sending work as with Twisted's own port."""
    opened = open_datagram(InternetAddress("127.0.0.1", 0))
    got = []

    class Collect(DatagramProtocol):
        noisy = False

        def datagramReceived(self, datagram, addr):
            got.append((datagram, addr))

    port = DatagramPort(reactor, opened.sock, Collect(), ignore, lambda: None)
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
        peer.settimeout(CLIENT_TIMEOUT)
        peer.bind(("127.0.0.1", 0))
        port.connect(*peer.getsockname())
        port.write(b"hello")
        assert await client(peer.recv, 100) == b"hello"
    port.write(b"a closed port")
    await port.stopListening()


def test_sending_to_another_family_is_refused(expected_failures):
    """Sending to an IPv6 address from an IPv4 port raises an error."""
    from twisted.internet.error import InvalidAddressError

    opened = open_datagram(InternetAddress("127.0.0.1", 0))
    port = DatagramPort(reactor, opened.sock, DatagramProtocol(), ignore, lambda: None)
    with pytest.raises(InvalidAddressError):
        port.write(b"x", ("::1", 7))
    opened.close()
