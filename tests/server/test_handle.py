"""The handle of one running listener: suspend, resume, update, close, info."""

import pytest
from twisted.internet.protocol import Factory, Protocol

from netsrv.config import ConfigurationError, listener
from netsrv.observers import Observer
from netsrv.testing import MemoryServer

ADDRESS = "0.0.0.0:7"


class Events(Observer):
    """Records the events about listeners."""

    def __init__(self):
        self.events = []

    def listener_started(self, listener):
        self.events.append(f"started {listener}")

    def listener_closed(self, listener):
        self.events.append(f"closed {listener}")

    def suspended(self, listener, reason):
        self.events.append(f"suspended {listener}: {reason}")

    def resumed(self, listener):
        self.events.append(f"resumed {listener}")


@pytest.fixture
def events():
    """An observer of listeners."""
    return Events()


@pytest.fixture
def server(events):
    """An echo server in memory that allows two connections."""
    return MemoryServer("echo", max_connections=2, observers=[events])


@pytest.fixture
def handle(server):
    """The handle of its listener."""
    return server.server.listeners[0]


def test_a_suspended_listener_leaves_connections_in_the_backlog(server, handle, events):
    """Live connections go on; `resume` serves the connections that waited."""
    live = server.connect()
    handle.suspend()
    waiting = server.connect()
    for client in (live, waiting):
        client.send(b"x")
    assert (live.received, waiting.received) == (b"x", b"")
    assert (handle.suspended, handle.connections) == (True, 1)
    handle.resume()
    assert (waiting.received, handle.connections) == (b"x", 2)
    assert events.events[:3] == [
        "started tcp 0.0.0.0:7 (echo)",
        "suspended tcp 0.0.0.0:7 (echo): None",
        "resumed tcp 0.0.0.0:7 (echo)",
    ]


def test_an_update_changes_limits_for_new_connections(server, handle):
    """Connections that waited because of the old limit are served; the identity stays."""
    clients = [server.connect() for _ in range(3)]
    clients[2].send(b"x")
    assert clients[2].received == b""
    info = handle.listener_info
    assert handle.update(listener("tcp", ADDRESS, "echo", max_connections=3)) == []
    assert clients[2].received == b"x"
    assert handle.settings.limits.max_connections == 3
    assert handle.listener_info is info
    assert server.server.configuration.listeners == (handle.settings,)


def test_an_update_changes_the_service_on_the_same_socket(server, handle, events):
    """Live connections keep the old service; the listener gets a new identity."""
    old = server.connect()
    handle.update(listener("tcp", ADDRESS, "daytime"))
    new = server.connect()
    old.send(b"x")
    assert old.received == b"x"
    assert new.received.endswith(b"-UTC\r\n")
    assert handle.name == "tcp 0.0.0.0:7 (daytime)"
    old.close()
    assert events.events[-3:] == [
        "started tcp 0.0.0.0:7 (daytime)",
        "resumed tcp 0.0.0.0:7 (daytime)",
        "closed tcp 0.0.0.0:7 (echo)",
    ]


def test_a_suspended_listener_stays_suspended_through_an_update(server, handle, events):
    """A new service does not accept before `resume`."""
    handle.suspend()
    handle.update(listener("tcp", ADDRESS, "daytime"))
    client = server.connect()
    assert client.received == b""
    assert events.events[-1] == "suspended tcp 0.0.0.0:7 (daytime): None"
    handle.resume()
    assert client.received.endswith(b"-UTC\r\n")


def test_an_update_with_another_address_is_an_error(server, handle):
    """The error names both addresses, and the listener stays as it is."""
    with pytest.raises(ConfigurationError) as caught:
        handle.update(listener("tcp", "0.0.0.0:8", "echo"))
    assert str(caught.value) == (
        "tcp 0.0.0.0:8: the listener has the address tcp 0.0.0.0:7; "
        "add a listener for another address"
    )
    client = server.connect()
    client.send(b"x")
    assert client.received == b"x"


def test_an_update_whose_service_cannot_start_leaves_the_old_one(server, handle):
    """The exception reaches the caller; old and new connections have the old service."""
    live = server.connect()
    failing = Factory.forProtocol(Protocol)
    failing.noisy = False
    failing.startFactory = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        handle.update(listener("tcp", ADDRESS, failing))
    new = server.connect()
    for client in (live, new):
        client.send(b"x")
        assert client.received == b"x"
    assert handle.name == "tcp 0.0.0.0:7 (echo)"
    assert handle.info()["counts"]["accepted"] == 2


def test_a_closed_listener_is_reported_after_its_last_connection(server, handle, events):
    """New clients are refused at once; the Deferred fires when the last connection ends."""
    client = server.connect()
    closed = handle.close()
    with pytest.raises(ConnectionRefusedError):
        server.connect()
    client.send(b"x")
    assert (client.received, closed.called) == (b"x", False)
    assert server.server.listeners == []
    assert len(server.server.counters.listeners) == 1
    client.close()
    assert closed.called
    assert events.events[-1] == "closed tcp 0.0.0.0:7 (echo)"
    assert len(server.server.counters.listeners) == 0


def test_the_handle_describes_its_listener(server, handle):
    """The description is that of `Server.info`, with the bytes of live connections."""
    server.connect().send(b"abc")
    info = handle.info()
    assert info == server.info()["listeners"][0]
    assert (info["name"], info["transport"]) == ("tcp 0.0.0.0:7 (echo)", "tcp")
    assert (info["counts"]["received_bytes"], info["counts"]["sent_bytes"]) == (3, 3)
