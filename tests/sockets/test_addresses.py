"""Addresses: what users may write, and how they are shown."""

import re
import socket

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.testing import StringTransport

from netsrv.sockets import AddressUnavailable, open_datagram, open_stream
from netsrv.sockets.addresses import (
    SAME,
    InternetAddress,
    UnixPath,
    parse_internet,
    parse_unix,
    show_address,
    show_peer,
    show_sockaddr,
    split_service,
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("51423", InternetAddress("", 51423)),
        ("0", InternetAddress("", 0)),
        ("65535", InternetAddress("", 65535)),
        ("same", InternetAddress("", SAME)),
        ("127.0.0.1:7", InternetAddress("127.0.0.1", 7)),
        ("127.0.0.1:same", InternetAddress("127.0.0.1", SAME)),
        ("localhost:7", InternetAddress("localhost", 7)),
        ("[::1]:7", InternetAddress("::1", 7)),
        ("[fe80::1%eth0]:7", InternetAddress("fe80::1%eth0", 7)),
        ("[::]:0", InternetAddress("::", 0)),
    ],
)
def test_addresses_are_port_host_port_or_ipv6_in_brackets(text, address):
    """Each form of the interface is understood."""
    assert parse_internet(text) == address


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("", "write PORT"),
        ("abc", "write PORT"),
        ("-1", "write PORT"),
        ("65536", "0 to 65535"),
        ("9" * 5000, "0 to 65535"),
        ("127.0.0.1", "write PORT"),
        ("127.0.0.1:", "write PORT"),
        ("::1:7", "brackets, as in [::1]:7"),
        ("[::1]", "brackets"),
        ("[localhost]:7", "only an IPv6 address"),
        (":7", "write 7 for all"),
        ("\u0667", "write PORT"),
        ("1_0", "write PORT"),
        ("a\0b:7", "NUL"),
    ],
)
def test_what_is_no_address_is_refused_with_what_would_be_right(text, advice):
    """A mistake in an address is a ValueError that says how one is written."""
    with pytest.raises(ValueError, match=re.escape(advice)):
        parse_internet(text)


@pytest.mark.parametrize(("text", "advice"), [("", "needs a path"), ("a\0b", "NUL")])
def test_a_unix_socket_needs_a_path(text, advice):
    """An empty path, or one that no file can have, is refused."""
    with pytest.raises(ValueError, match=advice):
        parse_unix(text)


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("7", ("accept", "7")),
        ("echo=7", ("echo", "7")),
        ("acme.echo-2=[::1]:7", ("acme.echo-2", "[::1]:7")),
        ("/run/a=b.sock", ("accept", "/run/a=b.sock")),
        ("echo=/run/a=b.sock", ("echo", "/run/a=b.sock")),
        ("=7", ("accept", "=7")),
    ],
)
def test_a_service_stands_before_the_address(text, split):
    """SERVICE= is split off, and a path that contains = is left whole."""
    assert split_service(text, "accept") == split


@pytest.mark.parametrize(
    ("sockaddr", "shown"),
    [
        (("127.0.0.1", 7), "127.0.0.1:7"),
        (("::1", 7, 0, 0), "[::1]:7"),
        (("::ffff:192.0.2.1", 7, 0, 0), "192.0.2.1:7"),
        (("::ffff:1:2", 7, 0, 0), "[::ffff:1:2]:7"),
        ("/run/x.sock", "/run/x.sock"),
        (b"\0abstract\x1b", "\\x00abstract\\x1b"),
    ],
)
def test_socket_addresses_are_shown_as_one_line(sockaddr, shown):
    """IPv6 stands in brackets, IPv4 inside IPv6 is IPv4, and control characters are escaped."""
    assert show_sockaddr(sockaddr) == shown


def test_twisteds_addresses_are_shown_alike():
    """Twisted's address objects look like the kernel's."""
    assert show_address(IPv4Address("TCP", "127.0.0.1", 7)) == "127.0.0.1:7"
    assert show_address(IPv6Address("TCP", "::ffff:10.0.0.1", 7)) == "10.0.0.1:7"
    assert show_address(UNIXAddress("/run/x.sock")) == "/run/x.sock"


def test_a_peer_without_credentials_is_shown_as_unix():
    """Where the platform does not tell who a unix peer is, the log says just unix."""
    assert show_peer(StringTransport(peerAddress=UNIXAddress(""))) == "unix"


def test_addresses_show_what_the_user_would_write():
    """An address can be shown in messages as it may be written."""
    assert str(InternetAddress("", 7)) == "0.0.0.0:7"
    assert str(InternetAddress("::1", SAME)) == "[::1]:same"
    assert str(UnixPath("/run/x.sock")) == "/run/x.sock"


LO = socket.if_nametoindex("lo")


@pytest.mark.parametrize(
    ("sockaddr", "shown"),
    [
        (("fe80::1", 7, 0, LO), "[fe80::1%lo]:7"),
        (("fe80::1", 7, 0, 0), "[fe80::1]:7"),
        ((f"fe80::1%{LO}", 7), "[fe80::1%lo]:7"),
        (("fe80::1%lo", 7, 0, LO), "[fe80::1%lo]:7"),
        (("fe80::1", 7, 0, 999_999), "[fe80::1%999999]:7"),
        (("fe80::1", 7, 0, 2**32 - 1), f"[fe80::1%{2**32 - 1}]:7"),
        (("fe80::1%\x1b[31m", 7), "[fe80::1%\\x1b[31m]:7"),
        (("ff02::1", 7, 0, LO), "[ff02::1%lo]:7"),
        (("::1", 7, 0, 0), "[::1]:7"),
        (("127.0.0.1", 7, 0, LO), "127.0.0.1:7"),
    ],
)
def test_f138_a_link_local_address_is_shown_with_its_zone(sockaddr, shown):
    """The zone is the name of the interface, or its number if there is none of that number."""
    assert show_sockaddr(sockaddr) == shown


def test_f138_addresses_of_twisted_have_their_zone():
    """Twisted keeps the zone beside the host, or within it."""
    assert show_address(IPv6Address("TCP", "fe80::1", 7, 0, LO)) == "[fe80::1%lo]:7"
    assert show_address(IPv6Address("TCP", "fe80::1%lo", 7)) == "[fe80::1%lo]:7"
    assert show_address(IPv6Address("TCP", "::ffff:10.0.0.1", 7, 0, LO)) == "10.0.0.1:7"


@pytest.mark.parametrize("open_socket", [open_stream, open_datagram])
def test_f138_a_missing_zone_is_hinted_at(open_socket):
    """The kernel says only that the argument is invalid."""
    expected = r"\[fe80::1\]:0: Invalid argument: a link-local address needs its zone, as in \[fe80"
    with pytest.raises(AddressUnavailable, match=expected):
        open_socket(InternetAddress("fe80::1", 0))
