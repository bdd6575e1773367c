"""The accept loop: its order, its limits, and every error of ``accept``.

`Acceptor` is plain code for any reactor, and `NativeAcceptor` is derived from it.  Tests with a
script run the plain code of both; tests with peers run both on sockets of loopback, where uvloop
accepts for `NativeAcceptor`.
"""

import errno
import os
import socket

import pytest
from twisted.internet.protocol import Factory
from zope.interface.verify import verifyObject

from netsrv.uvreactor.acceptor import (
    BATCH_SIZE,
    LISTENER_ERRNOS,
    RESOURCE_ERRNOS,
    RETRY_DELAY,
    Acceptor,
)
from netsrv.uvreactor.interfaces import IAcceptor
from netsrv.uvreactor.native_acceptor import NativeAcceptor
from tests.uvreactor.accepting import (
    Connection,
    Scripted,
    accepting_on_loopback,
    backlog_length,
)

KINDS = [Acceptor, NativeAcceptor]


@pytest.fixture(params=KINDS)
def kind(request):
    """The class under test."""
    return request.param


# With a script


def test_all_connections_of_the_backlog_are_served(kind):
    """One turn of the reactor empties the backlog."""
    scripted = Scripted(kind, "a", "b", "c")
    scripted.acceptor.doRead()
    assert scripted.served == ["a", "b", "c"]
    assert scripted.watching


def test_other_events_get_their_turn_when_many_connections_wait(kind):
    """At most `BATCH_SIZE` connections are accepted in one turn of the reactor."""
    scripted = Scripted(kind, *(str(number) for number in range(BATCH_SIZE + 5)))
    scripted.acceptor.doRead()
    assert len(scripted.served) == BATCH_SIZE
    scripted.acceptor.doRead()
    assert len(scripted.served) == BATCH_SIZE + 5


CONNECTION_ERRORS = (
    "ENETDOWN ENETUNREACH EHOSTDOWN EHOSTUNREACH ENONET EPROTO ENOPROTOOPT EOPNOTSUPP "
    "ETIMEDOUT ECONNABORTED EPERM ENOSR EPROTONOSUPPORT"
).split()
"""Errors of a connection that failed before it was accepted (accept(2))."""


@pytest.mark.parametrize("number", [getattr(errno, name) for name in CONNECTION_ERRORS])
def test_an_error_of_one_connection_is_reported_and_the_next_is_served(kind, number):
    """F18: an error of a failed connection does not stop the acceptor."""
    scripted = Scripted(kind, number, number, "next")
    scripted.acceptor.doRead()
    assert (scripted.served, scripted.failed, scripted.gone) == (["next"], [number, number], [])
    assert scripted.watching


@pytest.mark.parametrize("number", sorted(RESOURCE_ERRNOS), ids=errno.errorcode.get)
def test_without_resources_accepting_pauses(kind, number):
    """F16, F17: the socket is not watched for `RETRY_DELAY` seconds, and then again."""
    scripted = Scripted(kind, number, "next")
    scripted.acceptor.doRead()
    assert (scripted.served, scripted.failed, scripted.watching) == ([], [number], False)
    scripted.reactor.advance(RETRY_DELAY / 2)
    assert not scripted.watching
    scripted.reactor.advance(RETRY_DELAY / 2)
    assert scripted.watching
    scripted.acceptor.doRead()
    assert scripted.served == ["next"]


def test_f136_without_memory_accepting_pauses(kind):
    """A MemoryError is reported as ENOMEM; `RETRY_DELAY` seconds later accepting goes on."""
    scripted = Scripted(kind, MemoryError, MemoryError, "next")
    for _ in range(2):
        scripted.acceptor.doRead()
        assert not scripted.watching
        scripted.reactor.advance(RETRY_DELAY)
    scripted.acceptor.doRead()
    assert (scripted.served, scripted.failed) == (["next"], [errno.ENOMEM] * 2)


def test_f136_a_connection_for_which_there_is_no_memory_is_closed(kind):
    """It is reported as ENOMEM; the next one is served."""
    connections = [Connection(), Connection()]

    def serve(connection):
        if connection is connections[0]:
            raise MemoryError
        scripted.served.append(connection)

    scripted = Scripted(kind, *connections, serve=serve)
    scripted.acceptor.doRead()
    assert [connection.closed for connection in connections] == [True, False]
    assert (scripted.served, scripted.failed) == (connections[1:], [errno.ENOMEM])


def test_a_persistent_error_does_not_spin(kind):
    """After a turn of the reactor that brings only errors, the acceptor pauses."""
    scripted = Scripted(kind, *[errno.EPERM] * (BATCH_SIZE + 1), "next")
    scripted.acceptor.doRead()
    assert (len(scripted.failed), scripted.watching) == (BATCH_SIZE, False)
    scripted.reactor.advance(RETRY_DELAY)
    scripted.acceptor.doRead()
    assert (scripted.served, scripted.watching) == (["next"], True)


@pytest.mark.parametrize("number", sorted(LISTENER_ERRNOS), ids=errno.errorcode.get)
def test_a_dead_listening_socket_is_reported_once(kind, number):
    """An error of the listening socket ends the acceptor; nothing is left in the reactor."""
    scripted = Scripted(kind, number, "never")
    scripted.acceptor.doRead()
    assert (scripted.served, scripted.failed, scripted.gone) == ([], [], [number])
    assert not scripted.watching


def test_a_reactor_that_gives_the_descriptor_up_goes_on_if_accept_works(kind):
    """``connectionLost`` of a listening socket that still accepts watches it again."""
    scripted = Scripted(kind, "next")
    scripted.reactor.readers.clear()
    scripted.acceptor.connectionLost(None)
    assert (scripted.served, scripted.watching) == (["next"], True)


def test_a_reactor_that_gives_the_descriptor_up_reports_the_error_of_accept(kind):
    """``connectionLost`` of a dead listening socket reports it."""
    scripted = Scripted(kind, errno.EINVAL)
    scripted.reactor.readers.clear()
    scripted.acceptor.connectionLost(None)
    assert (scripted.gone, scripted.watching) == ([errno.EINVAL], False)


def test_a_drain_accepts_the_whole_backlog(kind):
    """A drain serves all connections that wait, however many, and then no more."""
    everything = [str(number) for number in range(3 * BATCH_SIZE + 5)]
    scripted = Scripted(kind, *everything)
    scripted.acceptor.drain()
    assert scripted.served == everything
    assert not scripted.watching


def test_suspending_while_serving_takes_effect_immediately(kind):
    """A callback that suspends the acceptor leaves the next connection in the backlog."""
    served = []

    def serve_one(connection):
        served.append(connection)
        scripted.acceptor.suspend()

    scripted = Scripted(kind, "a", "b", serve=serve_one)
    scripted.acceptor.doRead()
    assert (served, scripted.sock.script, scripted.watching) == (["a"], ["b"], False)
    scripted.acceptor.resume()
    assert scripted.watching


def test_suspending_during_a_pause_leaves_no_timer(kind):
    """A suspended acceptor does not resume by itself."""
    scripted = Scripted(kind, errno.EMFILE)
    scripted.acceptor.doRead()
    scripted.acceptor.suspend()
    assert scripted.reactor.getDelayedCalls() == []
    assert not scripted.watching


def test_a_drain_during_a_pause_leaves_no_timer(kind):
    """The connections that wait are accepted without waiting for the end of the pause."""
    scripted = Scripted(kind, errno.EMFILE, "next")
    scripted.acceptor.doRead()
    scripted.acceptor.drain()
    assert scripted.served == ["next"]
    assert scripted.reactor.getDelayedCalls() == []


def test_a_connection_that_cannot_be_served_is_closed(kind):
    """An OSError of one connection closes that connection, and the next one is served."""
    connection = Connection()

    def fail(connection):
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))

    scripted = Scripted(kind, connection, serve=fail)
    scripted.acceptor.doRead()
    assert connection.closed
    assert (scripted.failed, scripted.gone) == ([errno.ENOTCONN], [])
    assert scripted.watching


# With peers


@pytest.fixture
def accepting(runner, kind):
    """An acceptor that runs."""
    with accepting_on_loopback(runner, kind) as accepting:
        yield accepting


def test_the_interface_is_provided(accepting):
    """A program can rely on `IAcceptor`."""
    assert verifyObject(IAcceptor, accepting.acceptor)


def test_it_stops_exactly_at_a_limit(accepting):
    """Of 20 connections 3 are served, and 17 wait in the backlog until a slot is free."""
    accepting.max_served = 3
    accepting.connect(20)
    accepting.until_served(3)
    assert backlog_length(accepting.sock) == 17
    accepting.max_served = 5
    accepting.acceptor.resume()
    accepting.until_served(5)
    assert backlog_length(accepting.sock) == 15
    accepting.max_served = 20
    accepting.acceptor.resume()
    accepting.until_served(20)
    assert set(accepting.served) == {accepting.served_as}


def test_connections_wait_while_it_is_suspended(accepting):
    """They are served after `resume`; none is closed."""
    accepting.acceptor.suspend()
    accepting.connect(5)
    accepting.runner.turns()
    assert accepting.served == []
    accepting.acceptor.resume()
    accepting.until_served(5)


def test_a_drain_accepts_all_that_wait_and_no_later_one(accepting):
    """A drain serves the backlog before it returns."""
    accepting.connect(50)
    accepting.acceptor.drain()
    assert len(accepting.served) == 50
    accepting.connect()
    accepting.runner.turns()
    assert len(accepting.served) == 50
    accepting.factory.built[0].transport.write(b"hello")
    assert accepting.peers[0].read() == b"hello"


def test_a_drain_keeps_to_the_limit(accepting):
    """Connections beyond the limit stay in the backlog."""
    accepting.max_served = 3
    accepting.connect(5)
    accepting.acceptor.drain()
    assert len(accepting.served) == 3
    assert backlog_length(accepting.sock) == 2


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_rejected_peer_sees_a_close_or_a_reset(accepting, how):
    """A closed connection ends with FIN, a reset one with RST."""
    accepting.acceptor._serve = lambda connection, sockaddr: getattr(connection, how)()
    [peer] = accepting.connect()
    if how == "close":
        assert peer.read() == b""
    else:
        with pytest.raises(ConnectionResetError):
            peer.read()
    assert accepting.runner.reactor.live == set()


def test_a_factory_that_builds_no_protocol_closes_the_connection(accepting):
    """Twisted's ports do so too."""
    accepting.factory.buildProtocol = lambda address: None
    [peer] = accepting.connect()
    assert peer.read() == b""


@pytest.fixture
def expected_failures(request):
    """What is logged in tests of what raises."""
    return ["ZeroDivisionError"] if "raises" in request.node.name else []


def test_serving_that_raises_loses_only_that_connection(accepting):
    """The exception is logged, and the acceptor goes on."""
    accepting.factory.buildProtocol = lambda address: 1 // 0
    [peer] = accepting.connect()
    assert peer.read() == b""
    del accepting.factory.buildProtocol
    accepting.connect()
    accepting.until_served(2)
    assert len(accepting.factory.built) == 1


def test_a_callback_that_raises_after_serving_loses_only_that_connection(accepting):
    """The connection is aborted and its protocol learns of it; the acceptor goes on."""
    serve = accepting.serve

    def serve_and_raise(connection, sockaddr):
        serve(connection, sockaddr)
        return 1 // 0

    accepting.acceptor._serve = serve_and_raise
    [peer] = accepting.connect()
    with pytest.raises(ConnectionResetError):
        peer.read()
    accepting.runner.until(lambda: accepting.factory.built[0].calls == ["made", "lost"])
    accepting.acceptor._serve = serve
    accepting.connect()
    accepting.until_served(2)


def test_an_oserror_of_serving_is_reported(accepting):
    """An OSError is not an error of the program, and is not logged."""

    def fail(connection, sockaddr):
        raise OSError(errno.ENOTCONN, "gone")

    accepting.acceptor._serve = fail
    [peer] = accepting.connect()
    assert peer.read() == b""
    assert accepting.failed == [errno.ENOTCONN]


def test_f121_a_peer_that_has_reset_before_it_is_accepted_is_served(accepting):
    """Its protocol gets the address, the data that came, and the loss."""
    accepting.acceptor.suspend()
    [peer] = accepting.connect()
    address = peer.sock.getsockname()
    peer.sock.send(b"hello")
    peer.reset()
    accepting.acceptor.resume()
    accepting.until_served(1)
    [protocol] = accepting.factory.built
    accepting.runner.until(lambda: protocol.reason)
    [seen] = accepting.factory.addresses
    assert ((seen.host, seen.port), protocol.received) == (address, b"hello")
    assert accepting.failed == []


def test_a_listening_socket_that_was_shut_down_is_reported_once(accepting):
    """The acceptor is then suspended."""
    accepting.sock.shutdown(socket.SHUT_RDWR)
    accepting.runner.until(lambda: accepting.gone)
    accepting.runner.turns()
    assert accepting.gone == [errno.EINVAL]
    assert not accepting.acceptor.accepting


def test_a_factory_gets_the_peers_address(accepting):
    """``buildProtocol`` is called with the address of the peer."""
    [peer] = accepting.connect()
    accepting.until_served(1)
    assert accepting.factory.addresses[0].port == peer.sock.getsockname()[1]
    assert isinstance(accepting.factory, Factory)
