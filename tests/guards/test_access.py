"""Access by network, against a search through all networks."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsrv.guards.access import Access, parse_network
from netsrv.guards.limits import Limits
from netsrv.guards.sources import source_of


def networks(*texts):
    """Parse several networks."""
    return [parse_network(each) for each in texts]


@pytest.mark.parametrize(
    ("only_from", "no_access", "host", "allowed"),
    [
        (None, [], "192.0.2.1", True),
        (["10.0.0.0/8"], [], "10.1.2.3", True),
        (["10.0.0.0/8"], [], "11.0.0.1", False),
        (["10.0.0.0/8"], [], "2001:db8::1", False),
        (None, ["10.66.0.0/16"], "10.66.0.1", False),
        (None, ["10.66.0.0/16"], "10.67.0.1", True),
        (["10.0.0.0/8"], ["10.66.0.0/16"], "10.66.0.1", False),
        (["10.66.6.6"], ["10.66.0.0/16"], "10.66.6.6", True),
        (["10.0.0.0/8"], ["10.0.0.0/8"], "10.0.0.1", False),
        (["2001:db8::/32"], [], "2001:db8:1::1", True),
        (["2001:db8::/32"], [], "2001:db9::1", False),
        (None, ["::ffff:192.0.2.0/120"], "192.0.2.1", False),
        (None, ["192.0.2.0/24"], "::ffff:192.0.2.1", False),
        (["0.0.0.0/0"], [], "192.0.2.1", True),
        (["::/0"], [], "192.0.2.1", False),
    ],
)
def test_the_longest_prefix_decides(only_from, no_access, host, allowed):
    """F13: of two equal prefixes the one that denies, and mapped IPv4 is IPv4."""
    networks_allowed = None if only_from is None else networks(*only_from)
    access = Access(networks_allowed, networks(*no_access))
    assert access.allows(source_of(host)) == allowed


@pytest.mark.parametrize("host", ["192.0.2.1", "127.0.0.1", "::1", "2001:db8::1"])
@pytest.mark.parametrize("no_access", [[], ["10.0.0.0/8"]])
def test_f141_an_empty_list_allows_no_source(host, no_access):
    """An empty list of allowed networks is a list: it does not contain any source."""
    assert not Access([], networks(*no_access)).allows(source_of(host))
    assert not Limits(only_from=()).access.allows(source_of(host))
    assert Limits().access.allows(source_of(host))


@pytest.mark.parametrize("text", ["", "10.0.0.1/8", "300.0.0.1", "::1/129", "name.example", "1"])
def test_what_is_no_network_is_refused(text):
    """A network with host bits, or none at all, is a ValueError that says how one is written."""
    with pytest.raises(ValueError, match="write a network as"):
        parse_network(text)


NETWORK = st.tuples(st.integers(0, 2**6 - 1), st.integers(26, 32)).map(
    lambda pair: ip_network((0x0A000000 + (pair[0] >> (32 - pair[1]) << (32 - pair[1])), pair[1]))
)
"""IPv4 networks that overlap a lot."""


@given(st.none() | st.lists(NETWORK), st.lists(NETWORK), st.integers(0, 2**6 - 1))
def test_the_look_up_agrees_with_a_search(only_from, no_access, last):
    """Whatever the networks, the tables answer as a search through all of them does."""
    address = ip_address(0x0A000000 + last)
    matches = [(each.prefixlen, False) for each in no_access if address in each]
    matches += [(each.prefixlen, True) for each in only_from or () if address in each]
    longest = max((prefix for prefix, _ in matches), default=None)
    answers = [answer for prefix, answer in matches if prefix == longest]
    expected = all(answers) if answers else only_from is None
    assert Access(only_from, no_access).allows(source_of(str(address))) == expected
