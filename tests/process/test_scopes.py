"""Link-local peers on a host with two links: everything goes over the right one."""

import errno
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.protocol import DatagramProtocol

from netsrv.datagrams import batched
from netsrv.interfaces import DropReason
from tests.datagrams.wires import Port
from tests.process import needs
from tests.process.networks import Host
from tests.process.running import Running, located
from tests.process.starts import EPOLL, SERVE
from tests.timeouts import CLIENT_TIMEOUT

pytestmark = pytest.mark.version_independent

SERVER, CLIENT = "2001:db8::1", "fe80::9"
GROUP = "ff02::1:7"
MANY = 40


class TwoLinks:
    """A server with two links, and a client on the second one."""

    def __init__(self) -> None:
        needs.ipv6()
        self.server, self.client = Host(), Host()
        self.server.ip("link add wrong type veth peer name unused")
        for name in ("wrong", "unused"):  # the kernel's choice, without a scope
            self.server.ip(f"link set {name} up")
            self.server.ip(f"addr add fe80::77/64 dev {name} nodad")
        self.connect()

    def connect(self) -> None:
        """Make the second link."""
        wire = f"link add client type veth peer name right netns {self.server.path}"
        self.client.ip(wire)
        self.server.ip("link set right up")
        self.client.ip("link set client up")
        self.server.ip(f"addr add {SERVER}/64 dev right nodad")
        self.server.ip("addr add fe80::1/64 dev right nodad")
        self.client.ip(f"addr add {CLIENT}/64 dev client nodad")
        self.client.ip(f"-6 route add {SERVER}/128 dev client")

    def connect_again(self) -> None:
        """Remove the second link, and make it again: its interface has another number."""
        before = self.number()
        self.client.ip("link del client")
        self.connect()
        assert self.number() != before

    def number(self) -> int:
        """Return the number of the server's second interface."""
        with self.server.inside():
            return socket.if_nametoindex("right")

    def peer(self) -> socket.socket:
        """Return a socket of the client, at its link-local address."""
        with self.client.inside():
            scope = socket.if_nametoindex("client")
        sock = self.client.open(socket.AF_INET6, socket.SOCK_DGRAM)
        sock.bind((CLIENT, 0, 0, scope))
        return sock

    def close(self) -> None:
        """Drop both hosts."""
        self.client.close()
        self.server.close()


@pytest.fixture
def links() -> Iterator[TwoLinks]:
    """Return a server with two links."""
    links = TwoLinks()
    yield links
    links.close()


@pytest.mark.parametrize("start", [SERVE, EPOLL], ids=["serve", "epoll"])
@pytest.mark.parametrize("service", ["echo", "discard", "chargen"])
@pytest.mark.parametrize("listener", ["[::]", f"[{SERVER}]"])
def test_f138_a_link_local_peer_of_a_global_address_is_answered(
    listener, service, start, links, tmp_path
):
    """Every datagram, one by one and in a burst; batches and single replies are alike."""
    command = [*start.command, "--udp", f"echo={listener}:0", "--udp", f"{service}={listener}:0"]
    with (
        Running(links.server.command(*located(command)), tmp_path) as server,
        links.peer() as sock,
    ):
        ports = server.port("udp", 1), server.port("udp", 2)
        for _ in range(3):
            sock.sendto(b"alone", (SERVER, ports[0]))
            assert sock.recv(100) == b"alone"
        for count in (3, MANY):
            for number in range(count):
                sock.sendto(b"%d" % number, (SERVER, ports[0]))
            assert [sock.recv(100) for _ in range(count)] == [b"%d" % n for n in range(count)]
        for _ in range(MANY if service == "chargen" else 0):
            sock.sendto(b"x", (SERVER, ports[1]))
            sock.recv(1000)
        sock.sendto(b"x", (SERVER, ports[1]))
        assert server.stop() == start.drained
        assert "dropped" not in server.output


class Silent(DatagramProtocol):
    """Keeps the address of each datagram, and calls *serve* for it."""

    noisy = False

    def __init__(self, serve: Callable[[Any, Any], None] = lambda transport, addr: None) -> None:
        self.serve = serve
        self.addresses: list[Any] = []

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.addresses.append(addr)
        self.serve(self.transport, addr)


class Bound:
    """A socket of the server on all addresses, for `Port`."""

    def __init__(self, links: TwoLinks) -> None:
        self.sock = links.server.open(socket.AF_INET6, socket.SOCK_DGRAM)
        self.sock.bind(("::", 0))
        self.sock.setblocking(False)


@pytest.fixture(params=["batched", "single"])
def forms(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send by the call for many, or by single calls."""
    if request.param == "single":
        monkeypatch.setattr(batched, "usable", lambda sock: False)
    else:
        monkeypatch.setattr(batched, "MIN_BATCH_SEND", 0)


ADDRESSES: dict[str, Callable[[int, int], tuple[Any, ...]]] = {
    "name": lambda port, number: (f"{CLIENT}%right", port),
    "number": lambda port, number: (f"{CLIENT}%{number}", port),
    "four items": lambda port, number: (CLIENT, port, 0, number),
    "four items and a name": lambda port, number: (f"{CLIENT}%right", port, 0, 0),
    "group by name": lambda port, number: (f"{GROUP}%right", port),
    "group by four items": lambda port, number: (GROUP, port, 0, number),
}
"""The forms in which a service may write an address, given the port and the interface's number."""


@pytest.mark.usefixtures("forms")
@pytest.mark.parametrize("form", ADDRESSES)
def test_f138_every_form_of_an_address_keeps_its_scope(form, links):
    """What is sent at any time, alone or beside others, goes over the named link."""
    wire = Bound(links)
    port = Port(wire, Silent())
    peer = listening(links)
    address = ADDRESSES[form](peer.getsockname()[1], links.number())

    def many(transport, addr):
        for number in range(10):
            transport.write(b"%d" % number, address)

    with links.server.inside():
        for _ in range(2):  # the second address may be remembered
            port.port.write(b"alone", address)
            assert peer.recv(100) == b"alone"
        port.protocol.serve = many
        peer.sendto(b"go", ("fe80::1", wire.sock.getsockname()[1], 0, scope(links)))
        port.read()
    assert [peer.recv(100) for _ in range(10)] == [b"%d" % number for number in range(10)]
    assert port.dropped == []
    assert port.protocol.addresses[0][0] == f"{CLIENT}%{links.number()}"
    peer.close()
    port.port.stopListening()


def scope(links: TwoLinks) -> int:
    """Return the number of the client's interface."""
    with links.client.inside():
        return socket.if_nametoindex("client")


def listening(links: TwoLinks) -> socket.socket:
    """Return a socket of the client that gets what is sent to its address, or to the group."""
    peer = links.client.open(socket.AF_INET6, socket.SOCK_DGRAM)
    number = scope(links)
    peer.setsockopt(
        socket.IPPROTO_IPV6,
        socket.IPV6_JOIN_GROUP,
        socket.inet_pton(socket.AF_INET6, GROUP) + number.to_bytes(4, "little"),
    )
    peer.bind(("::", 0))
    peer.settimeout(CLIENT_TIMEOUT)
    return peer


@pytest.mark.parametrize("host", [f"{CLIENT}%right", f"{CLIENT}%NUMBER"])
def test_f138_a_connected_port_keeps_the_scope(host, links):
    """It sends over the named link, and receives from its peer."""
    wire = Bound(links)
    port = Port(wire, Silent())
    peer = listening(links)
    with links.server.inside():
        host = host.replace("NUMBER", str(links.number()))
        port.port.connect(host, peer.getsockname()[1])
        port.port.write(b"hello")
        data, address = peer.recvfrom(100)
        assert data == b"hello"
        peer.sendto(b"back", address)
        port.read()
    assert len(port.protocol.addresses) == 1
    assert port.dropped == []
    peer.close()
    port.port.stopListening()


@pytest.mark.usefixtures("forms")
def test_f138_an_interface_that_was_made_again_is_found(links):
    """Its name leads to its new number; while it is missing, packets are dropped and counted."""
    wire = Bound(links)
    port = Port(wire, Silent())
    with links.server.inside():
        for _ in range(2):
            peer = listening(links)
            address = (f"{CLIENT}%right", peer.getsockname()[1])
            for _ in range(3):
                port.port.write(b"hello", address)
                assert peer.recv(100) == b"hello"
            peer.close()
            links.connect_again()
        assert port.dropped == []
        links.client.ip("link del client")
        port.port.write(b"lost", address)
    assert port.dropped == [(DropReason.SEND_ERROR, errno.errorcode[errno.ENODEV])]
    port.port.stopListening()


def test_f138_a_connection_without_its_interface_is_refused(links):
    """The error of the system is raised, as by connect(2)."""
    port = Port(Bound(links), Silent())
    with links.server.inside(), pytest.raises(OSError, match="No such device"):
        port.port.connect(f"{CLIENT}%missing", 9)
    port.port.stopListening()
