"""What a service does to its socket does not reach the next service."""

import socket
import struct
from contextlib import suppress

import pytest

from netsrv.datagrams import state
from netsrv.datagrams.state import SocketState
from netsrv.services.echo import EchoDatagrams
from tests.datagrams.wires import Collect, Port, Wire, bound

pytestmark = pytest.mark.skipif("sys.platform != 'linux'", reason="restored on Linux only")

GROUP, GROUP6 = "239.255.3.7", "ff02::1:3"
LOOPBACK = 1
"""The number of the loopback interface."""

CHANGES = [
    (socket.SOL_SOCKET, socket.SO_BROADCAST, 1),
    (socket.SOL_SOCKET, socket.SO_RCVBUF, 20_000),
    (socket.SOL_SOCKET, socket.SO_SNDBUF, 20_000),
    (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1),
    (socket.SOL_SOCKET, socket.SO_PRIORITY, 3),
    (socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0"),
    (socket.IPPROTO_IP, socket.IP_TTL, 3),
    (socket.IPPROTO_IP, socket.IP_TOS, 0x10),
    (socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 7),
    (socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0),
    (socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1")),
    (socket.IPPROTO_UDP, 103, 500),  # UDP_SEGMENT
    (socket.IPPROTO_UDP, 104, 1),  # UDP_GRO
]
CHANGES6 = [
    (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 3),
    (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 7),
    (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0),
    (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, LOOPBACK),
    (socket.IPPROTO_IPV6, socket.IPV6_TCLASS, 8),
    (socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1),
]


@pytest.fixture(params=["0.0.0.0", "127.0.0.1", "::", "::1"])
def sock(request):
    """A socket on a port that the kernel has chosen."""
    sock = bound(request.param)
    yield sock
    sock.close()


def values(sock, changes):
    """Return what the kernel tells of options."""
    return [sock.getsockopt(level, number, 16) for level, number, _ in changes]


def test_f143_the_options_are_restored(sock):
    """Whichever way they were set, and in whichever order."""
    changes = CHANGES + (CHANGES6 if sock.family == socket.AF_INET6 else [])
    before, saved = values(sock, changes), SocketState(sock)
    changed = 0
    for level, number, value in changes:
        with suppress(PermissionError):
            sock.setsockopt(level, number, value)
        changed += (
            sock.getsockopt(level, number, 16) != before[changes.index((level, number, value))]
        )
    sock.setblocking(True)
    assert changed > len(changes) - 3
    saved.restore()
    assert values(sock, changes) == before
    assert sock.gettimeout() == 0


def test_f143_an_outgoing_interface_given_by_its_number_is_forgotten():
    """The kernel does not return such a number."""
    sock = bound("0.0.0.0")
    saved = SocketState(sock)
    mreqn = struct.pack("4s4si", bytes(4), bytes(4), LOOPBACK)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, mreqn)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
    join(sock, GROUP)
    sock.sendto(b"over loopback", (GROUP, sock.getsockname()[1]))
    assert sock.recv(100) == b"over loopback"
    saved.restore()
    join(sock, GROUP)
    with suppress(OSError):  # where there is no other interface
        sock.sendto(b"by the routes", (GROUP, sock.getsockname()[1]))
    with pytest.raises(BlockingIOError):
        sock.recv(100)
    sock.close()


@pytest.mark.parametrize("reused", [False, True], ids=["port chosen", "port given"])
def test_f143_a_connected_socket_is_disconnected(sock, reused):
    """It keeps its address, also a port that the kernel has chosen, and what waits in it."""
    if reused:
        name = sock.getsockname()
        sock.close()
        sock = socket.socket(sock.family, socket.SOCK_DGRAM)
        sock.bind(name)
        sock.setblocking(False)
    host = "::1" if sock.family == socket.AF_INET6 else "127.0.0.1"
    peer, other = bound(host), bound(host)
    before, saved = sock.getsockname(), SocketState(sock)
    sock.connect(peer.getsockname())
    target = sock.getsockname()
    peer.sendto(b"waits", target)
    saved.restore()
    assert sock.getsockname() == before
    other.sendto(b"from another", target)
    assert [sock.recv(100), sock.recv(100)] == [b"waits", b"from another"]
    for opened in (sock, peer, other):
        opened.close()


def join(sock, group):
    """Join a group on the loopback interface, as a protocol may do by `getHandle`."""
    if ":" in group:
        mreq = socket.inet_pton(socket.AF_INET6, group) + struct.pack("i", LOOPBACK)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, mreq)
    else:
        mreqn = struct.pack("4s4si", socket.inet_aton(group), bytes(4), LOOPBACK)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, mreqn)


@pytest.mark.parametrize(("host", "groups"), [("0.0.0.0", [GROUP]), ("::", [GROUP, GROUP6])])
def test_f143_the_groups_are_left(host, groups):
    """The next service can join them again; those of another socket are not touched."""
    sock, other = bound(host), bound(host)
    saved = SocketState(sock)
    for group in groups:
        join(sock, group)
        join(other, group)
        with pytest.raises(OSError, match="in use"):
            join(sock, group)
    saved.restore()
    for group in groups:
        join(sock, group)
        with pytest.raises(OSError, match="in use"):
            join(other, group)
    sock.close()
    other.close()


@pytest.mark.parametrize("reason", ["no library", "no list of groups", "another system"])
def test_f143_a_socket_that_cannot_be_restored_is_closed(monkeypatch, reason):
    """A listener opens it again."""
    if reason == "no library":
        monkeypatch.setattr(state, "library", lambda: None)
    elif reason == "another system":
        monkeypatch.setattr(state.sys, "platform", "darwin")
    else:
        monkeypatch.setattr(state, "_groups", refuse)
    wire = Wire()
    port = Port(wire, Collect())
    port.port.connect(*wire.peers[0])
    port.port.detach()
    assert wire.sock.fileno() == -1
    wire.close()


def refuse(path):
    """Raise what an unreadable list raises."""
    raise OSError("no /proc")


def test_f143_a_socket_that_was_never_handed_out_is_left_alone(monkeypatch):
    """A service that only receives and writes costs nothing at a reload."""
    wire = Wire()
    port = Port(wire, EchoDatagrams())
    wire.arrive(b"x")
    port.read()
    assert port.port.kernel_drops == 0
    monkeypatch.setattr(SocketState, "restore", refuse)
    port.port.detach()
    assert wire.sock.fileno() != -1
    wire.close()
