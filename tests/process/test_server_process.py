"""The fixture ``netsrv_server``: what a client's test can ask of its server."""

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from netsrv.fixture import process as serverprocess
from netsrv.fixture import views
from netsrv.fixture.process import ServerError, ServerProcess, start_server
from tests.clients import exchange, read_all, talk
from tests.timeouts import TIMEOUT

pytestmark = pytest.mark.version_independent

Starter = Callable[..., ServerProcess]

SERVICES = """
import os
import sys
import time

from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from zope.interface import implementer

from netsrv.interfaces import IStreamService


class Shout(Protocol):
    def dataReceived(self, data):
        self.transport.write(data.upper())


class ShoutFactory(Factory):
    protocol = Shout


factory = ShoutFactory()


@implementer(IStreamService)
class Service:
    name = "shout"
    description = "send everything back in capital letters"
    settings = None

    def stream(self, settings):
        return ShoutFactory()


service = Service()


class Datagrams(DatagramProtocol):
    def datagramReceived(self, datagram, addr):
        self.transport.write(datagram.upper(), addr)


class Modules(Protocol):
    def connectionMade(self):
        self.transport.write(" ".join(sys.modules).encode())
        self.transport.loseConnection()


class Blocks(Protocol):
    def dataReceived(self, data):
        self.transport.getHandle().send(data)  # without the reactor
        time.sleep(1000)


class Dies(Protocol):
    def dataReceived(self, data):
        print("dying")
        os._exit(7)
"""


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write a module of services that only this process can import, and return its name."""
    (tmp_path / "shouting.py").write_text(SERVICES)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    return "shouting"


def client(server: Any) -> socket.socket:
    """Connect to a server or one of its listeners."""
    kind = socket.SOCK_DGRAM if transport_of(server) == "udp" else socket.SOCK_STREAM
    family = socket.AF_UNIX if transport_of(server) == "unix" else socket.AF_INET
    sock = socket.socket(family, kind)
    sock.settimeout(TIMEOUT)
    sock.connect(server.address)
    return sock


def transport_of(server: Any) -> str:
    """Return the transport of a server or one of its listeners."""
    return str(getattr(server, "listeners", [server])[0].transport)


# Ready, and reachable


@pytest.mark.parametrize("transport", ["tcp", "udp", "unix"])
def test_a_server_is_ready_when_the_call_returns(transport, netsrv_server):
    """On each transport the address accepts a connection, which is served."""
    server = netsrv_server("echo", transport=transport)
    with client(server) as sock:
        assert exchange(sock, b"hello") == b"hello"
        assert server.received == [b"hello"]
    if transport == "unix":
        with pytest.raises(ValueError, match="has no port"):
            _ = server.port
        assert server.host == server.address
    else:
        assert (server.host, server.port) == server.address == ("127.0.0.1", server.port)


def test_servers_of_toml(netsrv_server):
    """TOML text defines any number of listeners; one without an address gets a free port."""
    server = netsrv_server(
        config="""
        [[listener]]
        service = "daytime"

        [[listener]]
        service = "echo"
        udp = "127.0.0.1:0"

        [[listener]]
        service = "echo"
        tcp = "127.0.0.1:0"
        limits = { max_connections = 1, overload = "close" }
        """
    )
    daytime, datagrams, echo = server.listeners
    with client(daytime) as sock:
        assert read_all(sock).endswith(b"\r\n")
    with client(datagrams) as sock:
        assert exchange(sock, b"hello") == b"hello"
    with client(echo) as first, client(echo) as second:
        assert exchange(first, b"hello") == b"hello"
        assert second.recv(1) == b""
    assert [listener.received for listener in server.listeners] == [[b""], [b"hello"], [b"hello"]]
    assert [listener.service for listener in server.listeners] == ["daytime", "echo", "echo"]


def test_limits_are_given_as_keywords(netsrv_server):
    """A limit has the same name as in a file."""
    server = netsrv_server("echo", max_connections=1, overload="reset", only_from=["127.0.0.0/8"])
    with client(server) as first:
        assert exchange(first, b"hello") == b"hello"
        with client(server) as second, pytest.raises(ConnectionResetError):
            second.recv(1)
    assert len(server.connections) == 1


@pytest.mark.parametrize(
    ("name", "transport"),
    [
        ("Service", "tcp"),
        ("service", "unix"),
        ("Shout", "tcp"),
        ("ShoutFactory", "tcp"),
        ("factory", "unix"),
        ("Datagrams", "udp"),
    ],
)
def test_a_service_of_ones_own(name, transport, services, netsrv_server):
    """Anything that Twisted or netsrv can serve is named by its import path."""
    server = netsrv_server(f"{services}:{name}", transport=transport)
    with client(server) as sock:
        assert exchange(sock, b"hello") == b"HELLO"


def test_a_service_of_ones_own_in_toml(services, netsrv_server):
    """In TOML text it has the same name."""
    server = netsrv_server(config=f"[[listener]]\nservice = '{services}:Service'")
    with client(server) as sock:
        assert exchange(sock, b"hello") == b"HELLO"


# What has happened


def test_connections_in_the_order_of_acceptance(netsrv_server):
    """Each has peer, counts and close reason; a live one has no close reason."""
    server = netsrv_server("echo")
    with client(server) as first:
        assert exchange(first, b"one") == b"one"
        with client(server) as second:
            assert exchange(second, b"three") == b"three"
            names = ["{}:{}".format(*sock.getsockname()) for sock in (first, second)]
            assert [connection.peer for connection in server.connections] == names
            assert [connection.close_reason for connection in server.connections] == [None, None]
        assert [connection.close_reason for connection in server.connections] == [None, "peer"]
        assert [(one.received, one.sent) for one in server.connections] == [(3, 3), (5, 5)]
    assert server.received == [b"one", b"three"]


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_what_was_sent_is_there_when_it_is_asked_for(transport, netsrv_server):
    """The answer comes after the server has read what was sent: no wait is needed."""
    server = netsrv_server("discard", transport=transport)
    for number in range(1, 21):
        with client(server) as sock:
            sock.send(b"%d" % number)
            assert server.received[-1:] == [b"%d" % number]
        if transport == "tcp":
            assert server.connections[-1].close_reason == "peer"
    assert len(server.received) == 20


def test_what_is_too_long_is_cut_and_said_so(netsrv_server):
    """Beyond a MiB bytes are only counted; services that half-close and pause are not affected."""
    server = netsrv_server("echo")
    data = bytes(range(256)) * 8192
    with client(server) as sock:
        assert exchange(sock, b"short") == b"short"
    assert not server.truncated
    assert talk(client(server), data) == data
    assert [len(data) for data in server.received] == [5, 2**20]
    assert server.connections[1].received == len(data)
    assert server.received[1] == data[: 2**20]
    assert server.truncated


def test_datagrams_in_their_order(netsrv_server):
    """Each datagram is recorded, even an empty one; a test can wait for a number of them."""
    server = netsrv_server("discard", transport="udp")
    with client(server) as sock:
        for datagram in (b"one", b"", b"three"):
            sock.send(datagram)
    server.wait_for_datagrams(3)
    assert server.received == [b"one", b"", b"three"]
    assert server.connections == []


def test_waiting_for_connections(netsrv_server):
    """The wait ends once that many were accepted, including those that have ended."""
    server = netsrv_server("daytime")
    waiting = threading.Thread(target=server.wait_for_connections, args=(2, TIMEOUT))
    waiting.start()
    for _ in range(2):
        assert waiting.is_alive()
        with client(server) as sock:
            read_all(sock)
    waiting.join(TIMEOUT)
    assert not waiting.is_alive()
    server.wait_for_connections(2, timeout=TIMEOUT)


def test_waiting_in_vain(netsrv_server):
    """The error says how many were accepted, by which listener, and shows the log."""
    server = netsrv_server("echo")
    with client(server):
        server.wait_for_connections(1)
        with pytest.raises(TimeoutError) as caught:
            server.wait_for_connections(2, timeout=0.01)
    lines = str(caught.value).splitlines()
    assert "echo: accepted 1 of 2 connections within 0.01 s" in lines[0]
    assert str(server.address) in lines[0]
    assert "Got connection from 127.0.0.1:" in lines[-1]
    with pytest.raises(ValueError, match="no datagrams on tcp"):
        server.wait_for_datagrams(1)


def test_the_log_so_far(netsrv_server):
    """It has the lines that the server would print."""
    server = netsrv_server("echo")
    assert f"Waiting for connections on tcp 127.0.0.1:{server.port} (echo)\n" in server.log
    assert "Got connection" not in server.log
    with client(server):
        server.wait_for_connections(1)
        assert "Got connection from 127.0.0.1:" in server.log


# Errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"service": "nix"}, "netsrv_server: there is no service 'nix'; there are accept,"),
        ({"service": "daytime", "transport": "sctp"}, "transport: 'sctp': one of 'tcp', 'udp',"),
        ({"service": "accept", "transport": "udp"}, "'accept' is not served on UDP; there are"),
        ({"service": "echo", "max_connections": 0}, "max_connections: 0: a whole number from 1"),
        ({"service": "echo", "max_conections": 1}, "max_conections: there is no such option"),
        ({"service": "echo", "settings": {"a": 1}}, "settings: the service 'echo' has no settings"),
        ({"service": "nix.nix:Nix"}, "'nix.nix:Nix' cannot be used: ModuleNotFoundError"),
        ({"service": "os:nix"}, "'os:nix' cannot be used: AttributeError"),
        ({"service": "os:sep"}, "'os:sep' is '/': a service, a Factory, a Protocol or a Datagram"),
        ({"service": "echo", "per_source": object()}, "options are values as TOML has them"),
        ({"service": "echo", "config": ""}, "either a service or config=... would be right"),
        ({}, "either a service or config=... would be right"),
        ({"service": ServerError}, "'netsrv.fixture:ServerError' is <class 'netsrv.fixture.Serv"),
        ({"config": "", "backlog": 1}, "where there is config=..., all options stand in it"),
        ({"config": ""}, "nothing to serve: config has no [[listener]]"),
        ({"config": "[[listener"}, "Expected ']]' at the end of an array declaration"),
        ({"config": "[[listener]]\ntcp = 70000"}, "listener[0].tcp"),
        ({"config": "listener = 7"}, "listener: 7: each listener begins with [[listener]]"),
    ],
)
def test_what_cannot_be_served_is_one_line(arguments, message):
    """The error says what would be right, comes without delay, and leaves nothing behind."""
    before = open_descriptors()
    with pytest.raises(ServerError) as caught:
        start_server(**arguments)
    assert message in str(caught.value)
    assert str(caught.value).count("\n") == 0
    assert open_descriptors() == before
    assert children() == set()


def test_a_server_that_ends_by_itself(services, netsrv_server):
    """Later calls raise an error with its exit status and the end of its log."""
    server = netsrv_server(f"{services}:Dies")
    with client(server) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b""
    for ask in (lambda: server.received, lambda: server.wait_for_connections(5)):
        with pytest.raises(ServerError, match=r"exit status 7(.|\n)*\ndying$"):
            ask()
    server.stop()
    assert server.log.endswith("dying\n")


def test_a_server_that_is_never_ready(tmp_path, monkeypatch):
    """Starting a service whose import never ends fails after the start timeout."""
    (tmp_path / "sleeping.py").write_text("import threading; threading.Event().wait()")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setattr(serverprocess, "START_TIMEOUT", 1.0)
    with pytest.raises(ServerError, match="is not ready after 1 s"):
        start_server("sleeping:service")
    assert children() == set()


# The end


def open_descriptors() -> int:
    """Count the descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def children() -> set[str]:
    """Return the processes that this one has started and that still exist."""
    return set(Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split())


def test_records_outlive_the_server(netsrv_server):
    """After the end, connections, bytes and log can still be read."""
    server = netsrv_server("echo", transport="unix")
    with client(server) as sock:
        assert exchange(sock, b"hello") == b"hello"
        server.stop()
        assert read_ends(sock)
    assert server.process.returncode == 0
    assert server.received == [b"hello"]
    assert [connection.close_reason for connection in server.connections] == ["shutdown"]
    assert "Got connection" in server.log
    assert not Path(server.address).parent.exists()
    server.stop()


def read_ends(sock: socket.socket) -> bool:
    """Return whether a connection has ended, in whatever way."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_service_that_blocks_is_ended(services, netsrv_server, monkeypatch):
    """A wait for a server with a blocked reactor gives up, and the server is ended too."""
    monkeypatch.setattr(views, "COUNT_TIMEOUT", 0.01)
    server = netsrv_server(f"{services}:Blocks")
    with client(server) as sock:
        assert exchange(sock, b"x") == b"x"
        blocked = "is blocked: no answer about 2 connections within 0.01 s; "
        with pytest.raises(TimeoutError, match=blocked):
            server.wait_for_connections(2, timeout=0.01)
        with pytest.raises(TimeoutError, match=blocked):
            asyncio.run(server.async_wait_for_connections(2, timeout=0.01))
        server.stop()
        assert server.process.returncode == 1


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Fail a test that leaves descriptors, threads or processes behind."""
    before = open_descriptors(), threading.active_count(), children()
    yield
    assert (open_descriptors(), threading.active_count(), children()) == before


@pytest.mark.usefixtures("nothing_left")
def test_many_servers_one_after_another_leave_nothing():
    """After 10 starts and stops nothing is left, and each port is free again."""
    ports = []
    for _ in range(10):
        with start_server("echo") as server:
            ports.append(server.port)
            with client(server) as sock:
                assert exchange(sock, b"hello") == b"hello"
    assert_free(ports)


@pytest.mark.usefixtures("nothing_left")
def test_eight_servers_at_once_leave_nothing():
    """Servers do not disturb each other."""
    with ExitStack() as stack:
        servers = [stack.enter_context(start_server("echo")) for _ in range(8)]
        assert len({server.port for server in servers}) == 8
        for number, server in enumerate(servers):
            with client(server) as sock:
                sock.sendall(b"%d" % number)
                assert sock.recv(9) == b"%d" % number
        assert [server.received for server in servers] == [[b"%d" % number] for number in range(8)]
    assert_free([server.port for server in servers])


def assert_free(ports: list[int]) -> None:
    """Fail unless all of these ports are free."""
    for port in ports:
        with socket.socket() as sock, pytest.raises(ConnectionRefusedError):
            sock.connect(("127.0.0.1", port))


# What is imported

PARENTS_MODULES = (
    "channel log modules options order plugin process starter steps views waiting".split()
)
"""The modules of the fixture that the tests' process imports."""


def test_the_plugin_imports_no_twisted():
    """pytest imports the plugin in every run, so that must be cheap."""
    check = "import sys, netsrv.fixture.plugin; print(*sys.modules)"
    modules = subprocess.check_output([sys.executable, "-c", check], text=True).split()
    assert "netsrv.fixture.process" in modules
    assert {"twisted", "attrs", "attr", "zope.interface", "asyncio"} & set(modules) == set()
    ours = {name for name in modules if name.startswith("netsrv.")}
    assert ours == {
        "netsrv.faults",
        "netsrv.faults.methods",
        "netsrv.fixture",
        *(f"netsrv.fixture.{name}" for name in PARENTS_MODULES),
    }


def test_the_child_imports_no_pytest(services, netsrv_server):
    """The server's process imports nothing of pytest, and of workers only if there are some."""
    with client(netsrv_server(f"{services}:Modules")) as sock:
        modules = read_all(sock).decode().split()
    assert "netsrv.server.server" in modules
    assert [name for name in modules if "pytest" in name or "workers" in name] == []
