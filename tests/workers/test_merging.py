"""The state of several workers as that of one server."""

from copy import deepcopy

from netsrv.workers.merging import (
    add,
    merge_loops,
    merge_processes,
    merge_rows,
    merge_sources,
    total,
    without_gauges,
)


def row(accepted=0, now=0, state="serving", limit=10, started=5.0, name="tcp 127.0.0.1:7 (echo)"):
    """Return a row of the status as a worker has it."""
    return {
        "id": name,
        "name": name,
        "transport": "tcp",
        "started": started,
        "state": state,
        "state_reason": "",
        "connections": {
            "now": now,
            "most": now,
            "limit": limit,
            "accepted": accepted,
            "refused": {"access": accepted},
            "closed": {"peer": accepted - now},
            "pending": {},
        },
        "bytes": {"received": 2 * accepted, "sent": accepted},
        "datagrams": None,
        "duration": {"seconds": 0.5, "buckets": [[1.0, accepted], [None, 1]]},
        "tls": None,
        "faults": [],
    }


def test_merging_leaves_the_rows_of_workers_as_they_are():
    """They are merged again for the next reader."""
    live = {**row(10, 3), "id": "tcp 127.0.0.1:7 (echo) #2"}
    before = deepcopy(live)
    merged = merge_rows([live], None, limited=True, most=9)
    assert merged["connections"]["most"] == 9
    assert merged["id"] == merged["name"]
    assert live == before


def test_values_are_added_by_their_kinds():
    """Numbers are added, tables by keys, buckets by bounds; a missing value adds nothing."""
    assert add({"a": 1, "b": None}, {"b": 2, "c": 3}) == {"a": 1, "b": 2, "c": 3}
    assert add([[1.0, 2], [None, 3]], [[1.0, 10], [None, 20]]) == [[1.0, 12], [None, 23]]
    assert add("echo", "echo") == "echo"
    assert total([]) is None


def test_a_listeners_counts_are_the_sum_of_its_workers():
    """The limit is that of the server, if the listener has one of its own."""
    merged = merge_rows([row(10, 3), row(5, 1, started=4.0)], None, limited=True, most=2)
    connections = merged["connections"]
    assert (connections["now"], connections["accepted"], connections["limit"]) == (4, 15, 10)
    assert connections["refused"] == {"access": 15}
    assert connections["most"] == 4
    assert merged["duration"] == {"seconds": 1.0, "buckets": [[1.0, 15], [None, 2]]}
    assert merged["started"] == 4.0
    unlimited = merge_rows([row(limit=10), row(limit=10)], None, limited=False, most=7)
    assert unlimited["connections"]["limit"] == 20
    assert unlimited["connections"]["most"] == 7


def test_a_fault_has_the_hits_of_all_workers():
    """Each worker has the fault, and counts for itself."""
    first, second = ({"name": "slow", "type": "latency", "hits": hits} for hits in (2, 3))
    rows = [{**row(), "faults": [first]}, {**row(), "faults": [second]}]
    assert merge_rows(rows, None, limited=True, most=0)["faults"] == [{**first, "hits": 5}]


def test_no_count_falls_when_a_worker_ends():
    """Its counts stay in the sum; what it had at once does not."""
    before = merge_rows([row(10, 3), row(5, 1)], None, limited=True, most=0)
    after = merge_rows([row(5, 1)], without_gauges(row(10, 3)), limited=True, most=4)
    assert after["connections"]["accepted"] == before["connections"]["accepted"]
    assert after["bytes"] == before["bytes"]
    assert after["connections"]["now"] == 1
    assert after["connections"]["limit"] == 10


def test_the_state_is_the_one_that_needs_attention():
    """A failed socket is named, a draining worker is not, and one that serves is enough."""
    states = [row(state="closing"), row(state="serving"), row(state="suspended")]
    assert merge_rows(states, None, limited=False, most=0)["state"] == "serving"
    assert merge_rows([*states, row(state="failed")], None, False, 0)["state"] == "failed"


def test_sources_are_added_over_workers():
    """The same source may have connections to each of them, under each one's name of a listener."""
    tops = [
        [{"source": "192.0.2.1", "listener": "tcp a", "connections": 2}],
        [
            {"source": "192.0.2.1", "listener": "tcp a #2", "connections": 3},
            {"source": "192.0.2.2", "listener": "tcp a", "connections": 4},
        ],
    ]
    assert merge_sources(tops, {"tcp a #2": "tcp a"}) == [
        {"source": "192.0.2.1", "listener": "tcp a", "connections": 5},
        {"source": "192.0.2.2", "listener": "tcp a", "connections": 4},
    ]


def test_loops_and_processes():
    """The worst delay, the sum of the stalls, and CPU time that never falls."""
    loops = [
        {"lag": 0.1, "lag_most": 0.5, "stalls": 1, "stalled_seconds": 2.0},
        {"lag": 0.2, "lag_most": 0.3, "stalls": 0, "stalled_seconds": 0.0},
    ]
    assert merge_loops(loops, loops[0]) == {
        "lag": 0.2,
        "lag_most": 0.5,
        "stalls": 2,
        "stalled_seconds": 4.0,
    }
    assert merge_loops([], None)["stalls"] == 0
    facts = {"cpu_seconds": 1.0, "resident_bytes": None, "start": 3.0}
    merged = merge_processes([facts, facts], 2.5, 9.0)
    assert merged == {"cpu_seconds": 4.5, "resident_bytes": None, "start": 9.0}
