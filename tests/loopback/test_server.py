"""The server as a whole: all or nothing at the start, nothing left at the end."""

import socket

import pytest
import pytest_twisted
from attrs import frozen
from twisted.application.service import MultiService
from twisted.internet import reactor, task
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from netsrv.config.command_line import from_command_line
from netsrv.config.model import Configuration, ConfigurationError, ListenerSettings
from netsrv.interfaces import IStreamService
from netsrv.registry import Registry
from netsrv.server.prepare import prepare
from netsrv.server.server import Server
from netsrv.sockets.addresses import InternetAddress
from netsrv.sockets.options import parse_option
from netsrv.sockets.steps import AddressUnavailable
from tests.clients import ask, connect, read_all, visit
from tests.reactor import sockets_open
from tests.timeouts import TIMEOUT


async def connected(server, client):
    """Connect to the first listener, and wait until the server has accepted."""
    sock = await client(connect, server.sockets[0])
    while not server.listeners[0].gate.connections:
        await task.deferLater(reactor, 0)
    return sock


@pytest_twisted.ensureDeferred
async def test_same_is_one_number_for_all(serve, client):
    """TCP and UDP are served on one port, in any order, even if the kernel chooses it."""
    server = serve("udp echo=127.0.0.1:same", "tcp echo=127.0.0.1:0", "tcp echo=[::1]:same")
    assert len({each.port for each in server.sockets}) == 1
    udp, tcp, tcp6 = server.sockets
    assert await client(ask, udp, b"datagram") == [b"datagram"]
    assert await client(visit, tcp, b"stream") == b"stream"
    assert await client(visit, tcp6, b"stream") == b"stream"


def test_same_looks_on_when_the_number_is_taken_on_one_transport(monkeypatch):
    """A port that is free on TCP only is given up, and another one is tried."""
    asked = []
    import netsrv.server.binding

    really = netsrv.server.binding.open_datagram

    def open_datagram(address, options, resolver):
        asked.append(address.port)
        if len(asked) < 3:
            raise AddressUnavailable("taken", in_use=True)
        return really(address, options, resolver)

    monkeypatch.setattr(netsrv.server.binding, "open_datagram", open_datagram)
    before = sockets_open()
    made = prepare(from_command_line([("tcp", "127.0.0.1:0"), ("udp", "127.0.0.1:same")]))
    assert len(asked) == 3
    assert [each.socket.port for each in made.listeners] == [asked[2]] * 2
    assert sockets_open() == before + 2
    for each in made.listeners:
        each.socket.close()


@pytest.mark.parametrize(
    ("last", "error"),
    [
        (("tcp", "192.0.2.1:0"), AddressUnavailable),
        (("tcp", "nosuch=0"), ConfigurationError),
        (("udp", "accept=0"), ConfigurationError),
    ],
)
def test_a_start_is_all_or_nothing(tmp_path, last, error):
    """If one listener fails, no socket and no socket file of the others stays."""
    before = sockets_open()
    listeners = [("tcp", "127.0.0.1:0"), ("unix", f"{tmp_path}/s"), last]
    with pytest.raises(error):
        prepare(from_command_line(listeners))
    assert sockets_open() == before
    assert not (tmp_path / "s").exists()


def test_an_option_that_fits_no_socket_is_an_error(tmp_path):
    """The error names it, and nothing stays open; an option that fits one socket is accepted."""
    listeners = [("udp", "127.0.0.1:0"), ("unix", f"{tmp_path}/s")]
    before = sockets_open()
    with pytest.raises(ConfigurationError, match="TCP_NODELAY: fits none of the sockets"):
        prepare(from_command_line(listeners, {"socket_options": ["TCP_NODELAY=1"]}))
    assert sockets_open() == before
    assert not (tmp_path / "s").exists()
    made = prepare(from_command_line(listeners, {"socket_options": ["IP_TOS=16"]}))
    for each in made.listeners:
        each.socket.close()


def test_an_option_in_a_file_must_fit_its_own_listener():
    """An option for another listener's transport is an error at its place in the file."""
    options = (parse_option("TCP_NODELAY=1"),)
    address = InternetAddress("127.0.0.1", 0)
    listeners = (
        ListenerSettings(
            "tcp", "echo", address, config_location="f: listener[0]", socket_options=options
        ),
        ListenerSettings(
            "udp", "echo", address, config_location="f: listener[1]", socket_options=options
        ),
    )
    before = sockets_open()
    with pytest.raises(ConfigurationError) as caught:
        prepare(Configuration(listeners))
    assert str(caught.value) == (
        "f: listener[1].socket_options.TCP_NODELAY: fits none of the sockets that are asked for"
    )
    assert sockets_open() == before


@frozen
class Needy:
    """Settings with a required value."""

    word: str
    number: int
    loud: bool = False


@frozen
class Easy:
    """Settings with a default."""

    word: str = "hello"


@implementer(IStreamService)
class Listening:
    """A service that keeps its settings."""

    name = "listening"
    description = "listen"

    def __init__(self, settings):
        self.settings = settings
        self.given = []

    def stream(self, settings):
        """Keep the settings."""
        self.given.append(settings)
        return Factory.forProtocol(Protocol)


def prepare_listening(service, settings=None):
    """Prepare a listener of a service, and close it again."""
    address = InternetAddress("127.0.0.1", 0)
    listener = ListenerSettings("tcp", service.name, address, settings=settings)
    prepare(Configuration((listener,)), Registry({service.name: service})).close()
    return service.given


def test_a_service_gets_its_settings():
    """It gets the given ones, else the defaults of its class, or None without a class."""
    assert prepare_listening(Listening(None)) == [None]
    assert prepare_listening(Listening(Easy)) == [Easy()]
    assert prepare_listening(Listening(Easy), Easy("bye")) == [Easy("bye")]


def test_a_service_that_needs_settings_says_so():
    """The error names the required ones, and how to give the first."""
    with pytest.raises(ConfigurationError) as caught:
        prepare_listening(Listening(Needy))
    assert str(caught.value) == (
        "tcp 127.0.0.1:0: the service 'listening' needs the settings word, number: "
        "give --setting listening.word=VALUE"
    )


def test_a_service_that_fails_to_start_leaves_nothing(monkeypatch):
    """startService raises the exception of startFactory, with every socket closed."""

    def fail(self):
        raise RuntimeError("as told")

    monkeypatch.setattr(Factory, "startFactory", fail)
    before = sockets_open()
    server = Server(reactor, from_command_line([("udp", "127.0.0.1:0"), ("tcp", "127.0.0.1:0")]))
    with pytest.raises(RuntimeError, match="as told"):
        server.startService()
    assert not server.running
    assert sockets_open() == before


@pytest_twisted.ensureDeferred
async def test_a_client_of_a_failed_start_is_not_served(client, monkeypatch):
    """A client that connected early is refused, not half served."""
    made = prepare(from_command_line([("tcp", "echo=127.0.0.1:0"), ("tcp", "time=127.0.0.1:0")]))
    early = await client(connect, made.listeners[0].socket)
    monkeypatch.setattr(made.listeners[1].service, "startFactory", lambda: 1 / 0)
    server = Server(reactor, from_command_line([]), made)
    with pytest.raises(ZeroDivisionError):
        server.startService()
    with pytest.raises(ConnectionError):
        await client(read_all, early)
    early.close()


def test_a_server_that_never_starts_keeps_nothing(tmp_path):
    """Stopped before its start, it closes its sockets."""
    before = sockets_open()
    configuration = from_command_line([("unix", f"{tmp_path}/s"), ("udp", "127.0.0.1:0")])
    server = Server(reactor, configuration, prepare(configuration))
    server.stopService()
    assert sockets_open() == before
    assert not (tmp_path / "s").exists()


@pytest_twisted.ensureDeferred
async def test_a_second_stop_waits_for_the_same_end(serve, client):
    """A second caller waits for the same drain, and its limit stays."""
    server = serve("tcp echo=127.0.0.1:0", shutdown_timeout=0.1)
    sock = await connected(server, client)
    first, second = server.stopService(), server.stopService()
    assert not second.called
    await first
    await second
    assert server.aborted == 1
    sock.close()


@pytest_twisted.ensureDeferred
async def test_an_abort_before_the_drain_hurries_it(serve, client):
    """After two signals in one turn of the reactor, the drain has no time left."""
    server = serve("tcp echo=127.0.0.1:0", shutdown_timeout=60)
    sock = await connected(server, client)
    server.abort()
    await server.stopService().addTimeout(TIMEOUT, reactor)
    assert server.aborted == 1
    sock.close()


@pytest_twisted.ensureDeferred
async def test_the_end_of_the_service_has_the_delay_of_the_configuration(serve, client):
    """Until it is over new peers are served, and the server is neither changed nor started."""
    server = serve("tcp echo=127.0.0.1:0", "udp echo=127.0.0.1:0", shutdown_delay=60)
    tcp, udp = server.sockets
    stopping = server.stopService()
    assert await client(visit, tcp, b"stream") == b"stream"
    assert await client(ask, udp, b"datagram") == [b"datagram"]
    with pytest.raises(RuntimeError, match="not running"):
        server.add_listener(server.listeners[0].settings)
    with pytest.raises(RuntimeError, match="wait for the Deferred of stopService"):
        server.startService()
    assert not stopping.called
    server.abort()
    await stopping.addTimeout(TIMEOUT, reactor)
    assert (server.listeners, server.aborted) == ([], 0)


@pytest_twisted.ensureDeferred
async def test_a_server_is_a_service_among_others(client):
    """It starts and stops with its parent, and leaves nothing open."""
    before = sockets_open()
    parent = MultiService()
    server = Server(reactor, from_command_line([("tcp", "echo=127.0.0.1:0")]))
    server.setServiceParent(parent)
    parent.startService()
    assert await client(visit, server.sockets[0], b"hello") == b"hello"
    [opened] = server.sockets
    port = opened.port
    await parent.stopService()
    with socket.socket() as late:
        assert late.connect_ex(("127.0.0.1", port)) != 0
    assert sockets_open() == before


@pytest_twisted.ensureDeferred
async def test_the_end_waits_for_live_connections(serve, client):
    """A live connection goes on after the listener has closed, and its end ends the server."""
    server = serve("tcp echo=127.0.0.1:0")
    sock = await client(connect, server.sockets[0])
    sock.sendall(b"a")
    assert await client(sock.recv, 10) == b"a"
    stopping = server.stopService()
    sock.sendall(b"b")
    assert await client(sock.recv, 10) == b"b"
    assert not stopping.called
    sock.close()
    await stopping
    assert server.aborted == 0


@pytest_twisted.ensureDeferred
async def test_the_end_does_not_wait_for_ever(serve, client):
    """After the shutdown timeout remaining connections are aborted, and counted."""
    server = serve("tcp echo=127.0.0.1:0", shutdown_timeout=0.05)
    sock = await connected(server, client)
    await server.stopService()
    assert server.aborted == 1
    with pytest.raises(ConnectionResetError):
        await client(read_all, sock)
    sock.close()
