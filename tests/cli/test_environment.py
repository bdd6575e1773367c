"""The environment variables of ``netsrv serve``."""

from operator import attrgetter

import pytest

from netsrv.cli import command
from netsrv.cli.environment import FLAGS, given_by, unknown_variables
from netsrv.cli.options import SERVE_OPTIONS

VALUES = {"": "1", "LIST": "7,20-21", "NETS": "10.0.0.0/8", "RATE": "5:9", "FILE": "log"}
"""A value by the first word of the placeholder; others take a number."""


@pytest.fixture
def start_with(monkeypatch):
    """Return a function that makes a start from variables and the pairs of a command line."""

    def make(variables, *given):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return command.make_start(list(given))

    return make


@pytest.mark.parametrize(
    "option", [option for option in SERVE_OPTIONS if option.is_setting], ids=lambda one: one.name
)
def test_every_option_has_a_variable(option, start_with, monkeypatch):
    """The variable of an option does what the option does."""
    monkeypatch.chdir("/")
    kind = option.metavar.partition("|")[0].partition("[:")[0]
    value = {"NAME=VALUE": "SO_RCVBUF=9000", "[SERVICE=]PATH": "x.sock"}.get(kind, "7")
    value = option.choices[-1] if option.choices else VALUES.get(kind, value)
    from_variable = start_with({option.variable: value})
    from_option = command.make_start([(option.name, True if kind == "" else value)])
    parts = attrgetter("listeners", "arguments", "config", "service_settings")
    assert parts(from_variable) == parts(from_option)
    assert any(parts(from_variable))


def test_lists_have_commas_or_spaces(start_with):
    """Listeners, socket options, networks and ports are separated by either, or by both."""
    start = start_with(
        {
            "NETSRV_TCP": ", echo=127.0.0.1:7, 8  9 ,",
            "NETSRV_UNIX": "echo=/run/x.sock",
            "NETSRV_SOCKET_OPTION": "SO_RCVBUF=9000 TCP_NODELAY=0",
            "NETSRV_ONLY_FROM": "10.0.0.0/8 ::1/128",
            "NETSRV_REFUSE_SOURCE_PORTS": "7 20-21",
        }
    )
    assert start.listeners == [
        ("tcp", "echo=127.0.0.1:7"),
        ("tcp", "8"),
        ("tcp", "9"),
        ("unix", "echo=/run/x.sock"),
    ]
    assert start.arguments == {
        "socket_options": ["SO_RCVBUF=9000", "TCP_NODELAY=0"],
        "only_from": "10.0.0.0/8,::1/128",
        "refuse_source_ports": "7,20-21",
    }
    first = start.configuration().listeners[0]
    assert (first.address_label, first.limits.refuse_source_ports) == (
        "tcp 127.0.0.1:7",
        {7, 20, 21},
    )


def test_items_that_have_commas_are_separated_by_spaces(start_with):
    """Faults and settings of services; a comma at the end of one is none of its own."""
    start = start_with(
        {
            "NETSRV_FAULT": "latency:latency=200,jitter=50 refuse:first=1",
            "NETSRV_SETTING": "forward.upstream=127.0.0.1:80, own.words=a,b ,",
        }
    )
    assert start.arguments == {"fault": ["latency:latency=200,jitter=50", "refuse:first=1"]}
    assert start.service_settings == ["forward.upstream=127.0.0.1:80", "own.words=a,b"]


@pytest.mark.parametrize("word", FLAGS)
def test_a_flag_is_on_or_off(word, start_with):
    """Any of the words turns a flag on or off, in upper and lower case."""
    start = start_with({"NETSRV_REUSE_ADDRESS": f" {word.upper()} "})
    assert start.arguments == {"reuse_address": FLAGS[word]}


def test_the_command_line_wins(start_with):
    """An option of the command line replaces its own variable, and no other."""
    variables = {"NETSRV_TCP": "7", "NETSRV_UDP": "7", "NETSRV_LOG_RATE": "5"}
    start = start_with(variables, ("tcp", "8"), ("log_rate", "6"))
    assert start.listeners == [("udp", "7"), ("tcp", "8")]
    assert start.arguments == {"log_rate": "6"}


def test_a_level_on_the_command_line_wins_over_quiet(start_with):
    """The two are one setting: --log-level replaces the variable of --quiet too."""
    start = start_with({"NETSRV_QUIET": "1", "NETSRV_TCP": "7"}, ("log_level", "debug"))
    assert start.arguments == {"log_level": "debug"}


def test_an_empty_variable_is_unset(start_with):
    """A variable that a script leaves empty gives nothing."""
    assert start_with({"NETSRV_TCP": "", "NETSRV_CONFIG": " "}).listeners == []


def test_reports_are_for_the_command_line():
    """A server does not print and exit since a variable is set."""
    assert given_by({"NETSRV_CHECK": "1", "NETSRV_HELP": "1"}, SERVE_OPTIONS) == []


def test_only_a_near_miss_is_named():
    """Variables of other programs, such as those of Kubernetes, are no misspelt ones of ours."""
    environ = {
        "NETSRV_MAX_CONECTIONS": "5",
        "NETSRV_TOKEN": "x",
        "NETSRV_STATUS_TOKEN": "x",
        "NETSRV_CONTROL_TOKEN": "x",
        "NETSRV_TCP": "7",
        "NETSRV_PORT": "tcp://10.0.0.1:7",
        "NETSRV_PORT_7_TCP": "tcp://10.0.0.1:7",
        "NETSRV_PORT_7_TCP_ADDR": "10.0.0.1",
        "NETSRV_SERVICE_HOST": "10.0.0.1",
        "NETSRV_SERVICE_PORT_TCP": "7",
        "NETSRV_UDP_SERVICE_PORT": "7",
        "HOME": "/",
    }
    assert [*unknown_variables(environ, SERVE_OPTIONS)] == [
        "NETSRV_MAX_CONECTIONS: there is no such variable; did you mean NETSRV_MAX_CONNECTIONS?"
    ]
