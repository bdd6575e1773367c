"""The lines of a server's log: at the start, about peers, and after a reload."""

import pytest
from attrs import evolve
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from netsrv.config import Configuration, listener
from netsrv.config.model import LogLevel
from netsrv.interfaces import CloseReason, ListenerInfo
from netsrv.observers.dispatch import ObserverDispatcher
from netsrv.server.announcements import show_limits
from netsrv.server.descriptors import show_max_connections
from netsrv.server.logs import ServerLogs

LISTENER = ListenerInfo("tcp", "127.0.0.1:7", "echo")


class Connection:
    """A connection as observers see it."""

    peer = "192.0.2.1:40000"
    close_reason = CloseReason.PEER
    seconds = 0.0
    received = sent = 3


class Served:
    """A connection that was over as soon as it was accepted, and how often it was looked at."""

    count = 1
    looks = 0

    def __iter__(self):
        self.looks += 1
        return iter([Connection])


def lines_with(**settings):
    """Return the lines about a connection, and how often another was looked at."""
    logs = ServerLogs(Clock(), observers := ObserverDispatcher(), bool)
    logs.start(Configuration((), **settings), None)
    served = Served()
    with capturedLogs() as events:
        observers.connections_made(LISTENER, [Connection])
        observers.connections_closed(LISTENER, [Connection])
        lines = [formatEvent(event) for event in events]
        observers.connections_served(LISTENER, served)
    with capturedLogs() as later:
        logs.stop()
    return lines, served.looks, [formatEvent(event) for event in later]


MADE = "Got connection from 192.0.2.1:40000"
ENDED = "Closed 192.0.2.1:40000: peer, 0.000 s, 3 B in, 3 B out"


@pytest.mark.parametrize(
    ("settings", "lines", "looks"),
    [
        ({}, [MADE], 1),
        ({"log_level": LogLevel.DEBUG}, [MADE, ENDED], 2),
        ({"log_level": LogLevel.WARN}, [], 0),
        ({"quiet": True}, [], 0),
        ({"quiet": True, "log_level": LogLevel.DEBUG}, [], 0),
        ({"log_rate": 0}, [], 0),
        ({"log_rate": 0, "log_level": LogLevel.DEBUG}, [], 0),
    ],
)
def test_lines_that_are_not_wanted_cost_nothing(settings, lines, looks):
    """No observer looks at a connection for them, and no sum comes in their place."""
    assert lines_with(**settings) == (lines, looks, [])


def test_level_and_rate_change_while_the_server_runs():
    """A reload brings other lines, and leaves no observer of before."""
    logs = ServerLogs(Clock(), observers := ObserverDispatcher(), bool)
    configuration = Configuration((), log_level=LogLevel.DEBUG)
    logs.start(configuration, None)
    with capturedLogs() as events:
        for changed in (
            configuration,
            evolve(configuration, quiet=True),
            evolve(configuration, log_level=LogLevel.INFO),
        ):
            logs.configure(changed)
            observers.connections_made(LISTENER, [Connection])
            observers.connections_closed(LISTENER, [Connection])
    assert [formatEvent(event) for event in events] == [MADE, ENDED, MADE]
    logs.stop()


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (None, "960 (auto: 1024 descriptors less 64)"),
        (960, "960"),
        (961, "960 (961 asked for: 1024 descriptors less 64)"),
    ],
)
def test_max_connections_is_shown_with_its_origin(asked, text):
    """What the descriptors allow counts, and where the number comes from."""
    assert show_max_connections(asked, 1024) == text


@pytest.mark.parametrize(
    ("transport", "address", "keywords", "text"),
    [
        ("tcp", 7, {}, "max_connections 960 (auto: 1024 descriptors less 64)"),
        (
            "tcp",
            7,
            {
                "max_connections": 5,
                "overload": "close",
                "connection_rate": "50:100",
                "write_timeout": "none",
                "only_from": ["10.0.0.0/8", "::1"],
                "no_access": ["10.1.0.0/16"],
                "datagram_rate": 5,
            },
            "max_connections 5, overload close, connection_rate 50:100, only_from 2 networks, "
            "no_access 1 network, write_timeout none",
        ),
        ("unix", "/s", {"max_connections": 5, "lifetime": 2.5}, "max_connections 5, lifetime 2.5"),
        ("udp", 7, {"idle_timeout": 5}, ""),
        ("udp", 7, {"refuse_source_ports": "53,100-101"}, "refuse_source_ports 53,100-101"),
        ("udp", 7, {"datagram_rate": 2_000_000}, "datagram_rate 2000000"),
    ],
)
def test_limits_that_differ_from_the_defaults_are_shown(transport, address, keywords, text):
    """Those of the transport only, as short as the file has them."""
    service = "discard"
    assert show_limits(listener(transport, address, service, **keywords), 1024) == text
