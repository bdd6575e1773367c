"""Sets of ports, against sets of numbers."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsrv.guards.ports import MAX_PORT, PortRanges, parse_ports, show_ports


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
    """A list of ports and ranges, or none; any set of ports is shown in this form."""
    assert parse_ports(text) == ports
    assert show_ports(ports) == text
    assert repr(parse_ports(text)) == f"PortRanges({text!r})"


@pytest.mark.parametrize("digits", ["080", "0000080", "0" * 99 + "80"])
def test_zeros_before_a_port_change_nothing(digits):
    """However many there are."""
    assert parse_ports(f"0000000-{digits}") == parse_ports("0-80")


@pytest.mark.parametrize("text", ["", "x", "7-", "9-7", "65536", "-1", "7,,8", "0-99999999999"])
def test_a_text_that_is_no_list_of_ports_is_rejected(text):
    """A ValueError shows the syntax."""
    with pytest.raises(ValueError, match="ports"):
        parse_ports(text)


RANGE = st.tuples(st.integers(0, 40), st.integers(0, 8)).map(lambda pair: (pair[0], sum(pair)))


@given(st.lists(RANGE), st.lists(RANGE))
def test_f132_ranges_are_the_set_of_their_numbers(ranges, others):
    """Merged ranges have the numbers, the size and the equality of a plain set."""
    plain = {port for low, high in ranges for port in range(low, high + 1)}
    ports, other = PortRanges(ranges), PortRanges(others)
    assert ports == plain
    assert plain == ports
    assert hash(ports) == hash(frozenset(plain))
    assert [port in ports for port in range(-1, 60)] == [port in plain for port in range(-1, 60)]
    assert (ports == other) == (plain == set(other))
    assert ports | other == plain | set(other)
    assert all(end + 1 < start for (_, end), (start, _) in pairwise(ports.ranges))


def test_f132_a_range_costs_its_text_however_long_it_is_and_often_it_stands():
    """The whole range many times is one range, and no set of 65,536 numbers is ever made."""
    ports = parse_ports(",".join(["0-65535", "7"] * 10_000))
    assert ports.ranges == [(0, MAX_PORT)]
    assert len(ports) == MAX_PORT + 1
    assert MAX_PORT in ports
    assert MAX_PORT + 1 not in ports
    assert "7" not in ports
