"""The faults of servers in processes of their own, as tests of clients use them."""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
import trio

from netsrv.fixture import ServerError, start_proxy, start_server
from tests.timeouts import TIMEOUT

TWO_LISTENERS = """
[[listener]]
service = "echo"

[[listener]]
service = "echo"
udp = "127.0.0.1:0"
"""


@pytest.fixture(scope="module")
def both():
    """Start a server with a listener on TCP and one on UDP."""
    with start_server(config=TWO_LISTENERS) as server:
        yield server


@pytest.fixture
def server(both):
    """Return the server without faults and records."""
    both.reset_all()
    both.clear()
    return both


@pytest.fixture
def client(server):
    """Return a socket for datagrams to the server."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect(server.listeners[1].address)
        yield sock


def ask(address, data=b"hello"):
    """Send data on a new connection, and return what comes back before the end."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect(address)
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        with sock.makefile("rb") as answer:
            return answer.read()


def test_faults_of_connections(server):
    """As a context manager and as a statement; a fault has its hits, also after its end."""
    with server.limit_data(2) as cut:
        assert ask(server.address) == b"he"
    assert ask(server.address) == b"hello"
    server.refuse("reset", first=2)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            ask(server.address)
    assert ask(server.address) == b"hello"
    assert (cut.hits, server.hits("limit_data"), server.hits("refuse_downstream")) == (1, 1, 2)


def test_down_keeps_the_port(server, client):
    """The kernel refuses, on TCP and UDP, and the server goes on at the same addresses."""
    with server.down(), server.listeners[1].unreachable():
        with pytest.raises(ConnectionRefusedError):
            ask(server.address)
        client.send(b"x")
        with pytest.raises(ConnectionRefusedError):
            client.recv(9)
    assert ask(server.address) == b"hello"
    client.send(b"x")
    assert client.recv(9) == b"x"


def test_faults_of_datagrams(server, client):
    """The same ones with the same seed; each listener has faults of its own."""
    datagrams = server.listeners[1]
    for _ in range(2):
        with datagrams.loss(0.5, seed=7) as losing:
            for number in range(10):
                client.send(b"%d" % number)
            assert [client.recv(9) for _ in range(5)] == [b"0", b"6", b"7", b"8", b"9"]
        assert losing.hits == 5
    with pytest.raises(ValueError, match=r"config: 'loss': there is no such fault on tcp"):
        server.loss(0.5)


def test_data_that_was_sent_before_meets_no_fault(server, client):
    """The server processes it before the fault is added."""
    with socket.create_connection(server.address, TIMEOUT) as sock:
        sock.sendall(b"before")
        server.timeout(stream="upstream")
        sock.sendall(b"after")
        assert sock.recv(100) == b"before"
        server.clear_faults()
        assert sock.recv(100) == b""
    client.send(b"before")
    server.listeners[1].blackhole()
    assert client.recv(100) == b"before"


def test_reset_all_ends_the_faults_of_all_listeners(server):
    """And clear_faults those of the first one."""
    first, second = server.listeners
    first.noop()
    second.loss()
    server.clear_faults()
    first.noop()
    with pytest.raises(ValueError, match="named 'loss_downstream' already"):
        second.loss()
    server.reset_all()
    second.loss().remove()


def test_clear_forgets_the_hits_of_the_past(server):
    """Those of faults in effect stay."""
    server.noop(name="stays")
    server.noop(name="ends").remove()
    ask(server.address)
    server.clear()
    assert server.hits("stays") == 1
    with pytest.raises(LookupError, match="no fault 'ends'; there were stays"):
        server.hits("ends")


def test_in_a_coroutine_of_asyncio(server):
    """The methods need no event loop, and do not disturb one."""

    async def run():
        with server.limit_data(2):
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(b"hello")
            answer = await reader.read()
            writer.close()
        return answer

    assert asyncio.run(run()) == b"he"


def test_in_a_coroutine_of_trio(server):
    """The same."""

    async def run():
        with server.limit_data(2):
            async with await trio.open_tcp_stream(server.host, server.port) as stream:
                await stream.send_all(b"hello")
                return b"".join([data async for data in stream])

    with ThreadPoolExecutor() as threads:  # in the main thread it would watch signals, as we do
        assert threads.submit(trio.run, run).result() == b"he"


def test_the_end_of_the_server_ends_its_faults():
    """Its hits can still be read; a restart begins without faults, at the same address."""
    with start_server("echo") as server, server.refuse() as refusing:
        assert ask(server.address, b"") == b""
        server.stop()
        assert refusing.hits == 1
        server.start()
        assert ask(server.address) == b"hello"


def test_a_server_that_is_gone():
    """Adding a fault is an error, and ending one is not."""
    with start_server("echo") as server, server.noop():
        server.process.kill()
        server.process.wait()
        with pytest.raises(ServerError, match="has ended while it was needed"):
            server.noop(name="other")


def test_a_proxy_before_any_server(server):
    """It passes everything on, and may fail to connect, or be slow."""
    with start_proxy(server, settings={"connect_timeout": 1}) as proxy:
        assert ask(proxy.address) == b"hello"
        with proxy.connect_fail(first=1):
            assert ask(proxy.address) == b""
            assert ask(proxy.address) == b"hello"
        with proxy.connect_delay(5000):
            assert ask(proxy.address) == b""
        assert len(server.connections) == 2


def test_the_forms_of_an_upstream(server, monkeypatch):
    """A server, a listener, an address, a text or a port."""
    orders = []
    monkeypatch.setattr(
        "netsrv.fixture.starter.start_server", lambda *_, settings, **keys: orders.append(settings)
    )
    listener = server.listeners[0]
    for upstream in (server, listener, server.address, f"127.0.0.1:{server.port}", server.port):
        start_proxy(upstream)
    start_proxy(("::1", 7, 0, 0))
    ours, others = {"upstream": f"127.0.0.1:{server.port}"}, {"upstream": "[::1]:7"}
    assert orders == [*[ours] * 5, others]


def test_a_proxy_of_datagrams_and_of_unix_sockets(server, netsrv_proxy, client):
    """By its protocol."""
    proxy = netsrv_proxy(server.listeners[1], protocol="udp")
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect(proxy.address)
        proxy.loss(first=1)
        for number in range(2):
            sock.send(b"%d" % number)
        assert sock.recv(9) == b"1"
    assert ask(netsrv_proxy(server, protocol="unix").address) == b"hello"


def test_a_wrong_upstream(netsrv_proxy):
    """One line says what would be right."""
    with pytest.raises(ServerError, match=r"netsrv_proxy: None: 'HOST:PORT', \(host, port\)"):
        netsrv_proxy(None)
    with pytest.raises(ServerError, match=r"settings\.upstream: 'x': write HOST:PORT"):
        netsrv_proxy("x")
