"""Connections between the kernel's accept and their service: resets, limits that change."""

import pytest
import pytest_twisted
from attrs import evolve

from netsrv.guards.rates import Rate
from netsrv.observers import Observer
from tests.clients import connect, name_of, read_all, reset
from tests.reactor import until

NUMBER = 10


class Recorder(Observer):
    """Records the peers and their ends."""

    def __init__(self):
        self.ended = []
        self.refused = []
        self.errors = []

    def connection_closed(self, listener, connection):
        self.ended.append((connection.peer, connection.close_reason.value, connection.received))

    def connection_refused(self, listener, peer, reason):
        self.refused.append((peer, reason.value))

    def accept_failed(self, listener, error):
        self.errors.append(error)


@pytest.fixture
def recorder():
    """An observer of a server's."""
    return Recorder()


def reset_some(opened, data):
    """Connect, send *data* and reset, some times; return the addresses of the peers."""
    peers = []
    for _ in range(NUMBER):
        sock = connect(opened)
        peers.append(name_of(sock))
        if data:
            sock.sendall(data)
        reset(sock)
    return peers


@pytest.mark.parametrize("data", [b"", b"hello"])
@pytest.mark.parametrize("suspended", [False, True])
@pytest_twisted.ensureDeferred
async def test_f121_a_peer_that_resets_before_it_is_served_is_logged(
    serve, client, recorder, data, suspended
):
    """Its address, its data and its end are reported, and its slot is free again."""
    server = serve("tcp discard=127.0.0.1:0", max_connections="100")
    server.observers.add(recorder)
    listener = server.listeners[0]
    if suspended:
        listener.suspend()
        peers = await client(reset_some, server.sockets[0], data)
        listener.resume()
    else:
        peers = reset_some(server.sockets[0], data)  # the reactor is busy meanwhile
    await until(lambda: len(recorder.ended) == NUMBER)
    assert sorted(recorder.ended) == sorted((peer, "reset", len(data)) for peer in peers)
    assert (recorder.errors, recorder.refused) == ([], [])
    assert server.info()["listeners"][0]["counts"]["accepted"] == NUMBER
    assert listener.gate.admission.slots[0].in_use == 0


@pytest_twisted.ensureDeferred
async def test_f121_access_rules_and_rates_see_a_peer_that_resets(serve, client, recorder):
    """It is refused like any other."""
    server = serve("tcp echo=127.0.0.1:0", no_access="127.0.0.1", connection_rate="1000")
    server.observers.add(recorder)
    peers = reset_some(server.sockets[0], b"")
    await until(lambda: len(recorder.refused) == NUMBER)
    assert sorted(recorder.refused) == sorted((peer, "access") for peer in peers)
    assert recorder.errors == []


def slots_of(server, index):
    """Return the own and the shared slots of a listener."""
    return server.listeners[index].gate.admission.slots


CHANGES = {
    "shared slots": lambda server: setattr(slots_of(server, 1)[1], "limit", 1),
    "a lower limit": lambda server: setattr(slots_of(server, 1)[0], "limit", 0),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest_twisted.ensureDeferred
async def test_f125_under_pause_no_connection_is_closed(serve, client, recorder, change):
    """A limit that another listener or a reload has reached: connections wait, and are served."""
    server = serve("tcp echo=127.0.0.1:0", "tcp echo=127.0.0.1:0", max_connections="5")
    server.observers.add(recorder)
    first = await client(connect, server.sockets[0])
    await until(lambda: server.listeners[0].gate.connections)
    own, shared = slots_of(server, 1)
    before = own.limit, shared.limit
    CHANGES[change](server)
    socks = [connect(server.sockets[1]) for _ in range(3)]
    for sock in socks:
        sock.sendall(b"x")
    waiting = server.listeners[1]._listener
    await until(lambda: not waiting._acceptor.accepting)
    assert not server.listeners[1].gate.connections
    own.limit, shared.limit = before
    first.close()
    await until(lambda: not server.listeners[0].gate.connections)
    waiting._try_again()
    for sock in socks:
        assert await client(sock.recv, 1) == b"x"
        sock.close()
    assert recorder.refused == []


@pytest_twisted.ensureDeferred
async def test_a_lower_rate_makes_connections_wait_until_it_is_raised(serve, client, recorder):
    """Under ``pause`` a reload that lowers the rate closes no connection."""
    server = serve("tcp echo=127.0.0.1:0", max_connections="5")
    server.observers.add(recorder)
    listener = server.listeners[0]._listener
    limits = listener.gate.limits
    listener.set_limits(evolve(limits, connection_rate=Rate(1.0, 1.0)))
    socks = [connect(server.sockets[0]) for _ in range(3)]
    for sock in socks:
        sock.sendall(b"x")
    await until(lambda: listener.gate.connections)
    listener.suspend()
    listener.set_limits(limits)
    listener.resume()
    for sock in socks:
        assert await client(sock.recv, 1) == b"x"
        sock.close()
    assert recorder.refused == []


@pytest_twisted.ensureDeferred
async def test_f131_beyond_the_limit_a_peer_that_has_spoken_sees_fin(serve, client):
    """``close`` ends with FIN, although the service has read nothing."""
    server = serve("tcp echo=127.0.0.1:0", max_connections="1", overload="close")
    first = await client(connect, server.sockets[0])
    await until(lambda: server.listeners[0].gate.connections)
    socks = [connect(server.sockets[0]) for _ in range(5)]
    for sock in socks:
        sock.sendall(bytes(1000))  # before the reactor's next turn
    for sock in socks:
        assert await client(read_all, sock) == b""
        sock.close()
    first.close()
