"""The faults of a listener: selection, seeds, expiry, changes on live connections."""

import pytest
from twisted.internet.task import Clock

from netsrv.faults.table import FaultTable
from netsrv.guards.access import parse_network
from netsrv.guards.sources import source_of
from tests.faults.lines import Service, Transport, join, make_fault


class Lines:
    """A table, and connections that have its faults."""

    def __init__(self, *faults):
        self.clock = Clock()
        self.table = FaultTable(self.clock, self.clock.seconds)
        for fault in faults:
            self.table.add(fault.settings)

    def connect(self, peer="192.0.2.1"):
        service, transport = Service(self.clock), Transport(self.clock)
        assert self.table.refusal(None) is None
        connection = self.table.wrap(source_of(peer) if peer else None)
        join(connection, transport, service)
        connection.start()
        return transport

    def hits(self, count=20, peer="192.0.2.1"):
        """Return a letter for each of some connections: x if it is hit by a `limit_data`."""
        answers = ""
        for _ in range(count):
            transport = self.connect(peer)
            transport.owner.write(b"x")
            answers += "." if transport.data else "x"
        return answers


@pytest.mark.parametrize(
    ("selectors", "expected"),
    [
        ({}, "xxxxxxxxxxxx"),
        ({"first": 3}, "xxx........."),
        ({"skip": 2}, "..xxxxxxxxxx"),
        ({"every": 3}, "..x..x..x..x"),
        ({"skip": 1, "every": 2, "first": 3}, "..x.x.x....."),
        ({"probability": 0}, "............"),
        ({"probability": -1}, "............"),
        ({"probability": 7}, "xxxxxxxxxxxx"),
    ],
)
def test_selectors_say_which_connections_are_hit(selectors, expected):
    """Selectors say which connections are hit."""
    assert Lines(make_fault("limit_data", **selectors)).hits(12) == expected


def test_one_seed_hits_the_same_connections_each_time_and_another_seed_others():
    """One seed hits the same connections each time and another seed others."""
    runs = [
        Lines(make_fault("limit_data", probability=0.5, seed=seed)).hits(64) for seed in (7, 7, 8)
    ]
    assert runs[0] == runs[1] != runs[2]
    assert 20 < runs[0].count("x") < 44


def test_draws_do_not_depend_on_what_other_connections_do():
    """Draws do not depend on what other connections do."""
    quiet = Lines(make_fault("latency", latency=50, jitter=50, seed=3))
    busy = Lines(make_fault("latency", latency=50, jitter=50, seed=3))
    busy_first = busy.connect()
    quiet.connect()
    for _ in range(17):
        busy_first.owner.write(b"noise")
    ends = []
    for lines in (quiet, busy):
        transport = lines.connect()
        for _ in range(5):
            transport.owner.write(b"x")
            lines.clock.pump([0.001] * 150)
        ends.append([event[0] for event in transport.events])
    assert ends[0] == ends[1]


def test_only_from_counts_the_peers_of_its_networks_only():
    """Only from counts the peers of its networks only."""
    lines = Lines(make_fault("limit_data", first=2, only_from=(parse_network("198.51.100.0/24"),)))
    assert lines.hits(3) == "..."
    assert lines.hits(3, "198.51.100.9") == "xx."
    assert lines.hits(1, None) == "."


def test_a_fault_is_removed_when_its_time_is_over():
    """A fault is removed when its time is over."""
    lines = Lines(make_fault("latency", latency=60_000, ttl=5.0), make_fault("noop", ttl=2.0))
    transport = lines.connect()
    transport.owner.write(b"x")
    lines.clock.advance(2)
    assert list(lines.table.faults) == ["latency_downstream"]
    lines.clock.advance(3)
    assert not lines.table.faults
    assert transport.events == [(5000, "data", b"x")]
    assert not lines.clock.getDelayedCalls()


def test_a_fault_that_is_added_hits_live_connections():
    """A fault that is added hits live connections."""
    lines = Lines()
    transport = lines.connect()
    lines.table.add(make_fault("timeout", timeout=100).settings)
    lines.clock.advance(0.1)
    assert transport.events == [(100, "close")]
    assert not lines.table.targets


def test_a_name_is_taken_once():
    """A name is taken once."""
    lines = Lines(make_fault("noop", "a"))
    with pytest.raises(KeyError):
        lines.table.add(make_fault("latency", "a").settings)
    with pytest.raises(KeyError):
        lines.table.remove("b")


def test_replace_keeps_equal_faults_with_their_counts():
    """Replace keeps equal faults with their counts."""
    kept, changed = make_fault("limit_data", "kept"), make_fault("latency", "changed", latency=1)
    lines = Lines()
    lines.table.replace([kept.settings, changed.settings])
    lines.hits(3)
    lines.table.replace(
        [make_fault("limit_data", "kept").settings, make_fault("latency", "changed").settings]
    )
    assert lines.table.faults["kept"].hits == 3
    assert lines.table.faults["changed"].hits == 0
    lines.table.replace([])
    assert lines.hits(1) == "."


def test_the_same_connections_are_hit_in_both_directions():
    """The same connections are hit in both directions."""
    lines = Lines(make_fault("limit_data", stream="both", first=2))
    assert lines.hits(4) == "xx.."
    assert lines.table.faults["limit_data_both"].hits == 4
