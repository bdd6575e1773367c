"""The source of a peer, for limits."""

import pytest

from netsrv.guards.sources import source_of


def test_mapped_ipv4_is_ipv4():
    """F13: `::ffff:192.0.2.1` and `192.0.2.1` are one identity."""
    assert source_of("::ffff:192.0.2.1") == source_of("192.0.2.1")
    assert source_of("192.0.2.1").key == bytes([192, 0, 2, 1])


def test_an_ipv6_64_is_one_source():
    """F12: 2^64 addresses of one network count together, and a scope does not matter."""
    assert source_of("2001:db8::1").key == source_of("2001:db8::ffff:ffff:ffff:ffff").key
    assert source_of("2001:db8::1").key != source_of("2001:db8:0:1::1").key
    assert source_of("fe80::1%2") == source_of("fe80::1")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("128.0.0.1", False),
        ("::2", False),
    ],
)
def test_loopback_is_known(host, loopback):
    """Sources on this machine can be told from others."""
    assert source_of(host).loopback == loopback


@pytest.mark.parametrize("host", ["", "name", "1.2.3", "::g"])
def test_what_is_no_address_is_refused(host):
    """Only an address has a source."""
    with pytest.raises(ValueError, match="is not an IP address"):
        source_of(host)
