"""The faults of `netsrv.testing`: each method by its effect, where delays cost no time."""

import pytest

from netsrv.testing import MemoryServer
from tests.testing.clients import arrivals, echoed

# Connections


def test_latency_delays(server):
    """By its milliseconds."""
    client = server.connect()
    with server.latency(100):
        client.send(b"x")
        assert arrivals(server, client, 150) == [(100, b"x")]


def test_latency_has_a_jitter():
    """The same with the same seed."""
    times = []
    for _ in range(2):
        server = MemoryServer("echo")
        server.latency(100, jitter=20, seed=7)
        client = server.connect()
        client.send(b"x")
        times.append(arrivals(server, client, 150))
    assert times[0] == times[1] != [(100, b"x")]


def test_latency_may_be_distributed_otherwise(server):
    """In the words of the type."""
    client = server.connect()
    server.latency(100, jitter=20, distribution="pareto", seed=7)
    client.send(b"x")
    [(time, _)] = arrivals(server, client, 300)
    assert time > 100


def test_bandwidth_limits_the_rate(server):
    """To so many bytes a millisecond."""
    client = server.connect()
    with server.bandwidth(1):
        client.send(b"x" * 200)
        assert [time for time, _ in arrivals(server, client, 300)] == [100, 200]


def test_slow_close_delays_the_end(server):
    """By its milliseconds."""
    client = server.connect()
    server.slow_close(100)
    client.end()
    server.advance(0.099)
    assert client.close_kind is None
    server.advance(0.001)
    assert client.close_kind == "closed"


def test_timeout_swallows_and_closes(server):
    """After its milliseconds without data."""
    server.timeout(100)
    client = server.connect()
    client.send(b"x")
    server.advance(0.2)
    assert (client.received, client.close_kind) == (b"", "closed")


def test_timeout_may_last_for_ever(server):
    """Without an argument."""
    server.timeout()
    client = server.connect()
    server.advance(3600)
    assert client.close_kind is None


def test_reset_peer_resets(server):
    """At the first data."""
    server.reset_peer()
    assert echoed(server) == (b"", "reset")


def test_slicer_slices(server):
    """With microseconds after each piece."""
    client = server.connect()
    server.slicer(1, delay=10_000)
    client.send(b"abc")
    assert arrivals(server, client, 50) == [(0, b"a"), (10, b"b"), (20, b"c")]


def test_limit_data_closes(server):
    """After so many bytes."""
    server.limit_data(2)
    assert echoed(server) == (b"he", "closed")


def test_packet_loss_drops_chunks(server):
    """All at a rate of 1."""
    server.packet_loss(1, correlation=0.5)
    assert echoed(server) == (b"", None)


@pytest.mark.parametrize(
    ("how", "kind"), [(None, "closed"), ("close", "closed"), ("reset", "reset")]
)
def test_limit_time_ends(server, how, kind):
    """After its milliseconds."""
    server.limit_time(100, how=how)
    client = server.connect()
    server.advance(0.2)
    assert client.close_kind == kind


def test_corrupt_changes_bytes(server):
    """One byte, at an offset."""
    server.corrupt(bytes=1, offset=2, stream="upstream")
    data, _ = echoed(server)
    assert data[:2] + data[3:] == b"helo"
    assert data[2:3] != b"l"


def test_stall_stops_reading(server):
    """After so many bytes, for its milliseconds."""
    server.stall(2, time=100)
    client = server.connect()
    client.send(b"hello")
    assert arrivals(server, client, 150) == [(0, b"he"), (100, b"llo")]


def test_half_close_ends_a_direction(server):
    """After so many bytes."""
    server.half_close(2)
    assert echoed(server) == (b"he", "closed")


@pytest.mark.parametrize(("how", "kind"), [("close", "closed"), ("reset", "reset")])
def test_refuse_ends_new_connections(server, how, kind):
    """The first three."""
    server.refuse(how, first=3)
    assert [server.connect().close_kind for _ in range(4)] == [kind] * 3 + [None]
    assert server.hits("refuse") == 3


def test_refuse_may_stall(server):
    """Until the fault ends."""
    with server.refuse("stall"):
        client = server.connect()
        client.send(b"x")
        assert client.received == b""
    assert client.received == b"x"


def test_down_refuses_and_ends_connections(server):
    """As if there were no server."""
    client = server.connect()
    with server.down():
        assert client.close_kind == "closed"
        with pytest.raises(ConnectionRefusedError):
            server.connect()
    assert echoed(server) == (b"hello", None)


def test_noop_counts(server):
    """And does nothing."""
    with server.noop() as counting:
        assert echoed(server) == (b"hello", None)
    assert counting.hits == 1


# Datagrams


def test_loss_drops(udp):
    """The first two, or all, or some by a probability and a seed."""
    with udp.loss(first=2) as losing:
        assert [udp.request(b"x") for _ in range(3)] == [[], [], [b"x"]]
    assert losing.hits == 2
    with udp.loss():
        assert udp.request(b"x") == []
    for _ in range(2):
        with udp.loss(0.5, seed=7):
            got = [number for number in range(10) if udp.request(b"x")]
        assert got == [0, 6, 7, 8, 9]


def test_loss_in_bursts(udp):
    """By the model of Gilbert and Elliott."""
    with udp.loss(model="gilbert", p=1, r=0, h=0, k=1):
        assert [udp.request(b"x") for _ in range(3)] == [[], [], []]


def test_latency_of_datagrams(udp):
    """In order, or not."""
    with udp.latency(100, jitter=90, keep_order=False, seed=7):
        for number in range(6):
            udp.send_datagram(b"%d" % number)
        assert udp.sent == []
        udp.advance(0.2)
    assert sorted(udp.sent) != udp.sent
    assert len(udp.sent) == 6


def test_reorder(udp):
    """Datagrams overtake the one that is held."""
    udp.reorder(2, first=1)
    for number in range(3):
        udp.send_datagram(b"%d" % number)
    assert [data for data, _ in udp.sent] == [b"1", b"2", b"0"]


def test_duplicate(udp):
    """Copies follow."""
    udp.duplicate(2)
    assert udp.request(b"x") == [b"x"] * 3


def test_corrupt_datagrams(udp):
    """A bit of each."""
    udp.corrupt(bits=1, seed=7)
    [data] = udp.request(b"\0\0")
    assert int.from_bytes(data).bit_count() == 1


def test_truncate_and_limit_size(udp):
    """Cut, or dropped."""
    with udp.truncate(2):
        assert udp.request(b"hello") == [b"he"]
    with udp.limit_size(4):
        assert (udp.request(b"hello"), udp.request(b"hell")) == ([], [b"hell"])


def test_bandwidth_of_datagrams(udp):
    """With a queue."""
    udp.bandwidth(1, queue=1)
    for _ in range(3):
        udp.send_datagram(b"x" * 100)
    udp.advance(1)
    assert len(udp.sent) == 1


def test_blackhole(udp):
    """Requests, too."""
    with udp.blackhole(stream="upstream"):
        assert udp.request(b"x") == []
    assert udp.counts.datagrams_dropped["fault"] == 1


@pytest.mark.parametrize("method", ["unreachable", "down"])
def test_unreachable(udp, method):
    """Datagrams do not arrive."""
    with getattr(udp, method)():
        assert udp.request(b"x") == []
    assert udp.request(b"x") == [b"x"]
