"""forward: bytes, ends and resets pass on in both directions."""

import json
import socket
import threading
from contextlib import closing

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred

from netsrv.config.fault_reading import read_fault
from netsrv.config.keywords import listener
from netsrv.config.model import Configuration
from netsrv.server.server import Server
from netsrv.services.forward import ForwardSettings, Upstream, parse_upstream
from netsrv.services.forward_streams import UpstreamStream
from tests.clients import connect, read_all, reset, talk
from tests.reactor import sockets_open, until
from tests.timeouts import CLIENT_TIMEOUT

MUCH = bytes(range(256)) * 4096 * 8  # 8 MiB


@pytest_twisted.async_yield_fixture
async def forward(started):
    """Forward to an address: ``forward("127.0.0.1:7")`` returns the socket of the listener."""

    def start(upstream, transport="tcp", **settings):
        own = ForwardSettings(upstream, **settings)
        server = Server(reactor, listener(transport, "127.0.0.1:0", "forward", settings=own))
        servers.append(started(server))
        return server.sockets[0]

    servers = []
    yield start
    await until(lambda: not any(server.connections for server in servers) and not upstreams())


@pytest.fixture
def upstream():
    """Yield a listening socket of the test, and its address."""
    with closing(socket.create_server(("127.0.0.1", 0))) as sock:
        sock.settimeout(CLIENT_TIMEOUT)
        yield sock


def address_of(sock):
    """Return the address of a socket as the settings have it."""
    host, port = sock.getsockname()[:2]
    return f"{host}:{port}"


def accepted(upstream):
    """Return the next connection of the upstream."""
    sock, _ = upstream.accept()
    sock.settimeout(CLIENT_TIMEOUT)
    return sock


@pytest_twisted.inlineCallbacks
def test_all_bytes_pass_both_ways(forward, serve, client):
    """Every byte comes back, and then FIN."""
    echo = serve("tcp echo=127.0.0.1:0").sockets[0]
    front = forward(address_of(echo.sock))
    assert (yield client(lambda: talk(connect(front), MUCH))) == MUCH


@pytest_twisted.inlineCallbacks
def test_an_end_of_input_passes_on_alone(forward, upstream, client):
    """A client that half-closes gets the answer; an upstream that does, the rest of the request."""

    def check(first, second):
        first.sendall(b"question")
        first.shutdown(socket.SHUT_WR)
        assert read_all(second) == b"question"
        second.sendall(b"answer")
        second.close()
        assert read_all(first) == b"answer"
        first.close()

    front = forward(address_of(upstream))

    def run():
        sock = connect(front)
        check(sock, accepted(upstream))
        sock = connect(front)
        check(accepted(upstream), sock)

    yield client(run)


@pytest_twisted.inlineCallbacks
def test_a_reset_passes_on_as_a_reset(forward, upstream, client):
    """From either side."""
    front = forward(address_of(upstream))

    def run():
        for order in (1, -1):
            sock = connect(front)
            first, second = (sock, accepted(upstream))[::order]
            first.sendall(b"x")
            assert second.recv(1) == b"x"
            reset(first)
            with pytest.raises(ConnectionResetError):
                second.recv(1)
            second.close()

    yield client(run)


@pytest_twisted.inlineCallbacks
def test_a_side_that_does_not_read_pauses_the_other(forward, upstream, client):
    """Little is held; nothing is lost."""
    front = forward(address_of(upstream))

    def run():
        sock = connect(front)
        other = accepted(upstream)
        sender = threading.Thread(target=sock.sendall, args=(MUCH * 4,), daemon=True)
        sender.start()
        sender.join(0.5)
        assert sender.is_alive()
        received = 0
        while received < len(MUCH) * 4:
            received += len(other.recv(1 << 20))
        sender.join(CLIENT_TIMEOUT)
        sock.close()
        other.close()

    yield client(run)


@pytest_twisted.inlineCallbacks
def test_a_dead_upstream_closes_the_client(forward, client):
    """The client gets FIN at once, whatever it has sent."""
    with closing(socket.create_server(("127.0.0.1", 0))) as sock:
        address = address_of(sock)
    front = forward(address)
    assert (yield client(lambda: talk(connect(front), b"hello"))) == b""


@pytest_twisted.inlineCallbacks
def test_the_access_log_has_the_upstream(serve, client, started, tmp_path):
    """Its address, the time of connecting, and how its side has ended."""
    echo = serve("tcp echo=127.0.0.1:0").sockets[0]
    own = ForwardSettings(address_of(echo.sock))
    path = tmp_path / "access.log"
    configuration = Configuration(
        (listener("tcp", "127.0.0.1:0", "forward", settings=own),), access_log=str(path)
    )
    server = started(Server(reactor, configuration))
    yield client(lambda: talk(connect(server.sockets[0]), b"hello"))
    yield until(lambda: not server.connections and not upstreams())
    yield server.drain(1)
    line = json.loads(path.read_text())
    assert (line["upstream"], line["upstream_ended"]) == (address_of(echo.sock), "closed")
    assert 0 < line["connect_seconds"] < CLIENT_TIMEOUT


@pytest_twisted.inlineCallbacks
def test_a_fault_of_connecting_hits_no_connection_that_is_live(forward, serve, client, started):
    """They are connected already; the next one is hit."""
    echo = serve("tcp echo=127.0.0.1:0").sockets[0]
    own = ForwardSettings(address_of(echo.sock))
    server = Server(reactor, listener("tcp", "127.0.0.1:0", "forward", settings=own))
    started(server)
    front = server.sockets[0]
    live = yield client(lambda: connect(front))
    with live:
        yield server.wait_for_connections(lambda count: count == 1)
        fault = read_fault({"type": "connect_fail", "first": 1}).settings(True)
        assert server.listeners[0].faults.add(fault).hits == 0
        answer = yield client(lambda: talk(connect(front), b"hello"))
        assert answer == b""
        answer = yield client(lambda: talk(live, b"hello"))
        assert answer == b"hello"


@pytest_twisted.inlineCallbacks
def test_faults_of_connecting(forward, serve, client, started):
    """The first connection finds no upstream, the second one late; both are counted as others."""
    echo = serve("tcp echo=127.0.0.1:0").sockets[0]
    own = ForwardSettings(address_of(echo.sock), connect_timeout=1)
    faults = [
        {"type": "connect_fail", "first": 1},
        {"type": "connect_delay", "delay": 10, "skip": 1, "first": 1},
        {"type": "connect_delay", "name": "long", "delay": 5000, "skip": 2},
    ]
    server = Server(reactor, listener("tcp", "127.0.0.1:0", "forward", settings=own, fault=faults))
    started(server)
    front = server.sockets[0]
    answers = []
    for _ in range(3):
        answers.append((yield client(lambda: talk(connect(front), b"hello"))))
    assert answers == [b"", b"hello", b""]
    errors = server.listeners[0].service.connect_errors
    assert dict(errors) == {"fault": 1, "timeout": 1}
    assert [fault["hits"] for fault in server.listeners[0].faults.describe()] == [1, 1, 1]
    yield until(lambda: not server.connections and not upstreams())


@pytest_twisted.inlineCallbacks
def test_nothing_is_left_when_a_client_leaves_before_the_upstream_is_connected(
    forward, client, started
):
    """A backlog that is full lets connecting hang."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=0)) as sock:
        fillers = []
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(sock.getsockname())
            fillers.append(filler)
        front = forward(address_of(sock))

        def run():
            reset(connect(front))

        yield client(run)
        for filler in fillers:
            filler.close()


@pytest_twisted.inlineCallbacks
def test_datagrams_have_a_flow_for_each_client(forward, serve, client):
    """Answers come back to the client that has asked, however long they are."""
    echo = serve("udp echo=127.0.0.1:0").sockets[0]
    front = forward(address_of(echo.sock), "udp")

    def run():
        address = front.sock.getsockname()
        socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(20)]
        for number, sock in enumerate(socks):
            sock.settimeout(CLIENT_TIMEOUT)
            sock.connect(address)
            sock.send(b"%d" % number * 500)
        for number, sock in enumerate(socks):
            assert sock.recv(65535) == b"%d" % number * 500
            sock.send(b"")
            assert sock.recv(65535) == b""
            sock.close()

    yield client(run)


@pytest_twisted.inlineCallbacks
def test_a_name_is_looked_up_without_blocking(forward, serve, client):
    """Datagrams that come meanwhile wait."""
    echo = serve("udp echo=127.0.0.1:0", "tcp echo=127.0.0.1:0").sockets
    fronts = [
        forward(f"localhost:{sock.sock.getsockname()[1]}", transport)
        for sock, transport in zip(echo, ("udp", "tcp"), strict=True)
    ]

    def run():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(CLIENT_TIMEOUT)
            sock.connect(fronts[0].sock.getsockname())
            sock.send(b"x")
            assert sock.recv(10) == b"x"
        assert talk(connect(fronts[1]), b"hello") == b"hello"

    yield client(run)


@pytest_twisted.inlineCallbacks
def test_idle_flows_are_closed(forward, serve, client):
    """A flow without datagrams leaves no socket."""
    echo = serve("udp echo=127.0.0.1:0").sockets[0]
    before = sockets_open()
    front = forward(address_of(echo.sock), "udp", flow_timeout=0.5)

    def run():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(CLIENT_TIMEOUT)
            sock.connect(front.sock.getsockname())
            sock.send(b"x")
            assert sock.recv(10) == b"x"

    yield client(run)
    yield ensureDeferred(until(lambda: sockets_open() == before + 1))


def upstreams():
    """Return the upstream connections that the reactor watches."""
    watched = [*reactor.getReaders(), *reactor.getWriters()]
    return [each for each in watched if isinstance(getattr(each, "protocol", None), UpstreamStream)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:80", Upstream("127.0.0.1", 80)),
        ("[::1]:80", Upstream("::1", 80)),
        ("example.org:80", Upstream("example.org", 80)),
        ("/run/app.sock", Upstream("", 0, "/run/app.sock")),
    ],
)
def test_upstreams_are_written_as_addresses(text, expected):
    """Each form has its meaning."""
    assert parse_upstream(text) == expected


@pytest.mark.parametrize("text", ["", "80", "host", "::1:80", "host:0", "host:65536", "a b:1"])
def test_other_upstreams_are_errors(text):
    """The message says what would be right."""
    with pytest.raises(ValueError, match="write HOST:PORT"):
        ForwardSettings(text)


def test_a_path_that_is_too_long_for_the_kernel_is_no_upstream():
    """It is an error at the start, and not one of each client."""
    assert parse_upstream(f"/{'x' * 106}").path
    with pytest.raises(ValueError, match="a path of at most 107 bytes"):
        parse_upstream(f"/{'x' * 107}")
