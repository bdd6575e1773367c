"""A running server: info, suspend, wait, drain."""

import json

import pytest
import pytest_twisted

from netsrv.observers.dispatch import Observer
from netsrv.server.server import Drained
from tests.clients import ask, connect, reset, visit
from tests.timeouts import CLIENT_TIMEOUT


@pytest_twisted.ensureDeferred
async def test_a_suspended_server_leaves_connections_in_the_kernel(serve, client):
    """Clients connect and send, and are served after resume; info shows the suspension."""
    server = serve("tcp echo=127.0.0.1:0", "udp echo=127.0.0.1:0")
    server.suspend()
    assert [each["counts"]["suspended"] for each in server.info()["listeners"]] == [True, True]
    sock = await client(connect, server.sockets[0])
    sock.sendall(b"early")
    asking = client(ask, server.sockets[1], b"early")
    assert await client(exchange_refused, sock)
    server.resume()
    assert await client(sock.recv, 5) == b"early"
    assert await asking == [b"early"]
    assert [each["counts"]["suspended"] for each in server.info()["listeners"]] == [False, False]
    sock.close()


def exchange_refused(sock):
    """Return whether no data comes for a moment."""
    sock.settimeout(0.2)
    try:
        return sock.recv(5) is None
    except TimeoutError:
        return True
    finally:
        sock.settimeout(CLIENT_TIMEOUT)


@pytest_twisted.ensureDeferred
async def test_waiting_for_a_number_of_connections(serve, client):
    """The wait ends when the predicate is true, possibly without delay; it can be cancelled."""
    server = serve("tcp echo=127.0.0.1:0")
    assert await server.wait_for_connections(lambda count: count == 0) == 0
    two = server.wait_for_connections(lambda count: count >= 2)
    never = server.wait_for_connections(lambda count: count == 99)
    socks = [await client(connect, server.sockets[0]) for _ in range(2)]
    assert await two == 2
    none = server.wait_for_connections(lambda count: count == 0)
    assert not none.called
    for sock in socks:
        sock.close()
    assert await none == 0
    never.addErrback(lambda failure: None)
    never.cancel()
    assert server.connections == 0


@pytest_twisted.ensureDeferred
async def test_a_drain_returns_what_it_ended(serve, client):
    """It counts ended and aborted connections, and uses the given time limit."""
    server = serve("tcp echo=127.0.0.1:0", shutdown_timeout=60)
    socks = [await client(connect, server.sockets[0]) for _ in range(3)]
    await server.wait_for_connections(lambda count: count == 3)
    draining = server.drain(0.3)
    socks[0].close()
    assert await draining == Drained(ended=1, aborted=2)
    assert await server.drain(0.3) == Drained(ended=0, aborted=0)
    for sock in socks:
        sock.close()


@pytest_twisted.ensureDeferred
async def test_info_is_ready_for_json(serve, client, tmp_path):
    """It has addresses and options in effect, and counts, also of live connections."""
    server = serve(
        "tcp echo=127.0.0.1:0",
        "udp echo=127.0.0.1:0",
        f"unix echo={tmp_path}/s",
        socket_options=["SO_RCVBUF=10000"],
        access_log=f"{tmp_path}/log",
    )
    assert await client(visit, server.sockets[0], b"hello") == b"hello"
    sock = await client(connect, server.sockets[0])
    sock.sendall(b"live")
    assert await client(sock.recv, 4) == b"live"
    assert await client(ask, server.sockets[1], b"four") == [b"four"]
    info = json.loads(json.dumps(server.info()))
    tcp, udp, unix = info["listeners"]
    port = server.sockets[0].port
    assert tcp["address"] == f"127.0.0.1:{port}"
    assert tcp["name"] == f"tcp 127.0.0.1:{port} (echo)"
    assert tcp["options"]["SO_RCVBUF"] == {"asked": 10000, "in_effect": 20000}
    counts = tcp["counts"]
    assert (counts["accepted"], counts["active"]) == (2, 1)
    assert counts["closed"] == {"peer": 1}
    assert (counts["received_bytes"], counts["sent_bytes"]) == (9, 9)
    assert (udp["counts"]["datagrams_received"], udp["counts"]["datagrams_sent"]) == (1, 1)
    assert unix["address"] == f"{tmp_path}/s"
    assert info["access_log"] == {"path": f"{tmp_path}/log", "dropped": 0}
    assert info["connections"] == 1
    sock.close()


@pytest_twisted.ensureDeferred
async def test_f3_a_reset_is_counted_as_one(serve, client):
    """Each close reason is counted: the peer's, the service's, a reset."""
    server = serve("tcp echo=127.0.0.1:0", "tcp daytime=127.0.0.1:0")
    endings = []

    class Ends(Observer):
        def connection_closed(self, listener, connection):
            endings.append(
                (connection.close_reason.value, connection.sent > 0, connection.seconds > 0)
            )

    server.observers.add(Ends())
    for end in (echo_and_reset, visit):
        await client(end, server.sockets[0])
        await server.wait_for_connections(lambda count: count == 0)
    await client(visit, server.sockets[1])
    await server.wait_for_connections(lambda count: count == 0)
    assert endings == [("reset", True, True), ("peer", False, True), ("service", True, True)]


def echo_and_reset(opened):
    """Exchange a byte, and reset the connection."""
    sock = connect(opened)
    sock.sendall(b"x")
    sock.recv(1)
    reset(sock)


@pytest_twisted.ensureDeferred
async def test_a_predicate_that_raises_fails_its_own_wait_only(serve, client):
    """Its Deferred fails, other waits go on, and no waiter is left behind."""
    server = serve("tcp echo=127.0.0.1:0")
    with pytest.raises(ZeroDivisionError):
        await server.wait_for_connections(lambda count: 1 / 0)
    later = server.wait_for_connections(lambda count: 1 / (1 - count) > 1)
    good = server.wait_for_connections(lambda count: count == 1)
    sock = await client(connect, server.sockets[0])
    assert await good == 1
    with pytest.raises(ZeroDivisionError):
        await later
    sock.close()
