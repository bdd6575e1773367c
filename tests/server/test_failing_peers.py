"""Peers whose transport raises: a drain, the time limits and a linger go on for all others."""

import pytest

from netsrv.gate import LINGER_TIMEOUT
from netsrv.guards.limits import Limits
from netsrv.server.drain import ABORT_TIMEOUT
from netsrv.testing import MemoryServer
from tests.doubles import DONE, Gated


def fail(*arguments):
    """Raise, as a transport does when epoll_ctl fails."""
    raise OSError(28, "No space left on device")


@pytest.fixture
def expected_failures():
    """The failure of the transport is logged."""
    return ["OSError"]


def broken(server, client):
    """Make the server's transport of a client raise when it is aborted or closed."""
    connections = server.server.listeners[0].gate.connections
    connection = next(each for each in connections if each.peer.endswith(str(client.port)))
    for name in ("abortConnection", "loseConnection", "loseWriteConnection"):
        setattr(connection.transport, name, fail)
    return connection


@pytest.fixture
def clients():
    """A server in memory with five clients."""
    server = MemoryServer("echo")
    clients = []
    for port in range(50000, 50005):
        client = server.connect(("192.0.2.1", port))
        client.port = port
        clients.append(client)
    return server, clients


def test_f113_a_drain_aborts_all_others_and_ends(clients):
    """F113: the connection whose abort raises is given up; its slot is free."""
    server, peers = clients
    broken(server, peers[1])
    drained = server.drain(2)
    server.advance(2)
    others = [client.close_kind for client in peers if client is not peers[1]]
    assert others == ["reset"] * 4
    assert (drained.result.ended, drained.result.aborted) == (0, 5)
    assert server.connections == 0
    assert server.clock.getDelayedCalls() == []


@pytest.mark.parametrize("expected_failures", [[]])
def test_f113_a_drain_ends_though_a_transport_never_reports_its_end(clients):
    """F113: a drain is over `ABORT_TIMEOUT` seconds after the abort, whatever is left."""
    server, peers = clients
    connection = broken(server, peers[0])
    connection.transport.abortConnection = lambda: None
    drained = server.drain(2)
    server.advance(2 + ABORT_TIMEOUT)
    assert (drained.result.ended, drained.result.aborted) == (0, 5)
    assert server.server.connections == 0


@pytest.mark.parametrize("expected_failures", [[]])
def test_f113_time_limits_go_on_for_all_others():
    """F113: the failing connection is given up; the others reach their time limits."""
    first = Gated(limits=Limits(lifetime=10, close_grace=1))
    others = [Gated(beside=first) for _ in range(2)]
    others[0].transport.loseConnection = fail
    first.clock.pump([0.25] * 41)
    assert ("loseConnection",) in first.calls
    assert ("loseConnection",) in others[1].calls
    assert others[0].connection not in first.gate.connections


@pytest.mark.parametrize("expected_failures", [[]])
def test_f113_a_linger_ends_for_all_others():
    """F113: the failing connection does not keep the others from being closed."""
    first = Gated()
    others = [Gated(beside=first) for _ in range(2)]
    for gated in (first, *others):
        gated.service.transport.write(b"reply")
        gated.service.transport.loseConnection()
        gated.connection.writeConnectionLost()
    first.transport.loseConnection = fail
    first.clock.advance(LINGER_TIMEOUT)
    assert others[0].calls[-1] == others[1].calls[-1] == ("loseConnection",)
    assert first.connection not in first.gate.connections


@pytest.mark.parametrize("expected_failures", [[]])
def test_f113_a_connection_that_was_given_up_may_still_report_its_end():
    """F113: its slot is freed once."""
    gated = Gated()
    gated.gate.give_up(gated.connection)
    gated.connection.connectionLost(DONE)
    assert gated.gate.admission.slots[0].in_use == 0
    closed = [event for event in gated.observer.told if event[0] == "connection_closed"]
    assert len(closed) == 1
