"""Datagrams between hosts: addresses, broadcasts, forged senders, loops."""

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.process import needs
from tests.process.networks import Host, udp_packets
from tests.process.relay import Relay
from tests.process.running import Running, located
from tests.process.starts import SERVE

pytestmark = pytest.mark.version_independent

SERVER, SECOND, CLIENT = "192.0.2.1", "192.0.2.2", "192.0.2.9"
SERVER6, SECOND6, CLIENT6 = "2001:db8::1", "2001:db8::2", "2001:db8::9"
LINK_LOCAL = "fe80::1"
WHY = "; further drops are counted"

Serve = Callable[..., Running]


class Network:
    """A server with two addresses, a client, and a wire from one to the other."""

    def __init__(self) -> None:
        self.server, self.client = Host(), Host()
        wire = f"link add client type veth peer name server netns {self.server.path}"
        self.client.ip(wire)
        for host, name, numbers in ((self.server, "server", (1, 2)), (self.client, "client", (9,))):
            for number in numbers:
                host.ip(f"addr add 192.0.2.{number}/24 broadcast + dev {name}")
            host.ip(f"link set {name} up")

    def add_ipv6(self) -> None:
        """Add IPv6 addresses to both hosts, without duplicate address detection."""
        needs.ipv6()
        for host, name, numbers in ((self.server, "server", (1, 2)), (self.client, "client", (9,))):
            for number in numbers:
                host.ip(f"addr add 2001:db8::{number}/64 dev {name} nodad")
            host.ip(f"addr add fe80::{numbers[0]}/64 dev {name} nodad")

    def close(self) -> None:
        """Drop both hosts."""
        self.client.close()
        self.server.close()

    def scope(self) -> int:
        """Return the number of the client's interface."""
        with self.client.inside():
            return socket.if_nametoindex("client")


@pytest.fixture
def network() -> Iterator[Network]:
    """Return two hosts with a wire between them."""
    network = Network()
    yield network
    network.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start a server on a host."""
    with ExitStack() as running:
        yield lambda host, *options: running.enter_context(
            Running(host.command(*located([*SERVE.command, *options])), tmp_path)
        )


def ask(sock: socket.socket, host: str, port: int, data: bytes = b"x", scope: int = 0) -> str:
    """Send a datagram, and return the address that answers it."""
    sock.sendto(data, (host, port, 0, scope) if ":" in host else (host, port))
    answer, peer = sock.recvfrom(100)
    assert answer == data
    return str(peer[0]).partition("%")[0]


@pytest.mark.parametrize("listener", ["0.0.0.0:0", "[::]:0"])
def test_f42_a_reply_leaves_from_the_address_asked(listener, network, serve):
    """Each of a host's two addresses answers with its own address."""
    server = serve(network.server, "--udp", listener)
    port = server.port("udp")
    with network.client.open(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for host in (SERVER, SECOND, SERVER):
            assert ask(sock, host, port) == host


def test_f41_f42_every_ipv6_address_answers_for_itself(network, serve):
    """This includes a link-local address, which needs its interface."""
    network.add_ipv6()
    port = serve(network.server, "--udp", "[::]:0").port("udp")
    for own in ("::", CLIENT6):
        with network.client.open(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind((own, 0))
            for host, scope in ((SERVER6, 0), (SECOND6, 0), (LINK_LOCAL, network.scope())):
                assert ask(sock, host, port, scope=scope) == host


def test_f41_a_link_local_peer_is_answered_by_one_address(network, serve):
    """The peer's address alone names the interface, without IPV6_PKTINFO."""
    network.add_ipv6()
    port = serve(network.server, "--udp", f"[{LINK_LOCAL}%server]:0").port("udp")
    with network.client.open(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        assert ask(sock, LINK_LOCAL, port, scope=network.scope()) == LINK_LOCAL


@pytest.mark.parametrize(
    ("target", "listener"),
    [
        ("192.0.2.255", "0.0.0.0:0"),
        ("192.0.2.255", "[::]:0"),
        ("192.0.2.255", "192.0.2.255:0"),
        ("255.255.255.255", "0.0.0.0:0"),
        ("255.255.255.255", "[::]:0"),
        ("224.0.0.1", "0.0.0.0:0"),  # Linux hands it to no socket of IPv6 that has not joined
    ],
)
def test_f34_what_is_sent_to_many_is_not_answered(target, listener, network, serve):
    """Broadcast and multicast are dropped; the first one is logged with the reason."""
    server = serve(network.server, "--udp", listener, "--udp", f"{SERVER}:0")
    port, other = server.port("udp", 1), server.port("udp", 2)
    with network.client.open(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(CLIENT))
        sock.bind((CLIENT, 0))
        for _ in range(2):
            sock.sendto(b"is anyone there?", (target, port))
        server.wait_for(f"it was sent to a broadcast or multicast address{WHY}$")
        assert ask(sock, SERVER, other) == SERVER  # nothing else has come before
        peer = f"{CLIENT}:{sock.getsockname()[1]}"
    why = "it was sent to a broadcast or multicast address"
    server.wait_for(rf"dropped a datagram from {re.escape(peer)}: {why}{WHY}$")
    assert server.stop() == 0
    server.wait_for(r"Suppressed in the last second .*: 1 dropped datagram \(destination\)$")


def test_f34_ipv6_multicast_is_not_answered(network, serve):
    """A datagram to ff02::1, all hosts of the link, is dropped."""
    network.add_ipv6()
    server = serve(network.server, "--udp", "[::]:0")
    port = server.port("udp")
    with network.client.open(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"is anyone there?", ("ff02::1", port, 0, network.scope()))
        assert ask(sock, SERVER6, port) == SERVER6
    server.wait_for(f"it was sent to a broadcast or multicast address{WHY}$")


@pytest.mark.parametrize("listener", ["0.0.0.0:0", "[::]:0", f"{SERVER}:0"])
def test_f33_a_loopback_sender_from_elsewhere_is_dropped(listener, network, serve):
    """Linux drops it itself, unless route_localnet is set, as in container networks."""
    for name in ("all", "server"):
        network.server.set(f"ipv4/conf/{name}/rp_filter", 0)
        network.server.set(f"ipv4/conf/{name}/route_localnet", 1)
    server = serve(network.server, "--udp", listener)
    port = server.port("udp")
    with network.client.open(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert ask(sock, SERVER, port) == SERVER  # now both hosts have an ARP entry (arp(7))
    network.client.forge(("127.0.0.5", 40000), (SERVER, port), b"x")
    why = "its loopback source address came in on another interface"
    server.wait_for(rf"dropped a datagram from 127\.0\.0\.5:40000: {why}{WHY}$")
    assert "Got data from 127" not in server.output


def test_f33_the_kernel_keeps_forged_ipv6_loopback_out(network, serve):
    """A client with the address ::1 is therefore on this machine, whichever address it asks."""
    network.add_ipv6()
    server = serve(network.server, "--udp", "[::]:0")
    port = server.port("udp")
    network.client.forge(("::1", 40000), (SERVER6, port), b"x")
    network.client.forge((CLIENT6, 40001), (SERVER6, port), b"x")
    server.wait_for(rf"Got data from \[{CLIENT6}\]:40001 ")
    assert "40000" not in server.output
    with network.server.open(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind(("::1", 0))
        assert ask(sock, SERVER6, port) == SERVER6


def test_f31_two_ports_of_one_server_do_not_answer_each_other(network, serve):
    """A forged datagram between them causes no loop."""
    server = serve(network.server, "--udp", "0", "--udp", "0")
    one, other = server.port("udp", 1), server.port("udp", 2)
    with network.server.sniffer("lo") as sniffer:
        forged = (SERVER, other), (SERVER, one)
        network.server.forge(*forged, b"x")
        server.wait_for(rf"{SERVER}:{other}: its source port is one that this server serves")
        assert server.stop() == 0
        assert udp_packets(sniffer) == [(*forged[0], *forged[1])]


def test_f32_two_hosts_answer_each_other_as_long_as_the_rate_allows(network, serve):
    """A forged datagram starts a loop of one packet, which ends when a token bucket is empty."""
    burst = 20
    options = ("--udp", "0", "--datagram-rate", f"0.001:{burst}")
    here, there = serve(network.server, *options), serve(network.client, *options)
    ports = here.port("udp"), there.port("udp")
    assert ports[0] != ports[1]
    with network.server.sniffer("server") as came, network.client.sniffer("client") as went:
        # A third host could not see the loop; the client's host can, which has sent it.
        network.client.forge((CLIENT, ports[1]), (SERVER, ports[0]), b"x")
        here.wait_for(rf"{CLIENT}:{ports[1]}: its source exceeds the rate \(--datagram-rate\)")
        assert (here.stop(), there.stop()) == (0, 0)
        assert udp_packets(came) == [(CLIENT, ports[1], SERVER, ports[0])] * (burst + 1)
        assert udp_packets(went) == [(SERVER, ports[0], CLIENT, ports[1])] * burst


@pytest.mark.parametrize(
    ("service", "delay"),
    [("echo", 0.002), ("echo", 0.05), ("daytime", 0.01), ("chargen", 0.002)],
)
def test_f127_a_loop_over_a_slow_network_is_ended(service, delay, network, serve):
    """Each server answers within the rate; the loop ends, and others are answered."""
    server = serve(network.server, "--udp", f"{SERVER}:0")
    other = serve(network.server, "--udp", f"{service}={SERVER}:0")
    ports = server.port("udp"), other.port("udp")
    with Relay(network.server, SERVER, ports, delay) as relay:
        for _ in range(3):
            relay.forge(b"x")
        assert relay.is_silent()
        with network.client.open(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            assert ask(sock, SERVER, ports[0]) == SERVER
    assert relay.passed > 20
    assert (server.stop(), other.stop()) == (0, 0)
    assert "it repeats without end, as from a server that answers us" in (
        server.output + other.output
    )
