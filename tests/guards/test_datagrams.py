"""The rules for datagrams."""

import pytest

from netsrv.arrivals import Arrival
from netsrv.guards.access import Access, parse_network
from netsrv.guards.datagrams import DatagramGuard, parse_ports
from netsrv.guards.rates import Rate
from netsrv.interfaces import Drop
from netsrv.sources import source_of

GUARD = DatagramGuard(
    Access((), [parse_network("192.0.2.66")]),
    parse_ports("0-1023,2049"),
    frozenset({51423}),
    Rate(1, 2),
)


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("none", set()),
        ("7", {7}),
        ("7-9", {7, 8, 9}),
        ("0-1,2049", {0, 1, 2049}),
        ("65535", {65535}),
    ],
)
def test_ports_are_numbers_and_ranges(text, ports):
    """A list of ports and ranges, or none."""
    assert parse_ports(text) == ports


@pytest.mark.parametrize("text", ["", "x", "7-", "9-7", "65536", "-1", "7,,8", "0-99999999999"])
def test_what_are_no_ports_is_refused(text):
    """A mistake is a ValueError that says how ports are written."""
    with pytest.raises(ValueError, match="ports"):
        parse_ports(text)


@pytest.mark.parametrize(
    ("host", "port", "drop"),
    [
        ("192.0.2.1", 40000, None),
        ("2001:db8::1", 40000, None),
        ("192.0.2.1", 0, Drop.SOURCE_PORT),
        ("192.0.2.1", 7, Drop.SOURCE_PORT),
        ("192.0.2.1", 1023, Drop.SOURCE_PORT),
        ("192.0.2.1", 1024, None),
        ("192.0.2.1", 2049, Drop.SOURCE_PORT),
        ("192.0.2.1", 51423, Drop.OWN_PORT),
        ("::1", 51423, Drop.OWN_PORT),
        ("0.0.0.0", 40000, Drop.NOT_UNICAST),
        ("224.0.0.1", 40000, Drop.NOT_UNICAST),
        ("255.255.255.255", 40000, Drop.NOT_UNICAST),
        ("::", 40000, Drop.NOT_UNICAST),
        ("ff02::1", 40000, Drop.NOT_UNICAST),
        ("::ffff:224.0.0.1", 40000, Drop.NOT_UNICAST),
        ("192.0.2.66", 40000, Drop.ACCESS),
    ],
)
def test_a_datagram_from_where_no_client_is_is_dropped(host, port, drop):
    """F29-F31, F33: by its source port, one of ours, or an address that nobody can have."""
    assert GUARD.drop(source_of(host), port, Arrival(), 1_000_000) == drop


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "127.0.0.1"])
def test_f34_what_was_sent_to_many_is_dropped(host):
    """Nobody answers a broadcast: many would at once, and a forged sender would get it all."""
    arrival = Arrival(unicast=False)
    assert GUARD.drop(source_of(host), 40000, arrival, 0) is Drop.DESTINATION


def test_f33_a_loopback_address_comes_over_the_loopback_interface():
    """From elsewhere it is forged; any other address may come over any interface."""
    guard = DatagramGuard(Access(), frozenset(), frozenset(), None)
    elsewhere = Arrival(loopback=False)
    for host in ("127.0.0.1", "127.255.0.1", "::ffff:127.0.0.1"):
        assert guard.drop(source_of(host), 40000, elsewhere, 0) is Drop.MARTIAN
        assert guard.drop(source_of(host), 40000, Arrival(), 0) is None
    assert guard.drop(source_of("192.0.2.1"), 40000, elsewhere, 0) is None


def test_port_0_is_never_served():
    """F29: nothing can be sent back to it, whatever list is given."""
    guard = DatagramGuard(Access(), frozenset(), frozenset(), None)
    assert guard.drop(source_of("192.0.2.1"), 0, Arrival(), 0) is Drop.SOURCE_PORT


def test_a_source_has_its_rate_but_this_machine_has_none():
    """F32, F36: beyond its tokens a source is not served, an IPv6 /64 as one."""
    guard = DatagramGuard(Access(), frozenset(), frozenset(), Rate(1, 2))
    for one, other in (("192.0.2.1", "192.0.2.1"), ("2001:db8::1", "2001:db8::2")):
        answers = [guard.drop(source_of(host), 40000, Arrival(), 0) for host in (one, other, one)]
        assert answers == [None, None, Drop.DATAGRAM_RATE]
    assert guard.drop(source_of("192.0.2.1"), 40000, Arrival(), 1) is None
    for _ in range(5):
        assert guard.drop(source_of("127.0.0.1"), 40000, Arrival(), 0) is None
