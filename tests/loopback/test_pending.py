"""Connections whose service has not begun: stages, over the kernel's loopback."""

import socket
import threading

import pytest
import pytest_twisted
from twisted.internet import reactor

from netsrv.services.echo import EchoService
from tests.clients import read_all, reset, tcp
from tests.doubles import RecorderFactory
from tests.reactor import until
from tests.streams.staging import LineStage, loopback_listener


@pytest.fixture
def listen():
    """Serve *factory* after *stages*: ``listen(factory, *stages)`` returns listener and port."""
    opened = []

    def start(factory, *stages):
        listener, sock = loopback_listener(reactor, factory, *stages)
        opened.append((listener, sock))
        return listener, sock.getsockname()[1]

    yield start
    for listener, sock in opened:
        listener.drain()
        sock.close()
        listener.gate.abort_all()
        pytest_twisted.blockon(listener.gate.when_drained())


@pytest_twisted.ensureDeferred
async def test_echo_after_two_stages(listen, client):
    """Every byte comes back in order, with the stages in one segment with the first of them."""
    factory = EchoService().stream(None)
    factory.noisy = False
    listener, port = listen(factory, LineStage("proxy"), LineStage("tls"))
    data = bytes(range(256)) * 20_000

    def exchange():
        with tcp(port) as sock:
            sender = threading.Thread(target=send_all, args=(sock, b"go\ngo\n" + data))
            sender.start()
            received = read_all(sock)
            sender.join()
            return received

    def send_all(sock, everything):
        sock.sendall(everything)
        sock.shutdown(socket.SHUT_WR)

    assert await client(exchange) == data
    await until(lambda: not listener.gate.open_connections)


@pytest_twisted.ensureDeferred
async def test_any_split_and_a_fin_with_the_last_byte(listen, client):
    """The service gets the same, however the bytes are cut; FIN follows them."""
    factory = RecorderFactory()
    listener, port = listen(factory, LineStage())

    def send(cut):
        with tcp(port) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in (b"go\nhello"[:cut], b"go\nhello"[cut:]):
                sock.sendall(piece)
            sock.shutdown(socket.SHUT_WR)
            return read_all(sock)

    for cut in range(8):
        finished = client(send, cut)
        await until(lambda cut=cut: len(factory.protocols) > cut)
        events = factory.protocols[cut].events
        await until(lambda events=events: "read lost" in events)
        assert (events[0], b"".join(events[1:-1]), events[-1]) == ("made", b"hello", "read lost")
        factory.protocols[cut].transport.loseConnection()
        await finished
    await until(lambda: not listener.gate.open_connections)


@pytest_twisted.ensureDeferred
async def test_a_peer_that_resets_before(listen, client):
    """Its slot is free, and one rejection is reported."""
    stage = LineStage()
    listener, port = listen(RecorderFactory(), stage)

    def leave():
        with tcp(port) as sock:
            sock.sendall(b"g")
            reset(sock)

    await client(leave)
    gate = listener.gate
    await until(lambda: stage.started and not gate.open_connections)
    assert [event[0] for event in gate.observer.told] == ["connection_refused"]


@pytest_twisted.ensureDeferred
async def test_an_abort_ends_pending_connections(listen, client):
    """The peer of a pending connection sees a reset at the end of a drain."""
    listener, port = listen(RecorderFactory(), LineStage())
    with tcp(port) as sock:
        await until(lambda: listener.gate.pending["proxy"])
        listener.drain()
        listener.gate.abort_all()
        await listener.gate.when_drained()
        with pytest.raises(ConnectionResetError):
            await client(sock.recv, 1)
