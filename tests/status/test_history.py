"""The history: a row a second, rates from counts, bounded."""

from netsrv.interfaces import ListenerInfo
from netsrv.status.history import COLUMNS, MAX_ROWS, RATES, History
from netsrv.status.source import Sample

FIRST, SECOND = (ListenerInfo("tcp", f"127.0.0.1:{port}", "echo") for port in (7, 8))


def sample(listener, connections=0, **counts):
    """Return a sample with these counts."""
    return Sample(listener, connections, tuple(counts.get(name, 0) for name in RATES))


def rows_of(history, since=0):
    """Return the rows as dictionaries."""
    return [dict(zip(COLUMNS, row, strict=True)) for row in history.as_plain(since)["rows"]]


def test_a_row_has_the_rates_since_the_one_before():
    """All listeners are summed up; a new one counts from 0."""
    history = History()
    history.add([sample(FIRST, accepted=100)], 1000.0, 5.0, 0.0)
    assert rows_of(history) == []
    samples = [sample(FIRST, 3, accepted=110, received_bytes=50), sample(SECOND, 2, accepted=5)]
    history.add(samples, 1002.0, 7.0, 0.25)
    [row] = rows_of(history)
    assert (row["seq"], row["time"], row["connections"], row["lag"]) == (1, 1002.0, 5, 0.25)
    assert (row["accepted"], row["received_bytes"], row["closed"]) == (7.5, 25.0, 0.0)


def test_a_listener_that_is_gone_takes_nothing_away():
    """Its counts are forgotten with it; a rate is never negative."""
    history = History()
    history.add([sample(FIRST, accepted=100), sample(SECOND, accepted=1)], 0.0, 1.0, 0.0)
    history.add([sample(SECOND, accepted=2)], 1.0, 2.0, 0.0)
    assert [row["accepted"] for row in rows_of(history)] == [1.0]


def test_a_client_gets_the_rows_that_it_lacks():
    """One that knows a row of another server's start gets all."""
    history = History()
    for second in range(MAX_ROWS + 100):
        history.add([], float(second), float(second), 0.0)
    newest = history.newest
    assert newest == MAX_ROWS + 99
    assert [row["seq"] for row in rows_of(history, newest - 2)] == [newest - 1, newest]
    assert rows_of(history, newest) == []
    assert len(rows_of(history)) == len(rows_of(history, newest + 1)) == MAX_ROWS
    assert len(rows_of(history, 5)) == MAX_ROWS


def test_a_sample_of_no_time_gives_no_row():
    """Nothing is divided by 0."""
    history = History()
    history.add([], 0.0, 1.0, 0.0)
    history.add([], 0.0, 1.0, 0.0)
    assert history.as_plain() == {"seq": 0, "interval": 1.0, "columns": COLUMNS, "rows": []}
