"""latency, bandwidth, slicer and slow_close, to the millisecond."""

from tests.faults.lines import Line, make_fault


def test_latency_counts_from_the_arrival_of_each_chunk():
    """Latency counts from the arrival of each chunk."""
    line = Line(make_fault("latency", latency=100))
    for _ in range(3):
        line.connection.write(b"x")
        line.step(20)
    line.step(200)
    assert line.peer.events == [(100, "data", b"x"), (120, "data", b"x"), (140, "data", b"x")]


def test_latencies_add_up_in_their_order():
    """Latencies add up in their order."""
    line = Line(make_fault("latency", latency=100), make_fault("latency", "more", latency=70))
    line.connection.write(b"x")
    line.step(300)
    assert line.peer.events == [(170, "data", b"x")]


def test_a_late_chunk_holds_back_those_behind_it():
    """A late chunk holds back those behind it."""
    line = Line(make_fault("latency", latency=50, jitter=40, seed=3))
    for number in range(20):
        line.connection.write(b"%c" % number)
        line.step(5)
    line.step(200)
    assert line.peer.data == bytes(range(20))
    delays = [event[0] - 5 * number for number, event in enumerate(line.peer.events)]
    assert min(delays) < 45
    assert 70 < max(delays) <= 105


def test_an_end_behind_data_waits_for_it_and_another_does_not():
    """An end behind data waits for it and another does not."""
    line = Line(make_fault("latency", latency=300))
    line.connection.write(b"x")
    line.connection.loseWriteConnection()
    line.step(400)
    assert line.peer.events == [(300, "data", b"x"), (300, "fin")]
    line = Line(make_fault("latency", latency=300))
    line.connection.loseWriteConnection()
    assert line.peer.events == [(0, "fin")]


def test_an_update_frees_the_chunk_that_is_next():
    """An update frees the chunk that is next."""
    fault = make_fault("latency", latency=2000)
    line = Line(fault)
    line.connection.write(b"a")
    line.connection.write(b"b")
    line.step(200)
    fault.update(fault.settings.kind.attributes(latency=500), 1.0)
    line.connection.update(fault, redraw=False)
    line.step(400)
    assert line.peer.events == [(200, "data", b"a"), (500, "data", b"b")]


def test_the_removal_of_a_latency_passes_all_at_once():
    """The removal of a latency passes all at once."""
    fault = make_fault("latency", latency=2000)
    line = Line(fault)
    for number in range(500):
        line.connection.write(b"%d," % number)
    line.connection.loseWriteConnection()
    line.step(10)
    line.connection.remove(fault)
    assert line.peer.data == b"".join(b"%d," % number for number in range(500))
    assert line.peer.events[-1] == (10, "fin")


def test_a_bandwidth_delays_data_before_it_passes():
    """A bandwidth delays data before it passes."""
    line = Line(make_fault("bandwidth", rate=100))
    line.connection.write(bytes(30_000))
    line.step(400)
    assert [(time, len(data)) for time, _, data in line.peer.events] == [
        (100, 10_000),
        (200, 10_000),
        (300, 10_000),
    ]
    line.connection.write(b"x" * 1000)
    line.step(20)
    assert line.peer.events[-1] == (410, "data", b"x" * 1000)


def test_a_close_waits_for_data_that_a_bandwidth_holds():
    """A close waits for data that a bandwidth holds."""
    line = Line(make_fault("bandwidth", rate=100))
    line.connection.write(bytes(50_000))
    line.connection.loseConnection()
    line.step(600)
    assert len(line.peer.data) == 50_000
    assert line.peer.events[-1] == (500, "close")


def test_a_rate_of_none_is_no_limit():
    """A rate of none is no limit."""
    for rate in (0, -1):
        line = Line(make_fault("bandwidth", rate=rate))
        line.connection.write(b"x")
        assert line.peer.data == b"x"


def test_a_shared_bandwidth_is_one_line_for_all_connections():
    """A shared bandwidth is one line for all connections."""
    fault = make_fault("bandwidth", rate=100, shared=True)
    first, second = Line(fault), Line(fault, number=2)
    first.connection.write(bytes(20_000))
    second.connection.write(bytes(20_000))
    for _ in range(500):
        first.step(1)
        second.step(1)
    assert first.peer.events[-1][0] == 300
    assert second.peer.events[-1][0] == 400


def test_a_slicer_halves_until_the_pieces_are_small():
    """A slicer halves until the pieces are small."""
    line = Line(make_fault("slicer", average_size=100))
    line.connection.write(bytes(1000))
    sizes = [len(event[2]) for event in line.peer.events]
    assert set(sizes) == {62, 63}
    assert sum(sizes) == 1000


def test_a_slicer_waits_after_each_piece():
    """A slicer waits after each piece."""
    line = Line(make_fault("slicer", average_size=64, size_variation=32, delay=10_000, seed=1))
    data = bytes(number % 251 for number in range(1000))
    line.connection.write(data)
    line.step(500)
    times = [event[0] for event in line.peer.events]
    assert times == [10 * number for number in range(len(times))]
    assert line.peer.data == data
    assert all(len(event[2]) <= 96 for event in line.peer.events)


def test_values_of_a_slicer_that_killed_others_are_harmless():
    """Values of a slicer that killed others are harmless."""
    for values in (
        {"average_size": 0},
        {"average_size": 1, "size_variation": 1000},
        {"average_size": -5, "size_variation": -5, "delay": -1},
        {"average_size": 10, "size_variation": 11},
    ):
        line = Line(make_fault("slicer", **values))
        line.connection.write(bytes(5000))
        assert len(line.peer.data) == 5000, values


def test_slow_close_delays_the_end_of_its_direction_only():
    """Slow close delays the end of its direction only."""
    line = Line(make_fault("slow_close", delay=500))
    line.connection.readConnectionLost()
    assert line.service.events == [(0, "fin")]
    line.connection.write(b"x")
    line.connection.loseWriteConnection()
    line.step(600)
    assert line.peer.events == [(0, "data", b"x"), (500, "fin")]


def test_a_negative_latency_is_none():
    """A negative latency is none."""
    line = Line(make_fault("latency", latency=-100))
    line.connection.write(b"x")
    assert line.peer.events == [(0, "data", b"x")]
