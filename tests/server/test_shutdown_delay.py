"""The delay of a drain: the server says that it is not ready, and serves on."""

from twisted.logger import capturedLogs, formatEvent

from netsrv.server.drain import Drained
from netsrv.status.health import readiness_checks
from netsrv.testing.servers import MemoryServer

DELAY = 5.0


def delayed(server: MemoryServer, timeout: float = 8.0):
    """Begin a drain with a delay."""
    return server.drain(timeout, DELAY)


def refuses(server: MemoryServer) -> bool:
    """Return True if no socket listens."""
    try:
        server.connect()
    except ConnectionRefusedError:
        return True
    return False


def test_new_peers_are_served_during_the_delay():
    """The server is not ready at once; it refuses connections only when the delay is over."""
    server = MemoryServer("echo")
    drained = delayed(server)
    assert not server.server.status.ready
    failed = [check.name for check in readiness_checks(server.server.status) if check.failure]
    assert failed == ["shutdown"]
    server.advance(DELAY - 0.1)
    client = server.connect()
    client.send(b"late")
    assert client.received == b"late"
    server.advance(0.1)
    assert refuses(server)
    client.send(b"live")
    assert client.read() == b"latelive"
    client.close()
    server.settle()
    assert drained.result == Drained(ended=1, aborted=0)
    assert server.clock.getDelayedCalls() == []


def test_the_time_of_the_drain_begins_after_the_delay():
    """A connection has the whole timeout once the sockets are closed."""
    server = MemoryServer("echo")
    client = server.connect()
    drained = delayed(server, timeout=8)
    server.advance(DELAY + 7.9)
    assert client.close_kind is None
    server.advance(0.1)
    assert client.close_kind == "reset"
    assert drained.result == Drained(ended=0, aborted=1)


def test_the_log_says_what_happens_when():
    """A line when the delay begins, and the one of the drain when the sockets are closed."""
    server = MemoryServer("echo")
    server.connect()
    with capturedLogs() as events:
        delayed(server)
        first = [formatEvent(event) for event in events]
        server.advance(DELAY)
        second = [formatEvent(event) for event in events[len(first) :]]
    assert first == [
        "Not ready: still serving for 5 s, then draining; a second signal ends it now "
        "(--shutdown-delay)"
    ]
    assert "Draining: 1 connection, at most 8 s; a second signal ends it now" in second
    server.server.abort()


def test_an_abort_ends_the_delay_and_the_drain():
    """After a second signal nothing listens, and live connections are reset."""
    server = MemoryServer("echo")
    client = server.connect()
    drained = delayed(server)
    server.advance(1)
    server.server.abort()
    server.settle()
    assert refuses(server)
    assert client.close_kind == "reset"
    assert drained.result.aborted == 1
    assert server.clock.getDelayedCalls() == []


def test_an_abort_before_the_drain_leaves_no_delay():
    """Two signals in one turn of the reactor end the server in that turn."""
    server = MemoryServer("echo")
    server.server.abort()
    drained = delayed(server)
    server.settle()
    assert drained.result == Drained(ended=0, aborted=0)


def test_another_drain_ends_the_delay():
    """A program that drains without a delay does not wait for one that has begun."""
    server = MemoryServer("echo")
    first = delayed(server)
    second = server.drain(8)
    server.settle()
    assert refuses(server)
    assert first.result == second.result == Drained(ended=0, aborted=0)
    assert server.clock.getDelayedCalls() == []


def test_a_cancelled_delay_ends_with_the_drain():
    """To cancel the Deferred leaves no server that is half ended."""
    server = MemoryServer("echo")
    delayed(server).cancel()
    server.settle()
    assert refuses(server)
    assert server.clock.getDelayedCalls() == []


def test_a_server_without_listeners_has_no_delay():
    """Nothing could be served meanwhile."""
    server = MemoryServer("echo")
    [running] = server.server.listeners
    running.close()
    assert delayed(server).result == Drained(ended=0, aborted=0)
