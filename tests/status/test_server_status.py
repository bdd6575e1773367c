"""The status of a server: readiness, snapshots, names, exact counts."""

import errno
import json
import os
from itertools import count
from types import SimpleNamespace

import pytest
from twisted.internet.protocol import Factory, Protocol

from netsrv.config import listener
from netsrv.interfaces import ListenerState
from netsrv.server.snapshots import BATCH_SIZE
from netsrv.status.source import ServerState
from netsrv.testing import MemoryServer

NAME = "tcp 0.0.0.0:7 (echo)"


@pytest.fixture
def server():
    """An echo server in memory that allows three connections."""
    return MemoryServer("echo", max_connections=3)


def snapshot(server):
    """Take a snapshot."""
    server.settle()
    return server.server.status.read_snapshot()


def row(server):
    """Return the only listener of a snapshot."""
    [found] = snapshot(server)["listeners"]
    return found


def test_a_server_is_ready_from_start_to_drain(server):
    """It is not while its owner has suspended it, nor from the first moment of a drain."""
    status = server.server.status
    assert (status.ready, status.state) == (True, ServerState.READY)
    server.server.suspend()
    assert status.reasons() == [f"{NAME}: suspended"]
    server.server.resume()
    assert status.ready
    client = server.connect()
    drained = server.server.drain(8)
    assert status.reasons() == ["the server is draining"]
    assert snapshot(server)["ready"] is False
    client.close()
    assert drained.result.ended == 1


def test_a_server_that_is_not_started_is_not_ready():
    """Nor is one of which a part could not be started; it can be started again."""
    server = MemoryServer("echo")
    server.drain(0)
    server.settle()
    assert server.server.status.state is ServerState.DRAINING
    assert not server.server.status.ready


def test_the_state_of_a_listener_has_a_word(server):
    """Serving, full, suspended, closing, and the reason."""
    handle = server.server.listeners[0]
    clients = [server.connect() for _ in range(3)]
    found = row(server)
    assert (found["state"], found["state_reason"]) == ("full", "max_connections")
    assert found["connections"]["now"] == found["connections"]["limit"] == 3
    clients.pop().close()
    assert (row(server)["state"], row(server)["state_reason"]) == ("serving", "")
    handle.suspend()
    assert row(server)["state"] == "suspended"
    handle.resume()
    assert row(server)["state"] == "serving"
    handle.close()
    assert (row(server)["state"], row(server)["connections"]["now"]) == ("closing", 2)
    for client in clients:
        client.close()
    assert snapshot(server)["listeners"] == []


def test_a_listener_at_its_rate_is_full():
    """Until there is a token again."""
    server = MemoryServer("echo", connection_rate="1:1")
    server.connect()
    server.connect()
    assert (row(server)["state"], row(server)["state_reason"]) == ("full", "connection_rate")
    assert server.server.status.ready
    server.advance(2)
    assert row(server)["state"] == "serving"


def test_the_most_connections_are_kept(server):
    """Exactly, although they are counted at an end only."""
    clients = [server.connect() for _ in range(2)]
    assert row(server)["connections"]["most"] == 2
    for client in clients:
        client.close()
    server.connect()
    found = row(server)["connections"]
    assert (found["now"], found["most"]) == (1, 2)


def test_bytes_of_live_connections_count(server):
    """What the peer has not taken is not sent yet."""
    client = server.connect(reading=False)
    client.send(b"x" * 500_000)
    found = row(server)["bytes"]
    [connection] = server.server.listeners[0].gate.connections
    assert found == {
        "received": connection.received,
        "sent": connection.sent - connection.unsent,
    }
    assert 0 < found["sent"] < connection.sent
    client.read()
    assert row(server)["bytes"]["received"] >= found["received"]


def test_a_sum_never_falls_while_connections_end_between_two_slices():
    """A connection that ends during a snapshot counts once, with what it had in the end."""
    server = MemoryServer("discard")
    clients = [server.connect() for _ in range(BATCH_SIZE + 10)]
    for client in clients:
        client.send(b"ab")
    server.settle()
    status = server.server.status
    steps = status._read_steps()
    next(steps)
    for client in clients[::2]:
        client.close()
    server.settle()
    while True:
        try:
            next(steps)
        except StopIteration as end:
            during = json.loads(end.value["listeners"][0].state)
            break
    assert during["bytes"]["received"] == 2 * len(clients)
    assert row(server)["bytes"]["received"] == 2 * len(clients)


def test_callers_that_come_during_a_snapshot_share_the_next_one(server):
    """So it has all that happened before they asked, and many clients cost two snapshots."""
    status = server.server.status
    taken = []
    read = status._reader.read
    status._reader = SimpleNamespace(read=lambda: taken.append(1) or read())
    status.now = count().__next__  # a slice has one step
    waiting = [status.take_snapshot() for _ in range(5)]
    server.settle()
    assert len(taken) == 2
    assert [waiter.result["contract"] for waiter in waiting] == [1] * 5
    assert waiting[0].result is not waiting[1].result
    assert waiting[1].result is waiting[4].result


def test_listeners_that_are_alike_have_names_of_their_own():
    """A name stays with its listener while others come and go."""
    server = MemoryServer("echo")
    reader = server.server.status._reader
    [first] = server.server.listeners
    info = first.listener_info
    others = [type(info)(info.transport, info.address, info.service) for _ in range(2)]
    reader._name([info, *others], [])
    assert [reader.id_of(one) for one in (info, *others)] == [NAME, f"{NAME} #2", f"{NAME} #3"]
    reader._name([others[1], others[0]], [first.gate])
    assert [reader.id_of(one) for one in (*others, info)] == [f"{NAME} #2", f"{NAME} #3", NAME]
    new = type(info)(info.transport, info.address, info.service)
    reader._name([new, others[0]], [first.gate])
    assert [reader.id_of(one) for one in (new, others[0])] == [NAME, f"{NAME} #2"]
    assert reader.id_of(info) == f"{NAME} closing"


def test_a_replaced_service_is_another_listener(server):
    """The connections of the old one are listed as closing."""
    client = server.connect()
    handle = server.server.listeners[0]
    handle.update(listener("tcp", "0.0.0.0:7", "discard"))
    rows = snapshot(server)["listeners"]
    assert [(one["service"], one["state"]) for one in rows] == [
        ("discard", "serving"),
        ("echo", "closing"),
    ]
    client.close()


def test_limits_and_options_are_texts(server):
    """They follow an update."""
    limits = {one["name"]: one for one in row(server)["limits"]}
    assert limits["max_connections"]["value"] == "3"
    assert (limits["max_connections"]["default"], limits["per_source"]["default"]) == (False, True)
    server.server.listeners[0].update(listener("tcp", "0.0.0.0:7", "echo", per_source=5))
    limits = {one["name"]: one for one in row(server)["limits"]}
    assert limits["per_source"]["value"] == "5"
    assert "(auto: " in limits["max_connections"]["value"]


def test_the_sources_with_most_connections_come_first():
    """At most ten; an IPv6 /64 is one."""
    server = MemoryServer("echo")
    for host in range(15):
        for number in range(host // 5 + 1):
            server.connect((f"192.0.2.{host}", 5000 + number))
    for number in range(9):
        server.connect((f"2001:db8::{number + 1}", 5000))
    sources = snapshot(server)["sources"]
    assert sources[0] == {"source": "2001:db8::/64", "listener": NAME, "connections": 9}
    assert len(sources) == 10
    assert [one["connections"] for one in sources[1:]] == [3, 3, 3, 3, 3, 2, 2, 2, 2]


def test_reloads_are_counted_with_the_last_result(server):
    """Those that fail, too; an abandoned one is none of both."""
    running = server.server
    assert snapshot(server)["config"]["last_reload"] is None
    running.reload(running.configuration)
    config = snapshot(server)["config"]
    assert config["reloads"] == {"success": 1, "failure": 0, "abandoned": 0}
    assert config["last_reload"]["result"] == "success"
    with pytest.raises(Exception, match="ecko"):
        running.reload(type(running.configuration)((listener("tcp", "0.0.0.0:7", "ecko"),)))
    config = snapshot(server)["config"]
    assert config["reloads"]["failure"] == 1
    assert "ecko" in config["last_reload"]["error"]
    reload = running.reload_in_turns(running.configuration)
    reload.addErrback(lambda _failure: None)
    reload.cancel()
    assert [one["event"] for one in running.status.reload_events()][:2] == [
        "reloaded",
        "reload_failed",
    ]


def test_the_lag_of_the_loop_is_that_of_its_timer(server):
    """A stepped clock has none; the longest of a minute is kept."""
    server.advance(5)
    loop = snapshot(server)["loop"]
    assert (loop["lag"], loop["lag_most"], loop["stalls"]) == (0.0, 0.0, 0)
    server.server.status.stall_detector.lags.extend([0.5, 0.25])
    loop = snapshot(server)["loop"]
    assert (loop["lag"], loop["lag_most"]) == (0.25, 0.5)


def test_suppressed_lines_are_counted():
    """As long as the server runs, and over all seconds."""
    server = MemoryServer("echo")
    for number in range(250):
        server.connect(("192.0.2.1", 1 + number)).close()
    before = snapshot(server)["log_lines_dropped"]["log_rate"]
    assert before == 150
    server.advance(2)
    assert snapshot(server)["log_lines_dropped"]["log_rate"] == before


def test_a_failing_service_is_an_error_of_its_listener(expected_failures):
    """The listener goes on."""

    class Failing(Protocol):
        def dataReceived(self, data):
            raise ZeroDivisionError

    expected_failures.append("ZeroDivisionError")
    server = MemoryServer(Factory.forProtocol(Failing))
    server.connect().send(b"x")
    assert row(server)["errors"] == {"accept": 0, "service": 1}
    assert row(server)["connections"]["closed"] == {"service_failed": 1}


def test_a_listener_whose_socket_fails_makes_the_server_unready(server):
    """Its error is named."""
    handle = server.server.listeners[0]
    handle._listener._socket_failed(OSError(errno.EBADF, os.strerror(errno.EBADF)))
    assert handle.state == (ListenerState.FAILED, "Bad file descriptor")
    assert server.server.status.reasons() == [f"{NAME}: failed: Bad file descriptor"]
    assert row(server)["state"] == "failed"
