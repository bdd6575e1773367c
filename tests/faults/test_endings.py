"""timeout, reset_peer, limit_data, limit_time, stall and half_close."""

import pytest

from tests.faults.lines import Line, make_fault


def test_a_timeout_drops_data_and_begins_again_with_each_chunk():
    """A timeout drops data and begins again with each chunk."""
    line = Line(make_fault("timeout", timeout=500))
    line.step(300)
    line.connection.write(b"x")
    line.step(600)
    assert line.peer.events == [(800, "close")]
    assert line.service.events == [(800, "lost")]


def test_a_timeout_of_0_is_never_and_its_removal_closes():
    """A timeout of 0 is never and its removal closes."""
    fault = make_fault("timeout", timeout=0)
    line = Line(fault)
    line.connection.write(b"x")
    line.step(10_000)
    assert not line.peer.events
    line.connection.remove(fault)
    assert line.peer.events == [(10_000, "close")]


def test_the_removal_of_a_timeout_that_does_not_hit_closes_nothing():
    """The removal of a timeout that does not hit closes nothing."""
    fault = make_fault("timeout", timeout=0, probability=0)
    line = Line(fault)
    line.connection.write(b"x")
    line.connection.remove(fault)
    assert line.peer.events == [(0, "data", b"x")]


def test_data_flows_again_when_the_probability_becomes_0():
    """Data flows again when the probability becomes 0."""
    fault = make_fault("timeout", timeout=1000)
    line = Line(fault)
    line.connection.write(b"x")
    fault.update(fault.settings.attributes, 0.0)
    line.connection.update(fault, redraw=True)
    line.connection.write(b"y")
    line.step(2000)
    assert line.peer.events == [(0, "data", b"y")]


def test_reset_peer_resets_at_the_first_data():
    """Reset peer resets at the first data."""
    line = Line(make_fault("reset_peer"))
    line.connection.dataReceived(b"x")
    assert line.service.events == [(0, "data", b"x")]
    line.connection.write(b"x")
    assert line.peer.events == [(0, "reset")]


def test_reset_peer_waits_after_the_first_data_only():
    """Reset peer waits after the first data only."""
    line = Line(make_fault("reset_peer", timeout=500))
    line.step(100)
    line.connection.write(b"x")
    line.step(100)
    line.connection.write(b"x")
    line.step(500)
    assert line.peer.events == [(600, "reset")]


def test_a_close_is_a_reset_under_reset_peer_unless_it_does_not_hit():
    """A close is a reset under reset peer unless it does not hit."""
    line = Line(make_fault("reset_peer"))
    line.connection.loseConnection()
    assert line.peer.events == [(0, "reset")]
    line = Line(make_fault("reset_peer", probability=0))
    line.connection.loseConnection()
    assert line.peer.events == [(0, "close")]


@pytest.mark.parametrize("sizes", [[250], [100], [60, 40, 100], [60, 60]])
def test_limit_data_passes_exactly_its_bytes(sizes):
    """Limit data passes exactly its bytes."""
    line = Line(make_fault("limit_data", bytes=100))
    for size in sizes:
        line.connection.write(bytes(size))
    assert len(line.peer.data) == 100
    assert line.peer.events[-1] == (0, "close")


def test_a_limit_below_what_has_passed_holds_with_the_next_chunk():
    """A limit below what has passed holds with the next chunk."""
    fault = make_fault("limit_data", bytes=100)
    line = Line(fault)
    line.connection.write(bytes(60))
    fault.update(fault.settings.kind.attributes(bytes=50), 1.0)
    line.connection.update(fault, redraw=False)
    assert len(line.peer.events) == 1
    line.connection.write(b"x")
    assert len(line.peer.data) == 60
    assert line.peer.events[-1] == (0, "close")


@pytest.mark.parametrize("order", [1, -1])
def test_what_has_passed_a_limit_is_sent_before_the_close(order):
    """What has passed a limit is sent before the close."""
    faults = [make_fault("limit_data", bytes=10), make_fault("latency", latency=300)][::order]
    line = Line(*faults)
    line.connection.write(bytes(20))
    line.step(400)
    assert line.peer.events == [(300, "data", bytes(10)), (300, "close")]


def test_limit_data_upstream_gives_the_service_its_bytes_and_ends_both():
    """Limit data upstream gives the service its bytes and ends both."""
    line = Line(make_fault("limit_data", stream="upstream", bytes=3))
    line.connection.dataReceived(b"hello")
    assert line.service.events == [(0, "data", b"hel"), (0, "lost")]
    assert line.peer.events == [(0, "close")]


@pytest.mark.parametrize("how", ["close", "reset"])
def test_limit_time_ends_the_connection_after_its_time(how):
    """Limit time ends the connection after its time."""
    line = Line(make_fault("limit_time", time=250, how=how))
    line.connection.write(b"x")
    line.step(300)
    assert line.peer.events == [(0, "data", b"x"), (250, how)]


def test_a_stalled_direction_pauses_its_sender_and_loses_nothing():
    """A stalled direction pauses its sender and loses nothing."""
    fault = make_fault("stall", stream="upstream", after=3)
    line = Line(fault)
    line.connection.dataReceived(b"hello")
    assert line.service.data == b"hel"
    assert line.peer.events == [(0, "pause")]
    line.connection.readConnectionLost()
    line.connection.remove(fault)
    assert [event[1:] for event in line.service.events] == [
        ("data", b"hel"),
        ("data", b"lo"),
        ("fin",),
    ]
    assert line.peer.events[-1] == (0, "resume")


def test_a_stall_may_be_over_after_a_time():
    """A stall may be over after a time."""
    line = Line(make_fault("stall", stream="upstream", after=0, time=200))
    assert line.peer.events == [(0, "pause")]
    line.connection.dataReceived(b"x")
    line.step(300)
    assert line.service.events == [(200, "data", b"x")]
    line.connection.dataReceived(b"y")
    assert line.service.data == b"xy"


def test_half_close_ends_one_direction_and_leaves_the_other():
    """Half close ends one direction and leaves the other."""
    line = Line(make_fault("half_close", after=3))
    line.connection.write(b"hello")
    line.connection.write(b"lost")
    line.connection.dataReceived(b"x")
    assert line.peer.events == [(0, "data", b"hel"), (0, "fin")]
    assert line.service.events == [(0, "data", b"x")]
