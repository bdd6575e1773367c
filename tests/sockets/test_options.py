"""Socket options by name: what is understood, and what is refused."""

import contextlib
import re
import socket
import sys

import pytest

from netsrv.sockets.options import named_option, parse_option, show_value

STREAM = (socket.AF_INET, socket.SOCK_STREAM)
DATAGRAM = (socket.AF_INET, socket.SOCK_DGRAM)
STREAM6 = (socket.AF_INET6, socket.SOCK_STREAM)
UNIX = (socket.AF_UNIX, socket.SOCK_STREAM)


@pytest.mark.parametrize(
    ("text", "level", "value"),
    [
        ("SO_RCVBUF=1048576", socket.SOL_SOCKET, 1048576),
        ("TCP_NODELAY=0", socket.IPPROTO_TCP, 0),
        ("IP_TOS=0x10", socket.IPPROTO_IP, 16),
        ("IPV6_V6ONLY=1", socket.IPPROTO_IPV6, 1),
        ("SO_LINGER=1:0", socket.SOL_SOCKET, (1, 0)),
        ("SO_LINGER=0:0", socket.SOL_SOCKET, (0, 0)),
        ("SO_BINDTODEVICE=eth0", socket.SOL_SOCKET, "eth0"),
        ("TCP_CONGESTION=cubic", socket.IPPROTO_TCP, "cubic"),
        ("SO_MAX_PACING_RATE=4294967295", socket.SOL_SOCKET, 2**32 - 1),
    ],
)
def test_an_option_is_a_name_and_a_value(text, level, value):
    """The prefix of the name tells the level, and each kind of value is understood."""
    option = parse_option(text)
    assert (option.name, option.level, option.value) == (text.partition("=")[0], level, value)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("SO_RCVBUF", "write NAME=VALUE"),
        ("SO_RCVBUF=", "a whole number"),
        ("SO_RCVBUF=1k", "a whole number"),
        ("SO_RCVBUF=4294967296", "does not fit in 32 bits"),
        ("SO_RCVBUF=-2147483649", "does not fit in 32 bits"),
        ("SO_LINGER=1", "takes 0:0 (off) or 1:0"),
        ("SO_LINGER=1:5", "would block"),
        ("SO_BINDTODEVICE=", "1 to 15 ASCII"),
        ("SO_BINDTODEVICE=averyverylongname", "1 to 15 ASCII"),
        ("SO_FOO=1", "not a socket option that"),
        ("so_rcvbuf=1", "not the name of a socket option"),
        ("AF_INET=1", "not the name of a socket option"),
        ("__class__=1", "not the name of a socket option"),
        ("IP_DEFAULT_MULTICAST_TTL=1", "not the name of a socket option"),
    ],
)
def test_what_is_no_option_is_refused_with_what_would_be_right(text, advice):
    """A mistake in an option is a ValueError that names it."""
    with pytest.raises(ValueError, match=re.escape(advice)):
        parse_option(text)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("UDP_GRO", "several datagrams would arrive as one"),
        ("UDP_SEGMENT", "a datagram would leave as several"),
        ("UDP_CORK", "several datagrams would leave as one"),
        ("IP_RECVERR", "errors that no service reads"),
        ("IPV6_RECVERR", "errors that no service reads"),
        ("IP_RECVERR_RFC4884", "errors that no service reads"),
        ("SO_TIMESTAMPING", "errors that no service reads"),
        ("IP_PKTINFO", "netsrv sets it"),
        ("IPV6_RECVPKTINFO", "netsrv sets it"),
        ("TCP_REPAIR", "instead of sending and receiving"),
    ],
)
@pytest.mark.parametrize("value", [0, 1, 500])
def test_f135_an_option_that_changes_what_a_call_means_is_refused(name, reason, value, monkeypatch):
    """The line says why, whether or not this version of Python has the name."""
    for known in (False, True):
        with monkeypatch.context() as patch:
            if known:
                patch.setattr(socket, name, 7, raising=False)
            with pytest.raises(ValueError, match=f"^{name} is not supported: .*{reason}"):
                named_option(name, value)


@pytest.mark.parametrize(
    "name",
    [
        "SO_J1939_PROMISC",
        "SO_J1939_FILTER",
        "SO_VM_SOCKETS_BUFFER_SIZE",
        "SO_ORIGINAL_DST",
        "SO_EE_ORIGIN_ICMP",
        "IP_PMTUDISC_DO",
        "IPV6_PMTUDISC_DO",
        "IPV6_RTHDR_TYPE_0",
        "IP_MAX_MEMBERSHIPS",
    ],
)
def test_f135_a_name_that_only_looks_like_an_options_is_refused(name, monkeypatch):
    """A constant of another level, or a value, would set another option by its number."""
    monkeypatch.setattr(socket, name, 2, raising=False)
    with pytest.raises(ValueError, match=f"'{name}' is not the name of a socket option"):
        parse_option(f"{name}=0")


def test_f135_every_name_that_is_taken_is_an_option_of_its_level():
    """The constants of Python's module are those of socket(7), tcp(7), udp(7), ip(7), ipv6(7)."""
    prefixes = ("SO_", "TCP_", "UDP_", "IP_", "IPV6_")
    names = [name for name in dir(socket) if name.startswith(prefixes)]
    taken = set()
    for name in names:
        with contextlib.suppress(ValueError):
            taken.add((named_option(name, 1).level, named_option(name, 1).number, name))
    numbers = [(level, number) for level, number, name in taken if name not in SYNONYMS]
    assert len(numbers) == len(set(numbers))


SYNONYMS = {"IP_RETOPTS"}
"""Second names: IP_RECVRETOPTS is the other one."""


@pytest.mark.skipif(sys.platform != "linux", reason="what Linux lacks is tested on Linux")
def test_an_option_of_another_system_is_told_from_an_unknown_one():
    """A name that exists elsewhere is said to be missing on this platform."""
    with pytest.raises(ValueError, match=r"SO_NOSIGPIPE is not an option of this platform"):
        parse_option("SO_NOSIGPIPE=1")


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("SO_RCVBUF", [STREAM, DATAGRAM, STREAM6, UNIX]),
        ("TCP_NODELAY", [STREAM, STREAM6]),
        ("IP_TOS", [STREAM, DATAGRAM, STREAM6]),
        ("IPV6_V6ONLY", [STREAM6]),
    ],
)
def test_an_option_belongs_to_some_kinds_of_socket(name, kinds):
    """The level tells which sockets an option is set on and which it skips."""
    option = named_option(name, 1)
    for kind in (STREAM, DATAGRAM, STREAM6, UNIX):
        with socket.socket(*kind) as sock:
            assert option.belongs_to(sock) == (kind in kinds)


@pytest.mark.parametrize(
    ("text", "in_effect"),
    [
        ("SO_KEEPALIVE=1", 1),
        ("SO_LINGER=1:0", (1, 0)),
        ("TCP_KEEPIDLE=77", 77),
        ("SO_BINDTODEVICE=lo", "lo"),
        ("SO_MAX_PACING_RATE=3000000000", 3_000_000_000),
    ],
)
def test_an_option_is_set_and_read_back(text, in_effect):
    """What is set on a socket can be read from it in the same form."""
    option = parse_option(text)
    with socket.socket(*STREAM) as sock:
        assert option.get(sock) != in_effect
        option.set(sock)
        assert option.get(sock) == in_effect


def test_values_are_shown_as_they_are_written():
    """The pair of SO_LINGER is shown with its colon."""
    assert [show_value(each) for each in (1, (1, 0), "eth0")] == ["1", "1:0", "eth0"]
