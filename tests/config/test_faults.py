"""Faults in files, and on the command line."""

from types import SimpleNamespace

import pytest
from attrs import field, frozen, validators

from netsrv.config.command_line import from_command_line
from netsrv.config.fault_reading import read_fault
from netsrv.config.faults import FAULTS
from netsrv.config.model import ConfigurationError
from netsrv.faults.delays import LatencyAttributes
from netsrv.faults.fault import Direction, Fault
from netsrv.faults.kinds import DATAGRAM_KINDS, STREAM_KINDS
from netsrv.faults.stages import Stage
from netsrv.registry import FaultTypes
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


@frozen
class ShoutAttributes:
    """Those of a type that a plugin adds."""

    volume: int = field(default=1, validator=validators.ge(1))


@pytest.mark.parametrize("is_stream", [True, False])
def test_the_text_of_a_fault_in_the_log_is_one_of_the_option(is_stream):
    """So a run is repeated with its seed."""
    for name in STREAM_KINDS if is_stream else DATAGRAM_KINDS:
        [written] = FAULTS.parse_argument([f"{name}:skip=2,only_from=192.0.2.0/24,seed=7"])
        settings = written.settings(is_stream)
        text = str(Fault(settings, lambda: 0.0))
        [again] = FAULTS.parse_argument([text])
        assert again.settings(is_stream) == settings, text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("loss:probability=0.3", "loss:name=loss_downstream,probability=0.3,seed=7"),
        ("loss:model=gilbert,p=0.1", "loss:name=loss_downstream,model=gilbert,p=0.1,seed=7"),
        (
            "latency:latency=200,keep_order=false,stream=both,first=1,only_from=10.0.0.0/8",
            "latency:name=latency_both,stream=both,latency=200,keep_order=false,first=1,seed=7,"
            "only_from=10.0.0.0/8",
        ),
    ],
)
def test_the_log_shows_what_is_set(text, shown):
    """And no defaults, some of which another key makes void."""
    [written] = FAULTS.parse_argument([f"{text},seed=7"])
    assert str(Fault(written.settings(False), lambda: 0.0)) == shown


def plugin(**values):
    """Return a type of faults as a plugin has it."""
    values = {"name": "shout", "description": "shout", "stage": Stage} | values
    return SimpleNamespace(**{"attributes": ShoutAttributes} | values)


@pytest.fixture
def plugins(monkeypatch):
    """Return the types that plugins add, to fill them."""
    types = FaultTypes()
    monkeypatch.setattr("netsrv.config.fault_reading.plugin_types", lambda: types)
    return types


def test_a_plugin_adds_a_type(plugins):
    """With attributes that are checked, and with all selectors."""
    plugins.streams["shout"] = plugin()
    fault = read_fault({"type": "shout", "volume": 3, "first": 2})
    settings = fault.settings(True)
    assert (settings.kind.stage, settings.attributes) == (Stage, ShoutAttributes(3))
    assert fault.settings(False) is None
    errors = errors_of({"type": "shout", "volume": 0}, {"type": "shout", "volme": 1, "name": "b"})
    assert ">= 1" in errors[0, "volume"]
    assert errors[1, "volme"].endswith("did you mean volume?")


def test_a_plugin_may_have_no_attributes(plugins):
    """None stands for them; and two reads are equal, so that a reload changes nothing."""
    plugins.datagrams["shout"] = plugin(attributes=None)
    first, second = (read_fault({"type": "shout"}).settings(False) for _ in range(2))
    assert first == second


def test_a_built_in_name_is_reserved(plugins):
    """A plugin of that name is not used, on either transport."""
    plugins.streams["loss"] = plugins.datagrams["loss"] = plugin(name="loss")
    fault = read_fault({"type": "loss"})
    assert fault.settings(True) is None
    assert fault.settings(False).kind.stage is not Stage


def test_an_unknown_type_names_plugins_that_cannot_be_used(plugins):
    """They may be the reason."""
    plugins.problems.append("fault shouting.fault cannot be used: ImportError: nix")
    assert errors_of({"type": "shout"})[0, "type"].endswith(
        "; fault shouting.fault cannot be used: ImportError: nix"
    )


def test_a_fault_of_the_command_line_needs_a_listener_that_has_it():
    """One of datagrams is no fault of a stream; with both listeners it is that of one."""
    tcp, udp = ("tcp", "echo=127.0.0.1:7"), ("udp", "127.0.0.1:7")
    text = "--fault 'loss': no listener of the command line has such a fault"
    for listeners in ([tcp], []):
        with pytest.raises(ConfigurationError) as raised:
            from_command_line(listeners, {"fault": ["loss"]})
        assert str(raised.value) == text
    first, second = from_command_line([tcp, udp], {"fault": ["loss"]}).listeners
    assert [len(first.faults), len(second.faults)] == [0, 1]
