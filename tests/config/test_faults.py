"""Faults in files, and on the command line."""

import pytest

from netsrv.config.faults import FAULTS, read_fault
from netsrv.faults.delays import LatencyAttributes
from netsrv.faults.fault import Direction
from netsrv.settings import InvalidValues


def errors_of(*tables):
    """Return the errors of tables, by their key paths."""
    with pytest.raises(InvalidValues) as raised:
        FAULTS.parse(list(tables))
    return dict(raised.value.errors)


def test_a_table_has_selectors_and_attributes():
    """Names have defaults as toxiproxy has them."""
    fault = read_fault({"type": "latency", "latency": 200, "toxicity": 0.5, "first": 3})
    settings = fault.settings(True)
    assert settings.name == "latency_downstream"
    assert settings.attributes == LatencyAttributes(200)
    assert (settings.probability, settings.first) == (0.5, 3)
    assert settings.directions == (Direction.DOWNSTREAM,)
    both = read_fault({"type": "latency", "stream": "both"}).settings(True)
    assert (both.name, both.directions) == ("latency_both", tuple(Direction))


def test_a_text_is_the_same_as_a_table():
    """The option takes keys with commas."""
    [fault] = FAULTS.parse_argument(
        ["latency:latency=200,name=slow,stream=upstream,only_from=10.0.0.0/8,only_from=::1"]
    )
    [table] = FAULTS.parse(
        [
            {
                "type": "latency",
                "latency": 200,
                "name": "slow",
                "stream": "upstream",
                "only_from": ["10.0.0.0/8", "::1"],
            }
        ]
    )
    assert fault == table


def test_a_fault_is_what_the_transport_has():
    """latency of datagrams may reorder, that of streams may not."""
    fault = read_fault({"type": "latency", "keep_order": False})
    assert fault.settings(False).attributes.keep_order is False
    with pytest.raises(InvalidValues, match="there is no such key"):
        fault.settings(True)
    assert read_fault({"type": "loss"}).settings(True) is None


def test_all_errors_are_listed_with_their_places():
    """Each says what would be right."""
    assert errors_of({}) == {(0,): "it has no type, as in type = 'latency'"}
    assert errors_of({"type": "latncy"})[0, "type"].endswith("did you mean latency?")
    errors = errors_of(
        {"type": "slow_close", "delay": "1", "first": 0, "jiter": 1, "stream": "up", "ttl": -1},
        {"type": "slow_close", "only_from": ["10.0.0.0/99"]},
        "text",
    )
    assert set(errors) == {
        (0, "delay"),
        (0, "first"),
        (0, "jiter"),
        (0, "stream"),
        (0, "ttl"),
        (1, "only_from", 0),
        (2,),
    }
    assert errors_of({"type": "noop"}, {"type": "noop"}) == {
        (1, "name"): "'noop_downstream': another fault has this name"
    }
