"""The acceptor of the uvloop reactor, where it differs from the plain one, and its ports."""

import errno
import os
import re
import socket
import sys
from contextlib import ExitStack
from typing import Any

import pytest

from netsrv.uvreactor import native_acceptor
from netsrv.uvreactor.fd_pressure import AcceptWatchdog
from netsrv.uvreactor.interfaces import IStreamAcceptor
from netsrv.uvreactor.native_acceptor import MIN_FREE_DESCRIPTORS, NativeAcceptor
from tests.checkout import TOP
from tests.process.running import Running
from tests.uvreactor.accepting import accepting_on_loopback, backlog_length
from tests.uvreactor.conftest import Recorder, Served
from tests.uvreactor.peer import PATIENCE, Peer


@pytest.fixture
def accepting(runner):
    """An acceptor of uvloop that runs."""
    with accepting_on_loopback(runner, NativeAcceptor) as accepting:
        yield accepting


def test_the_reactor_provides_an_acceptor(runner):
    """A program finds it by its interface."""
    assert IStreamAcceptor.providedBy(runner.reactor)


def test_the_backlog_is_unchanged(accepting):
    """uvloop calls ``listen`` again: tcpi_sacked is the backlog of a listening socket."""
    information = accepting.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    assert int.from_bytes(information[28:32], sys.byteorder) == 64


def test_a_connection_accepted_before_a_suspension_is_held(accepting):
    """uvloop hands a connection over one turn after it has accepted it."""
    [peer] = accepting.connect()
    peer.sock.send(b"early")
    acceptor = accepting.acceptor
    create = acceptor._connection
    acceptor._server.close()

    def stopping() -> Any:
        acceptor.reactor.loop.call_soon(acceptor.suspend)
        return create()

    acceptor._server, acceptor._connection = None, stopping
    acceptor.resume()
    accepting.runner.turns(10)
    assert (accepting.served, backlog_length(accepting.sock)) == ([], 0)
    acceptor._connection = create
    acceptor.resume()
    accepting.until_served(1)
    accepting.runner.until(lambda: accepting.factory.built[0].received == b"early")


def test_held_connections_can_be_closed(accepting):
    """The peer sees FIN, not a reset."""
    acceptor = accepting.acceptor
    [peer] = accepting.connect()
    accepting.runner.reactor.loop.call_soon(acceptor.suspend)
    accepting.runner.turns(10)
    acceptor.close_pending()
    acceptor.resume()
    accepting.until_served(1)
    peer.sock.close()


def test_a_server_that_uvloop_has_given_up_is_noticed(accepting):
    """F17, F18: uvloop closes its server, or spins, without an error; plain code serves then."""
    accepting.acceptor._server.close()
    accepting.acceptor._server = DeadServer()
    accepting.connect()
    accepting.until_served(1)
    assert accepting.served == ["AcceptedSocket"]
    accepting.connect()
    accepting.until_served(2)
    assert accepting.served == ["AcceptedSocket", "AcceptedConnection"]


@pytest.mark.parametrize("change", ["the limit", "a suspension"])
def test_f125_a_limit_that_is_reached_after_the_accept_holds_the_connection(accepting, change):
    """uvloop has accepted it already: it waits until there is room, with its data."""
    acceptor = accepting.acceptor
    create = acceptor._connection
    acceptor._server.close()

    def changing() -> Any:
        if change == "the limit":
            accepting.max_served = 0
        else:
            acceptor.reactor.loop.call_soon(acceptor.suspend)
        return create()

    acceptor._server, acceptor._connection = None, changing
    acceptor.resume()
    [peer] = accepting.connect()
    peer.sock.send(b"early")
    accepting.runner.turns(10)
    assert accepting.served == []
    acceptor._connection = create
    accepting.max_served = 1
    acceptor.resume()
    accepting.until_served(1)
    accepting.runner.until(lambda: accepting.factory.built[0].received == b"early")
    peer.sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        peer.sock.recv(1)


def test_f133_idle_listeners_are_not_asked(runner):
    """A check asks the kernel once for all, then the acceptors for which a connection waits."""
    looked = []

    class Looked:
        def __init__(self, name):
            self.name = name

        def look(self):
            looked.append(self.name)

    watchdog = AcceptWatchdog(runner.reactor.loop)
    with ExitStack() as stack:
        socks = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(50)]
        for number, sock in enumerate(socks):
            watchdog.watch(Looked(number), sock.fileno())
        watchdog._look()
        assert looked == []
        with socket.create_connection(socks[7].getsockname()):
            watchdog._look()
        assert looked == [7]
        for sock in socks:
            watchdog.forget(sock.fileno())
        watchdog._look()
        assert looked == [7]


def test_f133_a_listener_that_is_closed_early_is_forgotten(runner):
    """Its descriptor may be another's by then, and a duplicate may still be open."""
    watchdog = AcceptWatchdog(runner.reactor.loop)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        duplicate = sock.dup()
        watchdog.watch(None, sock.fileno())
        descriptor = sock.fileno()
    with duplicate, socket.create_connection(duplicate.getsockname()):
        watchdog.forget(descriptor)
        assert watchdog._poll.poll(0) == []


class DeadServer:
    """A server that accepts nothing."""

    def close(self) -> None:
        """Do nothing."""


def test_a_busy_program_is_not_mistaken_for_a_dead_server(accepting):
    """uvloop still accepts a connection that came while the reactor was busy."""
    accepting.connect()
    accepting.acceptor.look()
    accepting.acceptor.look()
    accepting.until_served(1)
    assert accepting.served == ["AcceptedConnection"]


def test_plain_code_that_reaches_the_limit_leaves_the_backlog_to_itself(accepting):
    """uvloop's server is not opened again before a slot is free."""
    accepting.max_served = 1
    accepting.acceptor._use_plain_code()
    accepting.connect(3)
    accepting.until_served(1)
    assert backlog_length(accepting.sock) == 2
    assert accepting.served == ["AcceptedSocket"]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_without_resources_it_pauses(accepting, number):
    """F16, F17: the error is reported, and 100 ms later the acceptor tries again."""
    acceptor = accepting.acceptor
    acceptor._use_plain_code()
    acceptor._sock = Failing(accepting.sock, [number])
    acceptor.doRead()
    assert accepting.failed == [number]
    assert acceptor not in accepting.runner.reactor.getReaders()
    accepting.connect()
    accepting.until_served(1)
    assert accepting.failed == [number]


def test_an_error_of_one_connection_is_reported_and_the_next_is_served(accepting):
    """F18: an error of a failed connection does not stop the acceptor."""
    acceptor = accepting.acceptor
    acceptor._use_plain_code()
    acceptor._sock = Failing(accepting.sock, [errno.EPROTO, errno.EPERM, errno.ECONNABORTED])
    accepting.connect()
    accepting.until_served(1)
    assert accepting.failed == [errno.EPROTO, errno.EPERM, errno.ECONNABORTED]


class Failing:
    """A listening socket whose ``accept`` raises these errors first."""

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
from importlib import import_module
from twisted.internet.protocol import Factory
from twisted.protocols.wire import Echo
from netsrv.uvreactor.acceptor import accept_streams

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
module, name = sys.argv[1].rsplit(".", 1)
reactor = getattr(import_module(module), name)()
sock = socket.create_server(("127.0.0.1", 0), backlog=256)
sock.setblocking(False)
print(sock.getsockname()[1], flush=True)
factory = Factory.forProtocol(Echo)
factory.noisy = False
acceptor = accept_streams(
    reactor, sock, lambda connection, _: connection.serve(factory),
    lambda error: print("failed", error.errno, time.process_time(), flush=True),
    lambda error: print("gone", flush=True), lambda: True,
)
acceptor.resume()
reactor.run()
"""


@pytest.mark.parametrize(
    "reactor",
    ["netsrv.uvreactor.reactor.UvloopReactor", "twisted.internet.pollreactor.PollReactor"],
)
def test_without_descriptors_no_connection_is_lost(reactor, tmp_path):
    """F16: of 100 connections those without a descriptor wait, and are served later."""
    command = [sys.executable, "-c", STARVED, reactor]
    with Running(command, tmp_path, {"PYTHONPATH": str(TOP)}) as process:
        port = int(process.wait_for(r"^(\d+)$")[1])
        clients = [socket.create_connection(("127.0.0.1", port), PATIENCE) for _ in range(100)]
        failure = rf"^failed {errno.EMFILE} (\S+)$"
        last = float(process.wait_for(failure, 10)[1])
        first = float(process.wait_for(failure)[1])
        assert [line for line in process.lines[1:10] if not re.match(failure, line)] == []
        assert last - first < 0.3  # of 0.9 seconds that nine pauses last
        for client in clients:
            client.sendall(b"hello")
            assert client.recv(10) == b"hello"
            client.close()
        process.stop()


def test_a_port_pauses_and_resumes(runner):
    """And stops: then the kernel resets the connections in its backlog."""
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


def test_a_unix_port_serves_with_twisteds_own_transports(runner, tmp_path):
    """They can send descriptors."""
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


def test_plain_code_accepts_while_few_descriptors_are_free(accepting, monkeypatch):
    """Near the limit of descriptors uvloop would close connections."""
    monkeypatch.setattr(native_acceptor, "descriptor_limit", lambda: 64)
    free = [0]
    monkeypatch.setattr(native_acceptor, "free_descriptors", lambda fd, most: min(most, free[0]))
    for free[0], kind in [
        (MIN_FREE_DESCRIPTORS, "AcceptedConnection"),
        (MIN_FREE_DESCRIPTORS, "AcceptedSocket"),
        (99, "AcceptedSocket"),
        (99, "AcceptedConnection"),
    ]:
        accepting.acceptor._unchecked = 0
        accepting.connect()
        accepting.until_served(len(accepting.served) + 1)
        assert accepting.served[-1] == kind
