"""Services that send back what they receive: the uvloop reactor does it without calling them."""

import random
import socket

import pytest
import pytest_twisted
from twisted.internet import reactor, task
from twisted.internet.protocol import Factory
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory

from netsrv.config.keywords import listener
from netsrv.interfaces import CloseReason
from netsrv.observers.dispatch import Observer
from netsrv.server.server import Server
from netsrv.services.discard import DiscardStream
from netsrv.services.echo import EchoStream
from netsrv.shortcuts import sends_back, shortcut_of
from netsrv.uvreactor.interfaces import IStreamAcceptor
from tests.clients import connect, read_all, visit
from tests.reactor import until

MIB = 1 << 20


class Upper(EchoStream):
    """Has a ``dataReceived`` of its own, and so does not promise what `EchoStream` does."""

    def dataReceived(self, data):
        self.transport.write(data.upper())


class Promising(EchoStream):
    """Promises it for its own ``dataReceived``."""

    calls = 0

    @sends_back
    def dataReceived(self, data):
        type(self).calls += 1
        self.transport.write(data)


@pytest.fixture
def served(started):
    """Serve a protocol's class on 127.0.0.1: ``served(EchoStream, **limits)``."""

    def serve(protocol, *observers, **limits):
        settings = listener("tcp", "127.0.0.1:0", Factory.forProtocol(protocol), **limits)
        return started(Server(reactor, [settings], observers=observers))

    return serve


class Counting(DiscardStream):
    """Looks at what it drops, and so does not promise what `DiscardStream` does."""

    size = 0

    def dataReceived(self, data):
        type(self).size += len(data)


def test_the_promise_is_that_of_a_method():
    """A subclass that overrides the method has to make it again; a wrapper makes none."""
    wrapped = ProtocolWrapper(WrappingFactory(Factory()), EchoStream())
    protocols = EchoStream(), Promising(), Upper(), wrapped
    assert [shortcut_of(protocol) for protocol in (DiscardStream(), Counting())] == [
        "dropInput",
        None,
    ]
    assert [shortcut_of(protocol) for protocol in protocols] == ["sendBack", "sendBack", None, None]


@pytest_twisted.ensureDeferred
async def test_a_subclass_that_does_more_is_called(served, client):
    """Its own ``dataReceived`` is not bypassed."""
    server = served(Upper)
    assert await client(visit, server.sockets[0], b"shout") == b"SHOUT"


@pytest_twisted.ensureDeferred
async def test_a_service_that_promises_it_need_not_be_called(served, client, monkeypatch):
    """The uvloop reactor sends back by itself; any other calls the service."""
    monkeypatch.setattr(Promising, "calls", 0)
    server = served(Promising)
    assert await client(visit, server.sockets[0], b"there and back") == b"there and back"
    assert (Promising.calls == 0) is IStreamAcceptor.providedBy(reactor)


@pytest_twisted.ensureDeferred
async def test_an_observer_that_intercepts_the_bytes_sees_them(served, client):
    """As the recorder of the test fixture does, in `connection_made`."""
    seen = []

    class Interceptor(Observer):
        def connection_made(self, listener, connection):
            receive = connection.dataReceived

            def data_received(data):
                seen.append(data)
                receive(data)

            connection.dataReceived = data_received

        def connection_closed(self, listener, connection):
            del connection.dataReceived

    server = served(EchoStream, Interceptor())
    assert await client(visit, server.sockets[0], b"seen") == b"seen"
    assert b"".join(seen) == b"seen"


@pytest_twisted.ensureDeferred
async def test_the_bytes_are_counted(served, client):
    """All bytes that came, and all that were sent, while the connection is open and later."""
    server = served(EchoStream)
    data = random.randbytes(3 * MIB)
    assert await client(visit, server.sockets[0], data) == data
    await until(lambda: server.connections == 0)
    counts = server.info()["listeners"][0]["counts"]
    assert (counts["received_bytes"], counts["sent_bytes"]) == (len(data), len(data))
    assert counts["closed"] == {"peer": 1}


@pytest_twisted.ensureDeferred
async def test_dropped_bytes_are_counted(served, client):
    """`discard` counts what it drops, and closes when the peer has ended."""
    server = served(DiscardStream)
    assert await client(visit, server.sockets[0], random.randbytes(3 * MIB)) == b""
    await until(lambda: server.connections == 0)
    counts = server.info()["listeners"][0]["counts"]
    assert (counts["received_bytes"], counts["sent_bytes"]) == (3 * MIB, 0)
    assert counts["closed"] == {"peer": 1}


@pytest_twisted.ensureDeferred
async def test_a_subclass_that_looks_at_what_it_drops_sees_it(served, client, monkeypatch):
    """Every byte."""
    monkeypatch.setattr(Counting, "size", 0)
    server = served(Counting)
    assert await client(visit, server.sockets[0], bytes(MIB)) == b""
    assert Counting.size == MIB


@pytest_twisted.ensureDeferred
async def test_a_peer_that_does_not_read_is_not_read_from(served, client):
    """What waits for it is bounded; when it reads, it gets every byte."""
    server = served(EchoStream)
    sock = await client(connect, server.sockets[0])
    sock.setblocking(False)
    await until(lambda: server.connections == 1)
    data, sent = random.randbytes(64 * MIB), 0

    def push():
        nonlocal sent
        try:
            sent += sock.send(data[sent : sent + MIB])
        except BlockingIOError:
            return True
        return False

    stuck = 0
    while stuck < 20:  # the buffers of both sides are full, and stay so
        stuck = stuck + 1 if push() else 0
        await task.deferLater(reactor, 0)
    (connection,) = server.listeners[0].gate.connections
    assert connection.unsent < MIB
    sock.settimeout(20)

    def read_the_rest():
        got = b""
        while len(got) < sent:
            got += sock.recv(MIB)
        sock.shutdown(socket.SHUT_WR)
        return got + read_all(sock)

    assert await client(read_the_rest) == data[:sent]
    sock.close()


@pytest_twisted.ensureDeferred
async def test_what_comes_after_the_end_is_not_sent_back(served, client):
    """At the idle timeout the peer gets FIN; what it sends then is counted and dropped."""
    ended = []

    class Ends(Observer):
        def connection_closed(self, listener, connection):
            ended.append((connection.close_reason, connection.received, connection.sent))

    server = served(EchoStream, Ends(), idle_timeout=0.1)

    def outstay():
        with connect(server.sockets[0]) as sock:
            sock.sendall(b"once")
            got = read_all(sock)
            sock.sendall(b"twice")
            return got

    assert await client(outstay) == b"once"
    await until(lambda: ended)
    assert ended[0][0] is CloseReason.IDLE_TIMEOUT
    assert ended[0][2] == 4
