"""The accept loop of the uvloop reactor: exact limits, nobody lost, and no spinning."""

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.protocol import Factory
from zope.interface.verify import verifyObject

from netsrv.uvreactor import accept
from netsrv.uvreactor.accept import SPARE
from netsrv.uvreactor.interfaces import IAcceptedConnection, IAcceptor, IStreamAcceptor
from tests.uvreactor.conftest import Recorder, Runner, Served
from tests.uvreactor.peer import PATIENCE, Peer


class Accepting:
    """An accept loop at a listening socket, and all that it tells."""

    def __init__(self, runner: Runner, sock: socket.socket) -> None:
        self.runner = runner
        self.sock = sock
        self.places = 1000
        self.served: list[str] = []
        self.failed: list[int | None] = []
        self.gone: list[int | None] = []
        self.factory = Served(Recorder, {})
        self.loop = runner.reactor.acceptStreams(
            sock,
            self.serve,
            lambda error: self.failed.append(error.errno),
            lambda error: self.gone.append(error.errno),
            lambda: len(self.served) < self.places,
        )
        self.peers: list[Peer] = []
        self.loop.resume()

    def serve(self, newcomer: Any, sockaddr: Any) -> None:
        """Serve, and count."""
        verifyObject(IAcceptedConnection, newcomer)
        self.served.append(type(newcomer).__name__)
        newcomer.serve(self.factory)

    def come(self, number: int = 1) -> list[Peer]:
        """Have so many connect."""
        came = [Peer(self.runner, *self.sock.getsockname()) for _ in range(number)]
        self.peers += came
        return came

    def until_served(self, number: int) -> None:
        """Wait until so many are served, and see that it stays at that."""
        self.runner.until(lambda: len(self.served) >= number)
        self.runner.turns()
        assert len(self.served) == number


@pytest.fixture
def accepting(runner: Runner) -> Iterator[Accepting]:
    """An accept loop that runs."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as sock:
        sock.setblocking(False)
        accepting = Accepting(runner, sock)
        yield accepting
        accepting.loop.suspend()
        accepting.loop.close_pending()
        for each in accepting.peers:
            each.sock.close()


def waiting(sock: socket.socket) -> int:
    """How many wait in the backlog of a listening socket: tcpi_unacked, tcp(7)."""
    information = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return int.from_bytes(information[24:28], sys.byteorder)


def test_the_interfaces_are_provided(accepting):
    """Those that a program asks for."""
    assert IStreamAcceptor.providedBy(accepting.runner.reactor)
    assert verifyObject(IAcceptor, accepting.loop)


def test_it_stops_exactly_at_a_limit(accepting):
    """Of 20, 3 are served, and 17 wait in the backlog until there is a place."""
    accepting.places = 3
    accepting.come(20)
    accepting.until_served(3)
    assert waiting(accepting.sock) == 17
    accepting.places = 5
    accepting.loop.resume()
    accepting.until_served(5)
    assert waiting(accepting.sock) == 15
    accepting.places = 20
    accepting.loop.resume()
    accepting.until_served(20)
    assert set(accepting.served) == {"AcceptedConnection"}


def test_the_backlog_stays_as_it_was(accepting):
    """uvloop calls ``listen`` again: tcpi_sacked is the backlog of a listening socket."""
    information = accepting.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    assert int.from_bytes(information[28:32], sys.byteorder) == 64


def test_who_waits_while_it_is_stopped_is_served_later(accepting):
    """Nobody is turned away."""
    accepting.loop.suspend()
    accepting.come(5)
    accepting.runner.turns()
    assert accepting.served == []
    accepting.loop.resume()
    accepting.until_served(5)


def test_who_was_accepted_when_it_is_stopped_is_held(accepting):
    """uvloop tells of a connection one turn after it has accepted it."""
    [peer] = accepting.come()
    peer.sock.send(b"early")
    loop = accepting.loop
    make = loop._newcomer
    loop._server.close()

    def stopping() -> Any:
        loop.reactor.loop.call_soon(loop.suspend)
        return make()

    loop._server, loop._newcomer = None, stopping
    loop.resume()
    accepting.runner.turns(10)
    assert (accepting.served, waiting(accepting.sock)) == ([], 0)
    loop._newcomer = make
    loop.resume()
    accepting.until_served(1)
    accepting.runner.until(lambda: accepting.factory.built[0].received == b"early")


def test_who_is_held_may_be_let_go(accepting):
    """The peer sees the end, not a reset."""
    loop = accepting.loop
    [peer] = accepting.come()
    accepting.runner.reactor.loop.call_soon(loop.suspend)
    accepting.runner.turns(10)
    loop.close_pending()
    loop.resume()
    accepting.until_served(1)
    peer.sock.close()


def test_finish_accepts_all_who_wait(accepting):
    """At once, and nobody who comes later."""
    accepting.come(50)
    accepting.loop.drain()
    assert len(accepting.served) == 50
    accepting.come()
    accepting.runner.turns()
    assert len(accepting.served) == 50
    accepting.factory.built[0].transport.write(b"hello")
    assert accepting.peers[0].read() == b"hello"


def test_finish_keeps_to_the_limit(accepting):
    """Who is too many stays in the backlog."""
    accepting.places = 3
    accepting.come(5)
    accepting.loop.drain()
    assert len(accepting.served) == 3
    assert waiting(accepting.sock) == 2


@pytest.mark.parametrize("how", ["close", "reset"])
def test_who_is_turned_away_sees_how(accepting, how):
    """An end, or a reset."""
    accepting.loop._serve = lambda newcomer, sockaddr: getattr(newcomer, how)()
    [peer] = accepting.come()
    if how == "close":
        assert peer.read() == b""
    else:
        with pytest.raises(ConnectionResetError):
            peer.read()
    assert accepting.runner.reactor.live == set()


def test_a_factory_that_builds_nothing_closes(accepting):
    """As with Twisted's ports."""
    accepting.factory.buildProtocol = lambda address: None
    [peer] = accepting.come()
    assert peer.read() == b""


@pytest.fixture
def expected_failures(request):
    """What is logged in tests of what raises."""
    return ["ZeroDivisionError"] if "raises" in request.node.name else []


def test_serving_that_raises_loses_that_connection_alone(accepting):
    """And the loop goes on."""
    accepting.factory.buildProtocol = lambda address: 1 // 0
    [peer] = accepting.come()
    assert peer.read() == b""
    del accepting.factory.buildProtocol
    accepting.come()
    accepting.until_served(2)
    assert len(accepting.factory.built) == 1


def test_serving_that_fails_is_told(accepting):
    """An OSError is no error of the program."""

    def fail(newcomer: Any, sockaddr: Any) -> None:
        raise OSError(errno.ENOTCONN, "gone")

    accepting.loop._serve = fail
    [peer] = accepting.come()
    assert peer.read() == b""
    assert accepting.failed == [errno.ENOTCONN]


def test_who_has_left_before_being_served_is_told(accepting):
    """The limits get their place back, since it was never taken."""
    accepting.loop.suspend()
    accepting.come()[0].reset()
    accepting.loop.resume()
    accepting.runner.until(lambda: accepting.failed or accepting.served)
    assert (accepting.failed or [errno.ECONNABORTED]) == [errno.ECONNABORTED]


def test_a_server_that_uvloop_has_given_up_is_noticed(accepting):
    """F17, F18: uvloop closes its server, or spins, without a word; plain code serves then."""
    accepting.loop._server.close()
    accepting.loop._server = Deaf()
    accepting.come()
    accepting.until_served(1)
    assert accepting.served == ["AcceptedSocket"]
    accepting.come()
    accepting.until_served(2)
    assert accepting.served == ["AcceptedSocket", "AcceptedConnection"]


class Deaf:
    """A server that hears nobody."""

    def close(self) -> None:
        """Do nothing."""


def test_a_busy_program_is_not_taken_for_a_deaf_server(accepting):
    """Who came while the reactor was busy is accepted by uvloop all the same."""
    accepting.come()
    accepting.loop.look()
    accepting.loop.look()
    accepting.until_served(1)
    assert accepting.served == ["AcceptedConnection"]


def test_a_listening_socket_that_is_none_any_more_is_told_once(accepting):
    """Its loop has stopped then."""
    accepting.sock.shutdown(socket.SHUT_RDWR)
    accepting.runner.until(lambda: accepting.gone)
    accepting.runner.turns()
    assert accepting.gone == [errno.EINVAL]
    assert not accepting.loop.accepting


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_without_resources_it_pauses(accepting, number):
    """F16, F17: it is told, and 100 ms later it is tried again."""
    loop = accepting.loop
    loop._use_plain_code()
    loop._sock = Failing(accepting.sock, [number])
    loop.doRead()
    assert accepting.failed == [number]
    assert loop not in accepting.runner.reactor.getReaders()
    accepting.come()
    accepting.until_served(1)
    assert accepting.failed == [number]


def test_an_error_of_one_connection_is_told_and_the_next_is_served(accepting):
    """F18."""
    loop = accepting.loop
    loop._use_plain_code()
    loop._sock = Failing(accepting.sock, [errno.EPROTO, errno.EPERM, errno.ECONNABORTED])
    accepting.come()
    accepting.until_served(1)
    assert accepting.failed == [errno.EPROTO, errno.EPERM, errno.ECONNABORTED]


class Failing:
    """A listening socket whose ``accept`` fails in these ways first."""

    def __init__(self, sock: socket.socket, errors: list[int]) -> None:
        self._sock = sock
        self._errors = errors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def accept(self) -> Any:
        """Fail, or accept."""
        if self._errors:
            raise OSError(self._errors.pop(0), "injected")
        return self._sock.accept()


STARVED = """
import resource, socket, sys, time
from netsrv.uvreactor.reactor import UvloopReactor
from twisted.internet.protocol import Factory
from twisted.protocols.wire import Echo

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
reactor = UvloopReactor()
sock = socket.create_server(("127.0.0.1", 0), backlog=256)
sock.setblocking(False)
print(sock.getsockname()[1], flush=True)
factory = Factory.forProtocol(Echo)
factory.noisy = False
errors = []
loop = reactor.acceptStreams(
    sock, lambda newcomer, _: newcomer.serve(factory),
    lambda error: print("failed", error.errno, time.process_time(), flush=True),
    lambda error: print("gone", flush=True), lambda: True,
)
loop.resume()
reactor.run()
"""


def test_without_descriptors_nobody_is_lost(tmp_path):
    """F16: of 100 clients those for whom there is no descriptor wait, and are served later."""
    command = [sys.executable, "-c", STARVED]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        port = int(process.stdout.readline())
        clients = [socket.create_connection(("127.0.0.1", port), PATIENCE) for _ in range(100)]
        failures = [process.stdout.readline().split() for _ in range(10)]
        assert {each[:2] for each in map(tuple, failures)} == {("failed", str(errno.EMFILE))}
        first, last = float(failures[0][2]), float(failures[-1][2])
        assert last - first < 0.3  # of 0.9 seconds that nine pauses last
        for each in clients:
            each.sendall(b"hello")
            assert each.recv(10) == b"hello"
            each.close()
        process.terminate()


def test_a_port_pauses_and_resumes(runner):
    """And stops: then who waits is reset by the kernel."""
    factory = Served(Recorder, {})
    port = runner.reactor.listenTCP(0, factory, interface="127.0.0.1")
    port.pauseProducing()
    peer = Peer(runner, "127.0.0.1", port.getHost().port)
    runner.turns()
    assert factory.built == []
    assert port not in runner.reactor.getReaders()
    port.resumeProducing()
    assert port in runner.reactor.getReaders()
    runner.until(lambda: factory.built)
    stopped = port.stopListening()
    runner.until(lambda: stopped.called)
    assert factory.numPorts == 0
    assert peer.sock.fileno() != -1
    peer.sock.close()


def test_a_unix_port_serves_with_twisteds_own_connections(runner, tmp_path):
    """Which can send descriptors."""
    factory = Served(Recorder, {})
    path = str(tmp_path / "socket")
    port = runner.reactor.listenUNIX(path, factory, mode=0o600)
    peer = Peer(runner, path)
    runner.until(lambda: factory.built)
    assert os.stat(path).st_mode & 0o777 == 0o600
    [protocol] = factory.built
    assert protocol.transport.unsent == 0
    protocol.transport.sendFileDescriptor(0)
    protocol.transport.write(b"x")
    assert protocol.transport.unsent == 1
    runner.turns()
    data, descriptors, _, _ = socket.recv_fds(peer.sock, 10, 1)
    assert (data, len(descriptors)) == (b"x", 1)
    os.close(descriptors[0])
    stopped = port.stopListening()
    runner.until(lambda: stopped.called)
    assert not os.path.exists(path)
    peer.sock.close()


def test_few_descriptors_are_left_for_uvloop(accepting, monkeypatch):
    """Near the limit of descriptors plain code accepts, for uvloop closes clients there."""
    monkeypatch.setattr(accept, "descriptor_limit", lambda: 64)
    free = [0]
    monkeypatch.setattr(accept, "free_descriptors", lambda descriptor, most: min(most, free[0]))
    for free[0], kind in [
        (SPARE, "AcceptedConnection"),
        (SPARE, "AcceptedSocket"),
        (99, "AcceptedSocket"),
        (99, "AcceptedConnection"),
    ]:
        accepting.loop._unchecked = 0
        accepting.come()
        accepting.until_served(len(accepting.served) + 1)
        assert accepting.served[-1] == kind


def test_a_factory_is_told_the_address(accepting):
    """The peer's own."""
    [peer] = accepting.come()
    accepting.until_served(1)
    assert accepting.factory.addresses[0].port == peer.sock.getsockname()[1]
    assert isinstance(accepting.factory, Factory)
