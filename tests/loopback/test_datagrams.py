"""Datagrams over a real kernel."""

import json
import os
import random
import socket
from contextlib import ExitStack, suppress

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import InvalidAddressError
from twisted.internet.protocol import DatagramProtocol

from netsrv.datagrams import state
from netsrv.datagrams.port import DatagramPort, kernel_drops
from netsrv.interfaces import DropReason
from netsrv.registry import find_services
from netsrv.server import Server, listener
from netsrv.sockets.addresses import InternetAddress
from netsrv.sockets.opening import open_datagram
from tests.clients import ask, connect, read_all, target
from tests.timeouts import CLIENT_TIMEOUT, TIMEOUT
from twisted.plugins import netsrv_services

REGISTRY = find_services()

DATAGRAM_SERVICES = sorted(
    name
    for name in REGISTRY.services
    if "udp" in REGISTRY.transports(name).split() and name != "forward"  # which has no answers
)


@pytest.mark.parametrize(
    ("listener", "largest"),
    [("udp echo=127.0.0.1:0", 65_507), ("udp echo=[::1]:0", 65_527), ("udp echo=[::]:0", 65_527)],
)
@pytest_twisted.ensureDeferred
async def test_f25_f27_echo_returns_datagrams_of_every_size(serve, client, listener, largest):
    """F25, F27: none is truncated, from the empty one to the largest possible."""
    server = serve(listener)
    datagrams = [random.randbytes(size) for size in (0, 1, 8_192, 8_193, 65_000, largest)]
    assert await client(ask, server.sockets[0], *datagrams) == datagrams


@pytest.mark.parametrize(
    ("service", "size"), [("daytime", 40), ("time", 4), ("qotd", 30), ("chargen", 0)]
)
@pytest_twisted.ensureDeferred
async def test_f25_an_empty_datagram_is_answered(serve, client, service, size):
    """F25: the one-shot services answer every datagram, also an empty one."""
    server = serve(f"udp {service}=127.0.0.1:0")
    [answer] = await client(ask, server.sockets[0], b"")
    assert size <= len(answer) <= 56


@pytest.mark.parametrize(("host", "headers"), [("127.0.0.1", 20 + 8), ("::1", 40 + 8)])
@pytest.mark.parametrize("service", DATAGRAM_SERVICES)
@pytest_twisted.ensureDeferred
async def test_f35_no_reply_is_more_than_three_times_its_request(serve, service, host, headers):
    """All replies together, on the wire; every installed service, requests of every size."""
    server = serve(f"udp {service}=[{host}]:0" if ":" in host else f"udp {service}={host}:0")
    [opened] = server.sockets
    address, family = target(opened), opened.sock.family
    with ExitStack() as clients:
        asked = {}
        for size in (0, 1, 2, 10, 100, 512, 1400):
            asked[size] = clients.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            asked[size].sendto(bytes(size), address)
        await server.stopService()  # serves what waits in the socket
        sent = {
            size: sum(headers + length for length in lengths(sock)) for size, sock in asked.items()
        }
    assert {size: on_wire for size, on_wire in sent.items() if on_wire > 3 * (headers + size)} == {}
    assert (max(sent.values()) == 0) == (service == "discard")


def lengths(sock):
    """Return the length of each datagram that has arrived."""
    sock.setblocking(False)
    received = []
    while True:
        try:
            received.append(len(sock.recv(65535)))
        except BlockingIOError:
            return received


@pytest_twisted.ensureDeferred
async def test_f25_discard_is_silent(serve, client):
    """Discard receives and never answers: only the echo of a later datagram comes."""

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
    info = await client(ask_over_ipv4, server.sockets[0])
    assert info["peer"].startswith("127.0.0.1:")
    assert info["received"] == 50


@pytest_twisted.ensureDeferred
async def test_f30_f31_a_datagram_from_a_servers_port_is_not_answered(serve, client):
    """F30, F31: neither NFS's port nor one that this server listens on gets a reply."""

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
    """Ask over IPv4; return the address that answers, or None if only a later proof is answered."""
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
    """A client knows no other address of the server than the one that it asked."""
    port = serve(listener).sockets[0].port
    for host in ("127.0.0.1", "127.0.0.2", "127.1.2.3"):
        assert await client(asked_at, host, port) == (host, port)


@pytest.mark.skipif("sys.platform != 'linux'", reason="other kernels do not tell")
@pytest.mark.parametrize(
    ("listener", "host"),
    [
        ("0.0.0.0", "127.0.0.1"),
        ("0.0.0.0", "127.1.2.3"),
        ("[::]", "127.0.0.2"),
        ("[::]", "::1"),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]", "::1"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_f149_info_reports_the_address_asked_on_both_transports(
    serve, client, listener, host
):
    """A client of a listener on all addresses reads the one that it has used."""

    def ask_info(port):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(CLIENT_TIMEOUT)
            sock.connect((host, port))
            sock.send(b"x" * 100)
            over_udp = json.loads(sock.recv(1000))
        with socket.create_connection((host, port), CLIENT_TIMEOUT) as sock:
            return over_udp["local"], json.loads(read_all(sock))["local"]

    server = serve(f"tcp info={listener}:0", f"udp info={listener}:same")
    port = server.sockets[0].port
    expected = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    assert await client(ask_info, port) == (expected, expected)


@pytest.mark.skipif("sys.platform != 'linux'", reason="other kernels are not asked")
@pytest.mark.parametrize("listener", ["0.0.0.0", "::", "127.255.255.255"])
@pytest_twisted.ensureDeferred
async def test_f34_a_broadcast_is_not_answered(serve, client, listener):
    """It is dropped, whatever the socket is bound to, and the observer gets the reason."""
    reasons = []
    proof = serve("udp echo=127.0.0.1:0").sockets[0]
    address = f"[{listener}]" if ":" in listener else listener
    server = serve(f"udp echo={address}:0", "udp discard=127.0.0.1:0")
    server.listeners[0].gate.observer.datagrams_refused = lambda *event: reasons.append(event[2])

    def ask_all():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(CLIENT_TIMEOUT)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sock.sendto(b"x", ("127.255.255.255", server.sockets[0].port))
            sock.sendto(b"proof", target(proof))
            return sock.recv(10)

    assert await client(ask_all) == b"proof"
    assert reasons == [DropReason.DESTINATION]


@pytest.mark.skipif("sys.platform != 'linux'", reason="other kernels are not asked")
@pytest.mark.parametrize("listener", ["0.0.0.0", "::"])
@pytest_twisted.ensureDeferred
async def test_f34_a_multicast_is_for_a_protocol_of_your_own(client, listener):
    """Without a guard it is received, marked as such, and answered from an address of ours."""
    unicast = []

    class Answer(DatagramProtocol):
        noisy = False

        def datagramReceived(self, datagram, addr):
            unicast.append(self.transport.packet_info.unicast)
            self.transport.write(datagram, addr)

    opened = open_datagram(InternetAddress(listener, 0))
    group = socket.inet_aton("224.0.0.251") + socket.inet_aton("127.0.0.1")
    opened.sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
    port = DatagramPort(reactor, opened.sock, Answer(), ignore, lambda: None)
    port.startListening()
    assert await client(asked_at, "224.0.0.251", opened.port) == ("127.0.0.1", opened.port)
    assert unicast[0] is False
    await port.stopListening()


@pytest.mark.parametrize("listener", ["0.0.0.0", "::"])
@pytest_twisted.ensureDeferred
async def test_f42_a_request_from_before_the_start_is_answered(client, listener):
    """An inherited socket may hold datagrams that came before pktinfo was enabled."""

    class Answer(DatagramProtocol):
        noisy = False

        def datagramReceived(self, datagram, addr):
            self.transport.write(b"unicast" * self.transport.packet_info.unicast, addr)

    opened = open_datagram(InternetAddress(listener, 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(CLIENT_TIMEOUT)
        sock.sendto(b"early", ("127.0.0.2", opened.port))
        port = DatagramPort(reactor, opened.sock, Answer(), ignore, lambda: None)
        port.startListening()
        assert await client(sock.recvfrom, 100) == (b"unicast", ("127.0.0.2", opened.port))
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_f42_the_kernel_chooses_the_source_address_of_what_is_sent_later(client):
    """Only a reply to the datagram that is being served leaves from the address asked."""
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


@pytest.mark.parametrize("reused", [False, True], ids=["closed", "reused"])
@pytest_twisted.ensureDeferred
async def test_f38_a_descriptor_that_is_no_longer_ours_is_left_alone(serve, client, reused):
    """Its number may be that of another file; the server goes on with a new socket."""
    server = serve("udp daytime=127.0.0.1:0")
    [opened], listener = server.sockets, server.listeners[0]._listener
    before = opened.address
    number = opened.sock.fileno()
    service = listener._port._protocol._service
    replace, open_again = listener._port.replace_socket, Deferred()
    listener._port.replace_socket = lambda sock: open_again.callback(replace(sock))
    other = os.open(os.devnull, os.O_RDONLY)

    def close_it(datagram, addr):
        service.datagramReceived = service.transport.write
        if reused:
            os.dup2(other, number)
        else:
            os.close(number)

    service.datagramReceived = close_it
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"close it", target(opened))
    await open_again.addTimeout(TIMEOUT, reactor)
    assert opened.address == before
    assert await client(ask, opened, b"next") == [b"next"]
    if reused:
        assert os.path.sameopenfile(number, other)
        os.close(number)
    os.close(other)


@pytest_twisted.ensureDeferred
async def test_f43_the_drops_of_the_kernel_are_counted(serve):
    """While the listener is suspended, the kernel drops and counts what its buffer cannot hold."""
    server = serve("udp discard=127.0.0.1:0", socket_options=["SO_RCVBUF=4096"])
    listener = server.listeners[0]
    if listener.kernel_drops is None:
        pytest.skip("this kernel has no SO_MEMINFO")
    assert listener.kernel_drops == 0
    listener.suspend()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _ in range(100):
            sock.sendto(bytes(1000), target(server.sockets[0]))
    assert 0 < listener.kernel_drops < 100
    listener.resume()


def test_f43_a_closed_socket_has_no_count():
    """The kernel has no number for it any more."""
    opened = open_datagram(InternetAddress("127.0.0.1", 0))
    opened.close()
    assert kernel_drops(opened.sock) is None


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
    """F37: after an ICMP error the protocol is called, and receives on, on every reactor."""
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
async def test_f28_a_datagram_longer_than_the_buffer_is_dropped(client):
    """F28: it is reported, and not served in part; the next one is served."""
    received, dropped = Deferred(), []

    class Collect(DatagramProtocol):
        noisy = False

        def datagramReceived(self, datagram, addr):
            received.callback(datagram)

    def drop(reason, error):
        dropped.append(reason)

    opened = open_datagram(InternetAddress("127.0.0.1", 0))
    port = DatagramPort(reactor, opened.sock, Collect(), drop, lambda: None, max_size=1000)
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
    """F105: modulo 2^32 from 2036-02-07 06:28:16 on; nothing where the clock is before 1900."""

    def ask_both(stream, datagrams, echo):
        with connect(stream) as sock:
            text = read_all(sock)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"?", target(datagrams))
            if answer is None:
                ask(echo, b"so the other one was seen too")
                sock.setblocking(False)
            with suppress(BlockingIOError):
                return text, sock.recv(100)
        return text, None

    monkeypatch.setattr(netsrv_services.time, "_clock", lambda: now)
    names = ("tcp time=127.0.0.1:0", "udp time=127.0.0.1:0", "udp echo=127.0.0.1:0")
    server = serve(*names)
    assert await client(ask_both, *server.sockets) == (answer or b"", answer)


@pytest_twisted.ensureDeferred
async def test_a_port_has_all_that_twisted_offers(client):
    """Multicast, broadcast and connected sending work as with Twisted's own port."""
    opened = open_datagram(InternetAddress("127.0.0.1", 0))
    service = DatagramProtocol()
    service.noisy = False
    port = DatagramPort(reactor, opened.sock, service, ignore, lambda: None)
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
    port.write(b"is anyone there?")
    await port.stopListening()


def test_sending_to_another_family_is_refused(expected_failures):
    """An IPv4 port raises for an IPv6 address."""
    opened = open_datagram(InternetAddress("127.0.0.1", 0))
    port = DatagramPort(reactor, opened.sock, DatagramProtocol(), ignore, lambda: None)
    with pytest.raises(InvalidAddressError):
        port.write(b"x", ("::1", 7))
    opened.close()


GROUP = "239.255.3.8"


class Joins(DatagramProtocol):
    """Joins a group, and changes what it can at the socket."""

    noisy = False

    def __init__(self):
        self.joined = Deferred()

    def startProtocol(self):
        self.transport.joinGroup(GROUP, "127.0.0.1").chainDeferred(self.joined)
        self.transport.setTTL(7)
        self.transport.setLoopbackMode(False)
        self.transport.setOutgoingInterface("127.0.0.1")
        self.transport.setBroadcastAllowed(True)
        self.transport.getHandle().setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 9)


class Connects(DatagramProtocol):
    """Connects to a peer that never sends."""

    noisy = False

    def startProtocol(self):
        self.transport.connect("127.0.0.1", 9)


def options_of(sock):
    """Return options that a service may have changed."""
    numbers = (socket.IP_TTL, socket.IP_MULTICAST_TTL, socket.IP_MULTICAST_LOOP)
    values = [sock.getsockopt(socket.IPPROTO_IP, number) for number in numbers]
    size = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    return [*values, sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST), size]


@pytest_twisted.ensureDeferred
async def test_f143_a_reload_leaves_no_socket_state_of_the_service_before(started, client):
    """The socket stays; each service finds it as the configuration asks for it."""
    first, second = Joins(), Joins()
    server = started(Server(reactor, [listener("udp", "0.0.0.0:0", first)]))
    [handle], [opened] = server.listeners, server.sockets
    await first.joined.addTimeout(TIMEOUT, reactor)
    sock = opened.sock
    fresh = open_datagram(InternetAddress("0.0.0.0", 0)).sock
    expected = options_of(fresh)
    fresh.close()
    for protocol in ("echo", second, Connects(), "echo", Connects(), "discard", "echo"):
        handle.update(listener("udp", "0.0.0.0:0", protocol))
        assert server.sockets[0].sock is sock
        if isinstance(protocol, str):
            assert options_of(sock) == expected
        if protocol == "echo":
            assert await client(ask, opened, b"hello") == [b"hello"]
    await second.joined.addTimeout(TIMEOUT, reactor)


@pytest_twisted.ensureDeferred
async def test_f143_options_that_a_reload_changes_are_kept(started):
    """They are set after what the service before did is undone."""
    first = Joins()
    server = started(Server(reactor, [listener("udp", "0.0.0.0:0", first)]))
    [handle], [opened] = server.listeners, server.sockets
    await first.joined.addTimeout(TIMEOUT, reactor)
    options = {"SO_RCVBUF": 30_000, "IP_TTL": 11}
    handle.update(listener("udp", "0.0.0.0:0", "echo", socket_options=options))
    assert opened.sock.getsockopt(socket.IPPROTO_IP, socket.IP_TTL) == 11
    assert opened.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 60_000


@pytest_twisted.ensureDeferred
async def test_f143_a_socket_that_cannot_be_restored_is_opened_again(started, client, monkeypatch):
    """It keeps its address, also if the new service cannot be started."""
    monkeypatch.setattr(state, "library", lambda: None)
    server = started(Server(reactor, [listener("udp", "127.0.0.1:0", Connects())]))
    [handle] = server.listeners
    address = handle.info()["address"]

    class Fails(DatagramProtocol):
        noisy = False

        def startProtocol(self):
            raise ValueError("never")

    with pytest.raises(ValueError, match="never"):
        handle.update(listener("udp", "127.0.0.1:0", Fails()))
    handle.update(listener("udp", "127.0.0.1:0", "echo"))
    assert handle.info()["address"] == address
    assert await client(ask, server.sockets[0], b"hello") == [b"hello"]
