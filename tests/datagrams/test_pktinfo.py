"""How a datagram arrived: the meaning of the kernel's control messages."""

import socket
import sys
from socket import IPPROTO_IP, IPPROTO_IPV6, IPV6_PKTINFO, inet_aton, inet_pton

import pytest

from netsrv.datagrams.pktinfo import enable_pktinfo, parse_pktinfo
from netsrv.guards.sources import PacketInfo

IP_PKTINFO = 8
LOOPBACK, ETHERNET = (index.to_bytes(4, sys.byteorder) for index in (1, 2))
NOTHING = bytes(4)

pytestmark = pytest.mark.skipif("sys.platform != 'linux'", reason="other kernels are not asked")


def over_ipv4(interface, own, asked):
    """Return the control message of struct in_pktinfo, see ip(7)."""
    return IPPROTO_IP, IP_PKTINFO, interface + inet_aton(own) + inet_aton(asked)


def over_ipv6(asked, interface):
    """Return the control message of struct in6_pktinfo, see RFC 3542."""
    return IPPROTO_IPV6, IPV6_PKTINFO, inet_pton(socket.AF_INET6, asked) + interface


@pytest.mark.parametrize(
    ("interface", "own", "asked", "unicast", "loopback"),
    [
        (LOOPBACK, "127.0.0.2", "127.0.0.2", True, True),
        (ETHERNET, "192.0.2.1", "192.0.2.1", True, False),
        (ETHERNET, "192.0.2.1", "192.0.2.255", False, False),
        (ETHERNET, "192.0.2.1", "255.255.255.255", False, False),
        (ETHERNET, "192.0.2.1", "224.0.0.1", False, False),
    ],
)
def test_f34_a_broadcast_has_another_address_beside_ours(interface, own, asked, unicast, loopback):
    """ipi_spec_dst is ours, ipi_addr is the header's; a reply leaves from ours."""
    answer = over_ipv4(NOTHING, own, "0.0.0.0")
    assert parse_pktinfo([over_ipv4(interface, own, asked)]) == PacketInfo(
        unicast, loopback, (answer,)
    )


@pytest.mark.parametrize(("asked", "unicast"), [("192.0.2.1", True), ("224.0.0.1", False)])
def test_a_datagram_may_have_come_before_pktinfo_was_enabled(asked, unicast):
    """Then the message has the header's address only, which is no sign of a broadcast."""
    answer = over_ipv4(NOTHING, asked, "0.0.0.0")
    packet_info = parse_pktinfo([over_ipv4(NOTHING, "0.0.0.0", asked)])
    assert packet_info == PacketInfo(unicast, loopback=True, reply_ancdata=(answer,))


def test_f41_f42_a_reply_over_ipv6_leaves_from_the_address_asked():
    """A reply from a link-local address needs its interface, and no other does."""
    assert parse_pktinfo([over_ipv6("2001:db8::1", ETHERNET)]).reply_ancdata == (
        over_ipv6("2001:db8::1", NOTHING),
    )
    assert parse_pktinfo([over_ipv6("febf::1", ETHERNET)]).reply_ancdata == (
        over_ipv6("febf::1", ETHERNET),
    )
    assert parse_pktinfo([over_ipv6("ff02::1", ETHERNET)]) == PacketInfo(unicast=False)


def test_an_ipv4_datagram_at_an_ipv6_socket_has_two_messages():
    """The one of IPv4 is used, in either order; messages of other kinds are ignored."""
    ipv4 = over_ipv4(ETHERNET, "192.0.2.1", "192.0.2.255")
    ipv6 = over_ipv6("::ffff:192.0.2.255", ETHERNET)
    timestamp = socket.SOL_SOCKET, 29, bytes(16)
    assert (
        parse_pktinfo([timestamp, ipv6, ipv4])
        == parse_pktinfo([ipv4, ipv6])
        == parse_pktinfo([ipv4])
    )
    assert parse_pktinfo([timestamp]) == PacketInfo()


@pytest.mark.parametrize(
    ("host", "asked", "loopback"),
    [
        ("127.0.0.1", False, True),
        ("0.0.0.0", True, True),
        ("127.255.255.255", True, True),
        ("224.0.0.1", True, True),
    ],
)
def test_pktinfo_is_enabled_for_wildcards_and_broadcasts_only(host, asked, loopback):
    """A socket that is bound to a unicast address gets no control messages."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        space, packet_info = enable_pktinfo(sock)
        assert (space > 0, packet_info) == (asked, PacketInfo(loopback=loopback))
        assert sock.getsockopt(socket.IPPROTO_IP, IP_PKTINFO) == asked
