"""Ports that are stopped and started again."""

import socket

import pytest

from tests.uvreactor.conftest import Recorder, Served
from tests.uvreactor.peer import Peer


def adopt(reactor, factory, tmp_path):
    """Adopt a listening unix socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "adopted"))
        sock.listen()
        sock.setblocking(False)
        return reactor.adoptStreamPort(sock.fileno(), socket.AF_UNIX, factory)


MAKERS = {
    "TCP": lambda reactor, factory, _: reactor.listenTCP(0, factory, interface="127.0.0.1"),
    "TCP on IPv6": lambda reactor, factory, _: reactor.listenTCP(0, factory, interface="::1"),
    "UNIX": lambda reactor, factory, path: reactor.listenUNIX(str(path / "socket"), factory),
    "adopted": adopt,
}


def stop(runner, port):
    """Stop a port, and wait until it is stopped; what that raises is dropped."""
    stopped = port.stopListening()
    stopped.addErrback(lambda failure: None)
    runner.until(lambda: stopped.called)


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("raises", [False, True])
def test_f119_a_port_serves_again(runner, tmp_path, maker, raises):
    """Each time that it was started, also if ``stopFactory`` has raised."""
    factory = Served(Recorder, {})
    if raises:
        factory.stopFactory = lambda: 1 / 0
    port = maker(runner.reactor, factory, tmp_path)
    for number in range(3):
        if number:
            port.startListening()
        host = port.getHost()
        address = (host.host, host.port) if hasattr(host, "port") else (host.name,)
        peer = Peer(runner, *address)
        runner.until(lambda number=number: len(factory.built) == number + 1)
        peer.sock.close()
        stop(runner, port)
    assert runner.reactor.watchdog._acceptors == {}


def test_f119_connections_of_before_are_served_on(runner):
    """A port that is stopped keeps its connections, and they keep their numbers."""
    factory = Served(Recorder, {"data": lambda protocol, data: protocol.transport.write(data)})
    port = runner.reactor.listenTCP(0, factory, interface="127.0.0.1")
    first = Peer(runner, "127.0.0.1", port.getHost().port)
    runner.until(lambda: factory.built)
    stop(runner, port)
    port.startListening()
    second = Peer(runner, "127.0.0.1", port.getHost().port)
    runner.until(lambda: len(factory.built) == 2)
    for peer in (first, second):
        peer.send(b"hello")
        assert peer.read() == b"hello"
        peer.sock.close()
    assert [protocol.transport.sessionno for protocol in factory.built] == [0, 1]
    stop(runner, port)
