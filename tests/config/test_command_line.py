"""The configuration that the command line makes."""

from ipaddress import ip_network

import pytest

from netsrv.config.command_line import from_command_line
from netsrv.config.model import Configuration, ConfigurationError, ListenerSettings, Transport
from netsrv.guards.limits import DATAGRAM_RATE, SERVERS_PORTS, Limits, Overload
from netsrv.guards.rates import Rate
from netsrv.sockets.addresses import InternetAddress, UnixPath


def options_of(settings):
    """Return names and values, in the order in which they are set."""
    return [(option.name, option.value) for option in settings.all_options()]


def test_listeners_keep_their_order_and_have_default_services():
    """TCP and unix sockets accept, UDP echoes, unless a service is named."""
    configuration = from_command_line(
        [("udp", "7"), ("tcp", "127.0.0.1:0"), ("unix", "x.sock"), ("tcp", "echo=[::1]:9")]
    )
    assert [
        (listener.transport, listener.service, listener.address)
        for listener in configuration.listeners
    ] == [
        ("udp", "echo", InternetAddress("", 7)),
        ("tcp", "accept", InternetAddress("127.0.0.1", 0)),
        ("unix", "accept", UnixPath("x.sock")),
        ("tcp", "echo", InternetAddress("::1", 9)),
    ]


@pytest.mark.parametrize(
    ("transport", "address", "options"),
    [
        ("tcp", "7", [("SO_REUSEADDR", 1), ("TCP_NODELAY", 1)]),
        ("tcp", "[::]:7", [("SO_REUSEADDR", 1), ("TCP_NODELAY", 1), ("IPV6_V6ONLY", 0)]),
        ("udp", "7", [("SO_REUSEADDR", 0)]),
        ("unix", "x.sock", []),
    ],
)
def test_each_kind_of_socket_has_its_default_options(transport, address, options):
    """SO_REUSEADDR is on for TCP and off for UDP, and :: serves both families."""
    configuration = from_command_line([(transport, address)])
    assert options_of(configuration.listeners[0]) == options


def test_an_option_asked_for_by_name_has_the_last_word():
    """A socket option overrides the default and all other options."""
    configuration = from_command_line(
        [("tcp", "[::]:7")],
        {
            "reuse_port": True,
            "reuse_address": True,
            "socket_options": [
                "TCP_NODELAY=0",
                "IPV6_V6ONLY=1",
                "SO_REUSEADDR=0",
                "SO_REUSEADDR=1",
            ],
        },
    )
    assert options_of(configuration.listeners[0]) == [
        ("SO_REUSEPORT", 1),
        ("TCP_NODELAY", 0),
        ("IPV6_V6ONLY", 1),
        ("SO_REUSEADDR", 1),
    ]


@pytest.mark.parametrize(
    ("listeners", "others", "line"),
    [
        ([("tcp", "65536")], {}, "--tcp '65536': a port is a number from 0 to 65535"),
        ([("unix", "")], {}, "--unix '': a unix socket needs a path"),
        ([("tcp", "7"), ("tcp", "echo=7")], {}, "--tcp 0.0.0.0:7: duplicate listener"),
        ([("udp", "same")], {}, "--udp 0.0.0.0:same: 'same' is the port of the first TCP listener"),
        ([("tcp", "same")], {}, "--tcp 0.0.0.0:same: 'same' is the port of the first TCP listener"),
        ([("tcp", "7")], {"backlog": "x"}, "--backlog 'x': a whole number from 0 to 2147483647"),
        ([("tcp", "7")], {"backlog": "-1"}, "--backlog -1: a whole number"),
        ([("tcp", "7")], {"backlog": "9" * 5000}, "a whole number"),
        ([("tcp", "7")], {"log_rate": "1.5"}, "--log-rate 1.5: a whole number"),
        (
            [("tcp", "7")],
            {"shutdown_timeout": "never"},
            "--shutdown-timeout 'never': a number of seconds, more",
        ),
        ([("tcp", "7")], {"socket_options": ["X=1"]}, "--socket-option 'X' is not the name"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_option(listeners, others, line):
    """The line has the option, the value and the form that it should have."""
    with pytest.raises(ConfigurationError) as caught:
        from_command_line(listeners, others)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("lateny", "--fault 'lateny': there is no such fault; did you mean latency?"),
        ("latency:latncy=1", "--fault latncy: there is no such key; did you mean latency?"),
        ("latency:latency=x", "--fault latency 'x': a whole number, without quotes"),
    ],
)
def test_a_mistake_in_a_fault_names_its_key(text, line):
    """A fault has many keys in one argument."""
    with pytest.raises(ConfigurationError) as caught:
        from_command_line([("tcp", "7")], {"fault": [text]})
    assert caught.value.lines == (line,)


def test_all_mistakes_of_a_command_line_are_named_at_once():
    """Each has a line of its own, and one that concerns all listeners has only one."""
    with pytest.raises(ConfigurationError) as caught:
        from_command_line(
            [("tcp", "7"), ("udp", "x"), ("unix", "")],
            {
                "log_rate": "many",
                "max_connections": "0",
                "only_from": "10.0.0.1/8,10.0.0.0/8,x",
                "socket_options": ["SO_RCVBUF", "SO_SNDBUF=1", "SO_LINGER=5:5"],
            },
        )
    starts = [
        "--socket-option 'SO_RCVBUF' has no value",
        "--socket-option SO_LINGER=5:5: takes 0:0",
        "--max-connections 0: a whole number from 1",
        "--only-from 10.0.0.1/8 has host bits set",
        "--only-from 'x' does not appear to be",
        "--log-rate 'many': a whole number",
        "--udp 'x' has no port number",
        "--unix '': a unix socket needs a path",
    ]
    for line, start in zip(caught.value.lines, starts, strict=True):
        assert line.startswith(start)


def test_all_duplicate_listeners_are_named():
    """Each duplicate listener has a line of its own."""
    with pytest.raises(ConfigurationError) as caught:
        from_command_line([("tcp", "7"), ("tcp", "0.0.0.0:7"), ("udp", "9"), ("udp", "9")])
    assert caught.value.lines == (
        "--tcp 0.0.0.0:7: duplicate listener",
        "--udp 0.0.0.0:9: duplicate listener",
    )


def test_the_command_line_comes_after_the_file_and_overrides_it():
    """Its listeners come after those of the file, with its own limits; its options win."""
    of_file = ListenerSettings(
        "tcp", "echo", InternetAddress("", 7), config_location="f: listener[0]"
    )
    file = Configuration((of_file,), log_rate=5, shutdown_timeout=0.5)
    configuration = from_command_line([("udp", "same")], {"lifetime": "9"}, file)
    assert configuration.listeners[0] is of_file
    assert configuration.listeners[1].limits.lifetime == 9
    assert (configuration.log_rate, configuration.shutdown_timeout) == (5, 0.5)
    configuration = from_command_line([], {"log_rate": "0", "shutdown_timeout": "7"}, file)
    assert (configuration.log_rate, configuration.shutdown_timeout) == (0, 7)
    assert from_command_line([]) == Configuration((), log_rate=100, shutdown_timeout=8)


def test_a_listener_of_the_file_and_of_the_command_line():
    """An address that both have is named with both locations."""
    of_file = ListenerSettings(
        "tcp", "echo", InternetAddress("", 7), config_location="f: listener[0]"
    )
    with pytest.raises(ConfigurationError) as caught:
        from_command_line([("tcp", "7")], file=Configuration((of_file,)))
    assert str(caught.value) == "--tcp 0.0.0.0:7: duplicate listener, first in f: listener[0]"


def test_an_error_with_many_lines_breaks_nowhere_else():
    """A line feed within a line is escaped."""
    assert str(ConfigurationError("a\nb", "c\x1b")) == "a\\nb\nc\\x1b"


def test_two_ports_of_the_kernels_choosing_are_no_duplicates():
    """Any number of listeners may have port 0."""
    configuration = from_command_line([("tcp", "0"), ("tcp", "0"), ("udp", "same")])
    assert len(configuration.listeners) == 3


def limits(**options):
    """Make the limits of a listener of the command line."""
    return from_command_line([("tcp", "7")], options).listeners[0].limits


def test_limits_are_read_from_their_options():
    """Each option sets its limit, and a limit without its option has the default."""
    assert limits() == limits(max_connections="auto") == Limits()
    assert limits(
        max_connections="9",
        overload="reset",
        per_source="2",
        connection_rate="5:10",
        only_from="10.0.0.0/8,2001:db8::/32",
        no_access="10.66.0.0/16",
        idle_timeout="60",
        lifetime="3600",
        write_timeout="none",
        close_grace="0.5",
    ) == Limits(
        9,
        Overload.RESET,
        2,
        Rate(5, 10),
        (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")),
        (ip_network("10.66.0.0/16"),),
        DATAGRAM_RATE,
        SERVERS_PORTS,
        60,
        3600,
        None,
        0.5,
    )
    assert limits(datagram_rate="none", refuse_source_ports="7-8") == Limits(
        datagram_rate=None, refuse_source_ports=frozenset({7, 8})
    )


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"max_connections": "0"}, "--max-connections 0: a whole number from 1"),
        (
            {"max_connections": "many"},
            "--max-connections 'many': a whole number from 1 to 1000000000, or 'auto'",
        ),
        ({"overload": "drop"}, "--overload 'drop': one of 'pause', 'close', 'reset'"),
        ({"per_source": "-1"}, "--per-source -1: a whole number from 1"),
        ({"connection_rate": "fast"}, "--connection-rate 'fast': write a rate as 50"),
        ({"idle_timeout": "0"}, "--idle-timeout 0: a number of seconds, more than 0"),
        ({"lifetime": "nan"}, "--lifetime 'nan': a number of seconds, more than 0"),
        ({"close_grace": "soon"}, "--close-grace 'soon': a number of seconds, more than 0"),
        ({"idle_timeout": "1" + 5000 * "0"}, "--idle-timeout '1000000"),
        ({"per_source": "1e3"}, "--per-source 1000.0: a whole number from 1"),
        ({"only_from": "10.0.0.1/8"}, "--only-from 10.0.0.1/8 has host bits set; write a"),
        ({"no_access": "10.0.0.0/8,,"}, "--no-access '' does not appear to be"),
    ],
)
def test_a_mistake_in_a_limit_names_the_option(options, line):
    """The line has the option, the value and the form that it should have."""
    with pytest.raises(ConfigurationError) as caught:
        limits(**options)
    assert str(caught.value).startswith(line)


def test_settings_need_no_command_line():
    """A program can make settings directly; a transport is a text or a member."""
    settings = ListenerSettings("tcp", "echo", InternetAddress("127.0.0.1", 0))
    assert settings.transport is Transport.TCP
    assert settings.port == 0
    assert (settings.backlog, settings.address_label) == (1024, "tcp 127.0.0.1:0")


@pytest.mark.parametrize("text", ["", " ", ","])
def test_f141_an_empty_option_of_allowed_networks_is_a_mistake(text):
    """An argument that names no network is no list of networks."""
    with pytest.raises(ConfigurationError, match=r"--only-from '.*write a network as"):
        limits(only_from=text)
