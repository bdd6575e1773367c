"""The rules for datagrams."""

import pytest

from netsrv.guards.access import Access, parse_network
from netsrv.guards.datagrams import MAX_CACHED_VERDICTS, DatagramGuard
from netsrv.guards.ports import parse_ports
from netsrv.guards.rates import Rate
from netsrv.guards.sources import Flow, PacketInfo
from netsrv.interfaces import DropReason

GUARD = DatagramGuard(
    Access(None, [parse_network("192.0.2.66")]),
    parse_ports("0-1023,2049"),
    frozenset({51423}),
    Rate(1, 2),
)


def drop_of(guard, host, port, packet_info, now):
    """Return the reason to drop a datagram from there, or None."""
    return guard.drops([Flow((host, port), packet_info)], now).get(0)


@pytest.mark.parametrize(
    ("host", "port", "drop"),
    [
        ("192.0.2.1", 40000, None),
        ("2001:db8::1", 40000, None),
        ("192.0.2.1", 0, DropReason.SOURCE_PORT),
        ("192.0.2.1", 7, DropReason.SOURCE_PORT),
        ("192.0.2.1", 1023, DropReason.SOURCE_PORT),
        ("192.0.2.1", 1024, None),
        ("192.0.2.1", 2049, DropReason.SOURCE_PORT),
        ("192.0.2.1", 51423, DropReason.OWN_PORT),
        ("::1", 51423, DropReason.OWN_PORT),
        ("0.0.0.0", 40000, DropReason.NOT_UNICAST),
        ("224.0.0.1", 40000, DropReason.NOT_UNICAST),
        ("255.255.255.255", 40000, DropReason.NOT_UNICAST),
        ("::", 40000, DropReason.NOT_UNICAST),
        ("ff02::1", 40000, DropReason.NOT_UNICAST),
        ("::ffff:224.0.0.1", 40000, DropReason.NOT_UNICAST),
        ("192.0.2.66", 40000, DropReason.ACCESS),
    ],
)
def test_a_datagram_that_no_client_sends_is_dropped(host, port, drop):
    """F29-F31, F33: a server's port, one of ours, or an address that no host can have."""
    assert drop_of(GUARD, host, port, PacketInfo(), 1_000_000) == drop


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "127.0.0.1"])
def test_f34_a_broadcast_is_dropped(host):
    """Many hosts would answer it, and a forged sender would get all the replies."""
    packet_info = PacketInfo(unicast=False)
    assert drop_of(GUARD, host, 40000, packet_info, 0) is DropReason.DESTINATION


def test_f33_a_loopback_address_comes_over_the_loopback_interface():
    """Over another interface it is forged; any other address may come over any interface."""
    guard = DatagramGuard(Access(), frozenset(), frozenset(), None)
    elsewhere = PacketInfo(loopback=False)
    for host in ("127.0.0.1", "127.255.0.1", "::ffff:127.0.0.1"):
        assert drop_of(guard, host, 40000, elsewhere, 0) is DropReason.MARTIAN
        assert drop_of(guard, host, 40000, PacketInfo(), 0) is None
    assert drop_of(guard, "192.0.2.1", 40000, elsewhere, 0) is None


def test_port_0_is_never_served():
    """F29: no reply can be sent to it, whatever ports are refused."""
    guard = DatagramGuard(Access(), frozenset(), frozenset(), None)
    assert drop_of(guard, "192.0.2.1", 0, PacketInfo(), 0) is DropReason.SOURCE_PORT


def test_each_source_has_a_rate_except_this_machine():
    """F32, F36: without tokens a source is not served; an IPv6 /64 is one source."""
    guard = DatagramGuard(Access(), frozenset(), frozenset(), Rate(1, 2))
    for one, other in (("192.0.2.1", "192.0.2.1"), ("2001:db8::1", "2001:db8::2")):
        answers = [drop_of(guard, host, 40000, PacketInfo(), 0) for host in (one, other, one)]
        assert answers == [None, None, DropReason.DATAGRAM_RATE]
    assert drop_of(guard, "192.0.2.1", 40000, PacketInfo(), 1) is None
    for _ in range(5):
        assert drop_of(guard, "127.0.0.1", 40000, PacketInfo(), 0) is None


def test_the_first_of_a_batch_are_served_up_to_the_rate():
    """F36: the flows of a source share its tokens; other sources are served."""
    guard = DatagramGuard(Access(), frozenset({7}), frozenset(), Rate(1, 2))
    one, other, bad = Flow(("192.0.2.1", 1)), Flow(("192.0.2.2", 1)), Flow(("192.0.2.2", 7))
    batch = [one, bad, one, other, one, one, bad]
    assert guard.drops(batch, 0) == {
        1: DropReason.SOURCE_PORT,
        4: DropReason.DATAGRAM_RATE,
        5: DropReason.DATAGRAM_RATE,
        6: DropReason.SOURCE_PORT,
    }
    assert guard.drops([other, other, other], 0) == {
        1: DropReason.DATAGRAM_RATE,
        2: DropReason.DATAGRAM_RATE,
    }


def test_other_rules_judge_every_flow_again():
    """A verdict is remembered until the rules change; own ports may change at any time."""
    own_ports = set()
    guard = DatagramGuard(Access(), frozenset(), own_ports, None)
    peer = Flow(("192.0.2.1", 7))
    assert guard.drops([peer], 0) == {}
    own_ports.add(7)
    assert guard.drops([peer], 0) == {0: DropReason.OWN_PORT}
    own_ports.clear()
    guard.set_rules(Access(), frozenset({7}), None)
    assert guard.drops([peer], 0) == {0: DropReason.SOURCE_PORT}
    guard.set_rules(Access(None, [parse_network("192.0.2.0/24")]), frozenset(), None)
    assert guard.drops([peer], 0) == {0: DropReason.ACCESS}


def test_the_verdicts_that_are_remembered_are_bounded():
    """A flood from forged addresses does not fill the memory."""
    guard = DatagramGuard(Access(), frozenset(), frozenset(), None)
    for port in range(1, MAX_CACHED_VERDICTS + 10):
        guard.drops([Flow(("192.0.2.1", port))], 0)
    assert len(guard._flow_verdicts) <= MAX_CACHED_VERDICTS
