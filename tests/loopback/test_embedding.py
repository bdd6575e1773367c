"""A server inside another program: its own factories, and listeners added and removed."""

import http.client
import os
import re
import signal
import socket
import subprocess
import threading

import pytest
import pytest_twisted
from twisted.application.service import MultiService
from twisted.internet import reactor, task
from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs, formatEvent
from twisted.protocols.amp import AMP, Command, Integer
from twisted.protocols.basic import Int16StringReceiver, LineReceiver, NetstringReceiver
from twisted.web.resource import Resource
from twisted.web.server import Site

from netsrv import __version__
from netsrv.config.model import ConfigurationError
from netsrv.server import Server, listener
from netsrv.sockets.steps import AddressUnavailable
from netsrv.testing.servers import LoopbackServer
from tests.clients import ask, connect, read_all, visit
from tests.process.needs import tool
from tests.reactor import sockets_open, until, watched
from tests.timeouts import TIMEOUT

HOST = "127.0.0.1"


class Page(Resource):
    """Returns its path, or the body of the request."""

    isLeaf = True

    def render_GET(self, request):
        return request.uri

    def render_POST(self, request):
        return request.content.read()


class Quiet(Site):
    """A site without lines about requests."""

    noisy = False

    def log(self, request): ...


def site() -> Site:
    """A site whose own timer is not started: it belongs to the factory, and stays for a minute."""
    return Quiet(Page(), reactor=reactor)


@pytest.fixture
def embed(started):
    """Start servers: ``embed(listener(...), ...)``."""
    return lambda *listeners, **arguments: started(Server(reactor, listeners, **arguments))


def receive(sock, end: bytes) -> bytes:
    """Read up to a delimiter."""
    got = b""
    while not got.endswith(end):
        piece = sock.recv(65536)
        assert piece, got
        got += piece
    return got


# Factories that there are already


def talk_http(port):
    """Three requests on one connection, then one in chunks, as Python's client sends them."""
    connection = http.client.HTTPConnection(HOST, port, timeout=TIMEOUT)
    answers = []
    for number in range(3):
        connection.request("GET", f"/{number}")
        answers.append(connection.getresponse().read())
    connection.request("POST", "/", body=iter([b"in ", b"chunks"]), encode_chunked=True)
    answers.append(connection.getresponse().read())
    connection.close()
    return answers


@pytest_twisted.ensureDeferred
async def test_a_site_keeps_connections_alive(embed, client):
    """One connection serves several requests, and one in chunks."""
    server = embed(listener("tcp", f"{HOST}:0", site()))
    answers = await client(talk_http, server.listeners[0].port)
    assert answers == [b"/0", b"/1", b"/2", b"in chunks"]
    assert server.info()["listeners"][0]["counts"]["accepted"] == 1
    assert server.info()["listeners"][0]["service"] == "Quiet"


@pytest_twisted.ensureDeferred
async def test_a_site_answers_requests_in_one_piece(embed, client):
    """Pipelined requests are answered in order, and then the connection closes as requested."""
    server = embed(listener("tcp", f"{HOST}:0", site(), name="pages"))
    assert server.listeners[0].name.endswith(" (pages)")
    requests = [b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(20)]
    requests.append(b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    with await client(connect, server.sockets[0]) as sock:
        sock.sendall(b"".join(requests))
        answers = await client(read_all, sock)
    bodies = re.findall(rb"\r\n\r\n/(\d+|last)", answers)
    assert bodies == [*(b"%d" % number for number in range(20)), b"last"]


@pytest_twisted.ensureDeferred
async def test_a_site_under_load_stays_at_its_limit(embed):
    """Of many simultaneous clients no more than the limit are ever served at once."""
    most = 0

    class Watch(Resource):
        isLeaf = True

        def render_GET(self, request):
            nonlocal most
            most = max(most, server.connections)
            return b"x" * 100

    server = embed(listener("tcp", f"{HOST}:0", Quiet(Watch(), reactor=reactor), max_connections=8))
    url = f"http://{HOST}:{server.listeners[0].port}/"
    wrk = [tool("wrk"), "-t1", "-c40", "-d2s", "--timeout", "1s", url]
    done = await deferToThread(subprocess.run, wrk, capture_output=True, text=True, check=True)
    await server.wait_for_connections(lambda live: live == 0).addTimeout(TIMEOUT, reactor)
    assert most == 8
    assert int(re.search(r"(\d+) requests in", done.stdout)[1]) > 100
    assert "Non-2xx" not in done.stdout
    counts = server.info()["listeners"][0]["counts"]
    assert (counts["active"], counts["service_failures"]) == (0, 0)


class Sum(Command):
    """Add two numbers."""

    arguments = [(b"a", Integer()), (b"b", Integer())]
    response = [(b"total", Integer())]


class Adder(AMP):
    """Adds."""

    @Sum.responder
    def add(self, a, b):
        return {"total": a + b}


@pytest_twisted.ensureDeferred
async def test_amp():
    """AMP works in both directions, with many questions at once."""
    async with LoopbackServer(reactor, Factory.forProtocol(Adder)) as server:
        caller = await server.connect(AMP())
        answers = [caller.callRemote(Sum, a=number, b=1) for number in range(50)]
        assert [(await each)["total"] for each in answers] == list(range(1, 51))


class Lines(LineReceiver):
    """Echoes lines."""

    def lineReceived(self, line):
        self.sendLine(line)


class Netstrings(NetstringReceiver):
    """Echoes netstrings."""

    def stringReceived(self, string):
        self.sendString(string)


class Prefixed(Int16StringReceiver):
    """Echoes strings."""

    def stringReceived(self, string):
        self.sendString(string)


@pytest.mark.parametrize(
    ("protocol", "said"),
    [
        (Lines, b"one\r\ntwo\r\n"),
        (Netstrings, b"3:one,0:,3:two,"),
        (Prefixed, b"\x00\x03one\x00\x00\x00\x03two"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_twisteds_basic_protocols(embed, client, protocol, said):
    """Input in one piece or byte by byte is answered, even after a half-close."""
    server = embed(listener("tcp", f"{HOST}:0", Factory.forProtocol(protocol)))
    assert await client(visit, server.sockets[0], said) == said
    with await client(connect, server.sockets[0]) as sock:
        for number in range(len(said)):
            sock.sendall(said[number : number + 1])
        assert await client(receive, sock, said) == said


# Datagrams


class Free(DatagramProtocol):
    """Sends first, and answers with more than its request."""

    noisy = False

    def __init__(self, to=None):
        self.got = []
        self.to = to

    def startProtocol(self):
        self.transport.setBroadcastAllowed(True)
        if self.to:
            self.transport.write(b"hello", self.to)

    def datagramReceived(self, datagram, addr):
        self.got.append(datagram)
        self.transport.write(datagram * 1000, addr)


@pytest_twisted.ensureDeferred
async def test_an_own_datagram_protocol_is_free(embed, client):
    """It sends unasked, to one of our servers too, and answers of any length."""
    other = Free()
    second = listener("udp", f"{HOST}:0", other)
    server = embed(second)
    server.add_listener(listener("udp", f"{HOST}:0", Free(to=(HOST, server.listeners[0].port))))
    assert await client(ask, server.sockets[1], b"abc") == [b"abc" * 1000]
    await until(lambda: other.got[:1] == [b"hello"])
    assert server.info()["listeners"][0]["counts"]["datagrams_dropped"] == {}


@pytest_twisted.ensureDeferred
async def test_an_own_datagram_protocol_can_join_a_group(embed):
    """It receives multicast, which no named service would answer."""
    group = "224.0.0.251"

    class Member(Free):
        def startProtocol(self):
            option = socket.inet_aton(group) + socket.inet_aton(HOST)
            sock = self.transport.getHandle()
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, option)

    member = Member()
    server = embed(listener("udp", "0.0.0.0:0", member))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(HOST))
        sender.sendto(b"all of you", (group, server.listeners[0].port))
        await until(lambda: member.got)
    assert member.got == [b"all of you"]


def test_one_datagram_protocol_cannot_be_on_two_ports(embed):
    """A protocol has one transport; nothing stays open."""
    before = sockets_open()
    protocol = Free()
    with pytest.raises(ConfigurationError, match="to another listener"):
        embed(listener("udp", f"{HOST}:0", protocol), listener("udp", f"{HOST}:0", protocol))
    assert sockets_open() == before
    server = embed(listener("udp", f"{HOST}:0", protocol))
    with pytest.raises(ConfigurationError, match="to another listener"):
        server.add_listener(listener("udp", f"{HOST}:0", protocol))
    assert len(server.listeners) == 1


# Listeners come and go


@pytest_twisted.ensureDeferred
async def test_listeners_come_and_go_one_by_one(embed, client):
    """The removal of a listener waits for its connections; the others keep their sockets."""
    first = listener("tcp", f"{HOST}:0", "echo")
    second = listener("tcp", f"{HOST}:0", Factory.forProtocol(Lines))
    server = embed(first)
    post = server.add_listener(second)
    assert server.listener_for(second) is post
    assert (post.host, post.connections) == (HOST, 0)
    assert server.configuration.listeners == (first, second)
    with await client(connect, server.listener_for(first).socket) as beside:
        sock = await client(connect, post.socket)
        sock.sendall(b"one\r\n")
        assert await client(receive, sock, b"\r\n") == b"one\r\n"
        ended = server.remove_listener(second)
        with pytest.raises(LookupError, match=r"tcp 127\.0\.0\.1:0 is not among"):
            server.listener_for(second)
        with socket.socket() as late:
            assert await client(late.connect_ex, (HOST, post.port)) != 0
        sock.sendall(b"two\r\n")
        assert await client(receive, sock, b"\r\n") == b"two\r\n"
        assert not ended.called
        sock.close()
        await ended
        beside.sendall(b"still")
        assert await client(receive, beside, b"still") == b"still"
    assert server.configuration.listeners == (first,)


@pytest_twisted.ensureDeferred
async def test_of_two_that_look_alike_the_right_one_goes(embed, client):
    """Settings with port 0 are compared by identity."""
    alike = [listener("tcp", f"{HOST}:0", "echo") for _ in range(3)]
    server = embed(*alike)
    ports = [server.listener_for(each).port for each in alike]
    assert len(set(ports)) == 3
    await server.remove_listener(alike[1])
    assert [each.port for each in server.listeners] == [ports[0], ports[2]]
    server.remove_listener(alike[0])
    assert await client(visit, server.listener_for(alike[2]).socket, b"x") == b"x"


@pytest_twisted.ensureDeferred
async def test_a_new_listener_may_have_the_port_of_the_first(embed, client):
    """``same`` is resolved at the start; ports of added listeners count as own ports."""
    first = listener("tcp", f"{HOST}:0", "echo")
    server = embed(first)
    post = server.add_listener(listener("udp", f"{HOST}:same", "echo"))
    assert post.port == server.listener_for(first).port
    assert await client(ask, post.socket, b"x") == [b"x"]


class Unwilling(Factory):
    """A factory that raises in startFactory."""

    noisy = False

    def startFactory(self):
        raise RuntimeError("not today")


def test_a_listener_that_cannot_be_changes_nothing(embed):
    """The error is raised, its socket closed, and the other listeners are as before."""
    first = listener("tcp", f"{HOST}:0", "echo")
    server = embed(first)
    before, raised = sockets_open(), []
    taken = listener("tcp", f"{HOST}:{server.listener_for(first).port}", "echo")
    for settings, error in (
        (taken, AddressUnavailable),
        (listener("tcp", f"{HOST}:0", "nosuch"), ConfigurationError),
        (listener("tcp", f"{HOST}:0", Unwilling()), RuntimeError),
        (
            listener("udp", f"{HOST}:0", "echo", socket_options={"TCP_NODELAY": 1}),
            ConfigurationError,
        ),
    ):
        with pytest.raises(error) as caught:
            server.add_listener(settings)
        raised.append(caught)  # so that no socket is closed by being collected
    assert sockets_open() == before
    assert server.configuration.listeners == (first,)


def test_an_option_that_fits_no_socket_names_its_listener():
    """The error names the listener, as a program has no command line."""
    settings = listener("udp", f"{HOST}:0", "echo", socket_options={"TCP_NODELAY": 1})
    with pytest.raises(ConfigurationError) as caught:
        Server(reactor, [settings]).startService()
    assert str(caught.value) == (
        "listener('udp', '127.0.0.1:0').socket_options.TCP_NODELAY: "
        "fits none of the sockets that are asked for"
    )


def test_a_server_may_have_one_listener_alone():
    """A listener that is not in a list is served like a list of one."""
    settings = listener("tcp", f"{HOST}:0", "echo")
    assert Server(reactor, settings).configuration.listeners == (settings,)


def test_a_server_that_does_not_run_takes_no_listener():
    """Listeners can be added only while the server runs."""
    with pytest.raises(RuntimeError, match="is not running"):
        Server(reactor, []).add_listener(listener("tcp", 0, "echo"))


@pytest_twisted.ensureDeferred
async def test_a_server_that_starts_again_serves_what_it_served_last(client):
    """An added listener is served again, a removed one is not."""
    first, second = (listener("tcp", f"{HOST}:0", "echo") for _ in range(2))
    server = Server(reactor, [first])
    server.startService()
    server.add_listener(second)
    server.remove_listener(first)
    await server.stopService()
    server.startService()
    assert await client(visit, server.listener_for(second).socket, b"x") == b"x"
    assert len(server.listeners) == 1
    await server.stopService()


@pytest_twisted.ensureDeferred
async def test_all_listeners_are_announced_once_the_reactor_runs(monkeypatch):
    """This includes one that was added before the reactor ran; each is announced once."""
    later = []
    monkeypatch.setattr(reactor, "callWhenRunning", later.append)
    server = Server(reactor, [listener("tcp", f"{HOST}:0", "echo")])
    server.startService()
    server.add_listener(listener("udp", f"{HOST}:0", Free(), name="free"))
    assert len(later) == 2
    with capturedLogs() as events:
        for each in later:
            each()
        lines = [formatEvent(each) for each in events]
    ports = [each.port for each in server.listeners]
    assert lines[0] == f"netsrv {__version__} on {type(reactor).__name__}"
    assert lines[1].startswith("Limits: max_connections ")
    assert lines[2:] == [
        f"Waiting for connections on tcp {HOST}:{ports[0]} (echo)",
        f"Waiting for datagrams on udp {HOST}:{ports[1]} (free)",
    ]
    await server.stopService()


# What is left in the program


@pytest_twisted.ensureDeferred
async def test_nothing_is_left_behind(client, tmp_path):
    """No delayed call, descriptor, watched socket, thread or signal handler remains."""
    signals = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD]
    handlers = [signal.getsignal(each) for each in signals]
    threads, calls = threads_but_those_of_clients(), set(reactor.getDelayedCalls())
    readers, files = watched(), len(os.listdir("/proc/self/fd"))
    parent = MultiService()
    limits = {"idle_timeout": 60, "connection_rate": "100:100", "max_connections": 1}
    settings = [
        listener("tcp", f"{HOST}:0", site(), **limits),
        listener("udp", f"{HOST}:0", Free()),
        listener("unix", f"{tmp_path}/s", "echo"),
    ]
    server = Server(reactor, settings)
    server.setServiceParent(parent)
    parent.startService()
    added = server.add_listener(listener("tcp", f"{HOST}:0", "echo", **limits))
    assert await client(ask, server.sockets[1], b"x") == [b"x" * 1000]
    socks = [await client(connect, added.socket) for _ in range(3)]
    await server.wait_for_connections(lambda live: live == 1)
    assert [signal.getsignal(each) for each in signals] == handlers
    assert set(reactor.getDelayedCalls()) != calls
    drained = await server.drain(0.01)
    assert drained.aborted == 1
    await parent.stopService()
    for each in socks:
        each.close()
    await task.deferLater(reactor, 0)  # the uvloop reactor closes sockets after the callbacks
    assert [signal.getsignal(each) for each in signals] == handlers
    assert (threads_but_those_of_clients(), set(reactor.getDelayedCalls())) == (threads, calls)
    assert (watched(), len(os.listdir("/proc/self/fd"))) == (readers, files)


def threads_but_those_of_clients():
    """Return the threads except those of the reactor's pool, which runs the clients."""
    return {each for each in threading.enumerate() if not each.name.startswith("PoolThread")}


@pytest_twisted.ensureDeferred
async def test_a_program_drains_before_its_database_goes(embed, client):
    """The drain waits for a request in progress, which still uses the database."""
    asked, database = [], Deferred()

    class Slow(LineReceiver):
        def lineReceived(self, line):
            asked.append(line)
            database.addCallback(self.answer)

        def answer(self, found):
            self.sendLine(found)
            self.transport.loseConnection()

    server = embed(listener("tcp", f"{HOST}:0", Factory.forProtocol(Slow)))
    sock = await client(connect, server.sockets[0])
    sock.sendall(b"what?\r\n")
    await until(lambda: asked)
    draining = server.drain(TIMEOUT)
    assert not draining.called
    database.callback(b"that")
    assert await client(read_all, sock) == b"that\r\n"
    sock.close()
    drained = await draining
    assert (drained.ended, drained.aborted) == (1, 0)


# On loopback, for tests


@pytest_twisted.ensureDeferred
async def test_a_server_for_tests_tells_of_its_connections(client):
    """Under pytest-twisted a test can wait for live and for past connections."""
    async with LoopbackServer(reactor, "echo", idle_timeout=60) as server:
        third = server.wait_for_connections(3)
        for _ in range(2):
            assert await client(visit, server.server.sockets[0], b"x") == b"x"
        assert not third.called
        sock = await client(connect, server.server.sockets[0])
        await third
        await server.wait_for_connections(1)
        assert server.counts.accepted == 3
        assert server.info()["connections"] == server.connections == 1
    with pytest.raises(ConnectionResetError):
        sock.recv(1)
    sock.close()


@pytest_twisted.ensureDeferred
async def test_a_server_for_tests_takes_its_clients_along(client):
    """A connected protocol is aborted at the end; a UDP server works as well."""
    server = LoopbackServer(reactor, "echo").start()
    protocol = await server.connect(Lines())
    protocol.transport.pauseProducing()  # it will not see the server's end by itself
    await server.stop().addTimeout(TIMEOUT, reactor)
    assert protocol.transport.disconnected
    async with LoopbackServer(reactor, Free()) as server:
        assert await client(ask, server.server.sockets[0], b"x") == [b"x" * 1000]
