"""How a datagram arrived: what the kernel's messages mean."""

import socket
import sys
from socket import IPPROTO_IP, IPPROTO_IPV6, IPV6_PKTINFO, inet_aton, inet_pton

import pytest

from netsrv.datagrams.pktinfo import enable_pktinfo, parse_pktinfo
from netsrv.guards.sources import PacketInfo

IP_PKTINFO = 8
LOOPBACK, ETHERNET = (index.to_bytes(4, sys.byteorder) for index in (1, 2))
NOTHING = bytes(4)

pytestmark = pytest.mark.skipif("sys.platform != 'linux'", reason="only Linux is asked")


def over_ipv4(interface, own, asked):
    """Give the message of in_pktinfo, see ip(7)."""
    return IPPROTO_IP, IP_PKTINFO, interface + inet_aton(own) + inet_aton(asked)


def over_ipv6(asked, interface):
    """Give the message of in6_pktinfo, see RFC 3542."""
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
def test_f34_what_was_sent_to_many_has_another_address_beside_ours(
    interface, own, asked, unicast, loopback
):
    """ipi_spec_dst is ours, ipi_addr is the header's; an answer leaves from ours."""
    answer = over_ipv4(NOTHING, own, "0.0.0.0")
    assert parse_pktinfo([over_ipv4(interface, own, asked)]) == PacketInfo(
        unicast, loopback, (answer,)
    )


@pytest.mark.parametrize(("asked", "unicast"), [("192.0.2.1", True), ("224.0.0.1", False)])
def test_a_datagram_may_have_come_before_the_kernel_was_asked(asked, unicast):
    """Then it tells the header's address alone, and that is no sign of a broadcast."""
    answer = over_ipv4(NOTHING, asked, "0.0.0.0")
    told = parse_pktinfo([over_ipv4(NOTHING, "0.0.0.0", asked)])
    assert told == PacketInfo(unicast, loopback=True, reply_ancdata=(answer,))


def test_f41_f42_an_answer_over_ipv6_leaves_from_the_address_asked():
    """Only a link-local address is none without its interface."""
    assert parse_pktinfo([over_ipv6("2001:db8::1", ETHERNET)]).reply_ancdata == (
        over_ipv6("2001:db8::1", NOTHING),
    )
    assert parse_pktinfo([over_ipv6("febf::1", ETHERNET)]).reply_ancdata == (
        over_ipv6("febf::1", ETHERNET),
    )
    assert parse_pktinfo([over_ipv6("ff02::1", ETHERNET)]) == PacketInfo(unicast=False)


def test_an_ipv4_datagram_at_an_ipv6_socket_has_two_messages():
    """The one of IPv4 counts, whichever comes first; others are somebody else's."""
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
def test_only_a_socket_of_many_addresses_is_asked(host, asked, loopback):
    """One that is bound to one address keeps the plain way."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        space, packet_info = enable_pktinfo(sock)
        assert (space > 0, packet_info) == (asked, PacketInfo(loopback=loopback))
        assert sock.getsockopt(socket.IPPROTO_IP, IP_PKTINFO) == asked
