"""Services of one message, which the accept loop serves itself."""

import errno
import os
import socket
import struct
import threading

import pytest
import pytest_twisted
from twisted.internet import reactor, task
from twisted.internet.protocol import Factory, Protocol

from netsrv.config.keywords import listener
from netsrv.interfaces import CloseReason, RejectReason
from netsrv.observers.dispatch import Observer
from netsrv.server.server import Server
from netsrv.services.message import MessageFactory
from netsrv.streams.message_acceptor import MessageAcceptor, accepts_messages
from netsrv.uvreactor.interfaces import IReadableWatcher
from tests.clients import connect, read_all, reset, visit
from tests.reactor import until
from tests.timeouts import TIMEOUT

SEGMENTS_IN = 140
"""The offset of tcpi_segs_in in struct tcp_info of Linux."""

LINE = b"one line for you\r\n"


class Events(Observer):
    """Records connections one by one: it knows nothing of the events about several."""

    def __init__(self):
        self.made = []
        self.closed = []
        self.refused = []
        self.failed = []

    def listener_failed(self, listener, error, reopening):
        self.failed.append(error.errno)

    def connection_made(self, listener, connection):
        self.made.append(connection.peer)

    def connection_closed(self, listener, connection):
        self.closed.append(
            (connection.peer, connection.received, connection.sent, connection.close_reason)
        )

    def connection_refused(self, listener, peer, reason):
        self.refused.append(reason)


@pytest.fixture
def events():
    """An observer that is told of each connection singly."""
    return Events()


@pytest.fixture
def served(started, events):
    """Serve a message: ``served(LINE, address, **limits)`` returns the server."""

    def serve(message, address="127.0.0.1:0", transport="tcp", **limits):
        say = message if callable(message) else lambda peer: message
        settings = listener(transport, address, MessageFactory(say), **limits)
        return started(Server(reactor, [settings], observers=[events]))

    return serve


def gate_of(server):
    """Return the gate of the only listener."""
    return server.listeners[0].gate


def name_of(sock):
    """Return a client's own address, as the server shows it."""
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def silent(opened):
    """Connect, read to the end, and return the client's address and what it got."""
    with connect(opened) as sock:
        return name_of(sock), read_all(sock)


def talkative(opened):
    """Send something first, then read to the end."""
    with connect(opened) as sock:
        sock.sendall(b"hello")
        return name_of(sock), read_all(sock)


async def over(server):
    """Return once no connection is left."""
    await until(lambda: server.connections == 0)


@pytest.mark.parametrize("service", ["accept", "daytime", "info", "qotd", "time"])
@pytest_twisted.ensureDeferred
async def test_the_built_in_services_of_one_message_need_no_protocol(serve, service):
    """Each of them is served in the accept loop, also beside another acceptor."""
    server = serve(f"tcp {service}=127.0.0.1:0", "tcp echo=127.0.0.1:0")
    first, second = (running._listener._acceptor for running in server.listeners)
    assert isinstance(first, MessageAcceptor)
    assert not isinstance(second, MessageAcceptor)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0"])
@pytest.mark.parametrize("message", [b"", LINE])
@pytest.mark.parametrize("client_does", [silent, talkative])
@pytest_twisted.ensureDeferred
async def test_each_peer_gets_the_message_and_is_counted(
    served, client, events, address, message, client_does
):
    """Silent or talkative, a peer gets the message and FIN; one event begins it, one ends it."""
    server = served(message, address)
    peers = []
    for _ in range(5):
        peer, got = await client(client_does, server.sockets[0])
        assert got == message
        peers.append(peer)
    await over(server)
    received = 5 if client_does is talkative else 0
    assert events.made == peers
    assert sorted(peer for peer, *_ in events.closed) == sorted(peers)
    assert {ended[2:] for ended in events.closed} == {(len(message), CloseReason.SERVICE)}
    assert all(ended[1] <= received for ended in events.closed)
    counts = server.info()["listeners"][0]["counts"]
    assert (counts["accepted"], counts["active"]) == (5, 0)
    assert counts["closed"] == {"service": 5}
    assert counts["sent_bytes"] == 5 * len(message)
    assert sum(counts["duration_buckets"]) == 5


@pytest_twisted.ensureDeferred
async def test_a_peer_on_a_unix_socket_is_shown_by_its_credentials(
    served, client, events, tmp_path
):
    """The process and the user are known, although the connection is over at once."""
    server = served(b"", str(tmp_path / "s"), "unix")
    assert await client(visit, server.sockets[0], b"") == b""
    await until(lambda: events.closed)
    assert events.made == [f"unix pid {os.getpid()} uid {os.getuid()}"]


@pytest_twisted.ensureDeferred
async def test_the_message_may_depend_on_the_peer(served, client):
    """The function is given the addresses and the socket of the connection."""

    def describe(peer):
        family = peer.getHandle().family.name
        return f"{peer.getPeer().port} {peer.getHost().port} {family}".encode()

    server = served(describe)
    peer, got = await client(silent, server.sockets[0])
    port = server.sockets[0].port
    assert got.decode() == f"{peer.partition(':')[2]} {port} AF_INET"


@pytest_twisted.ensureDeferred
async def test_message_and_end_come_in_one_segment(served, client):
    """A silent peer receives two segments: SYN with ACK, and the message with FIN (TCP_INFO)."""
    server = served(LINE)
    sock = await client(connect, server.sockets[0])
    assert await client(read_all, sock) == LINE
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, SEGMENTS_IN + 4)
    assert struct.unpack_from("I", info, SEGMENTS_IN) == (2,)
    sock.close()


@pytest_twisted.ensureDeferred
async def test_a_long_message_waits_for_its_reader(served, client):
    """What the kernel does not take at once follows, and then FIN; the peer may be slow."""
    message = os.urandom(8 << 20)
    server = served(message)
    sock = await client(connect, server.sockets[0])
    await until(lambda: server.connections == 1)
    (connection,) = gate_of(server).connections
    assert 0 < connection.unsent < len(message)
    assert await client(read_all, sock) == message
    sock.close()
    await over(server)


@pytest_twisted.ensureDeferred
async def test_a_reader_that_never_reads_is_aborted_after_the_grace(served, client, events):
    """A message that waits is output after a close, whose time is limited."""
    server = served(b"x" * (8 << 20), close_grace=0.2)
    with await client(connect, server.sockets[0]):
        await until(lambda: events.closed)
    assert events.closed[0][3] is CloseReason.CLOSE_GRACE
    assert 0 < events.closed[0][2] < 8 << 20


@pytest_twisted.ensureDeferred
async def test_a_peer_that_resets_while_it_is_lingered_for_is_counted_as_reset(
    served, client, events
):
    """RST instead of FIN is the reason of the end."""
    server = served(LINE)
    sock = await client(connect, server.sockets[0])
    await until(lambda: server.connections == 1)
    reset(sock)
    await over(server)
    assert events.closed[0][3] is CloseReason.RESET


@pytest_twisted.ensureDeferred
async def test_an_exception_ends_its_own_connection_only(served, client, events, expected_failures):
    """The peer gets RST, the event a reason, and the next peer the message."""
    expected_failures.append("ZeroDivisionError")
    turns = iter([0, 1])
    server = served(lambda peer: LINE * (1 // next(turns)))
    with pytest.raises(ConnectionResetError):
        await client(silent, server.sockets[0])
    assert (await client(silent, server.sockets[0]))[1] == LINE
    await over(server)
    reasons = [ended[3] for ended in events.closed]
    assert reasons == [CloseReason.SERVICE_FAILED, CloseReason.SERVICE]
    assert server.info()["listeners"][0]["counts"]["service_failures"] == 1


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("message", ["text", None])
async def test_a_message_that_is_not_bytes_ends_its_own_connection_only(
    message, served, client, events, expected_failures
):
    """As an exception does."""
    expected_failures.append("TypeError")
    messages = iter([message, LINE])
    server = served(lambda peer: next(messages))
    with pytest.raises(ConnectionResetError):
        await client(silent, server.sockets[0])
    assert (await client(silent, server.sockets[0]))[1] == LINE
    await over(server)
    reasons = [ended[3] for ended in events.closed]
    assert reasons == [CloseReason.SERVICE_FAILED, CloseReason.SERVICE]


@pytest_twisted.ensureDeferred
async def test_lingering_connections_hold_slots(served, client, events):
    """At max_connections the next peer waits in the backlog until a lingering one has ended."""
    server = served(LINE, max_connections=2)
    socks = [await client(connect, server.sockets[0]) for _ in range(3)]
    await until(lambda: len(events.made) == 2)
    await task.deferLater(reactor, 0)
    assert len(events.made) == server.connections == 2
    socks[0].close()
    assert await client(read_all, socks[2]) == LINE
    for sock in socks[1:]:
        sock.close()
    await over(server)
    assert len(events.made) == 3
    assert gate_of(server).admission.slots[0].in_use == 0


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"max_connections": 1, "overload": "close"}, RejectReason.MAX_CONNECTIONS),
        ({"per_source": 1}, RejectReason.PER_SOURCE),
        ({"connection_rate": "0.001:1", "overload": "close"}, RejectReason.CONNECTION_RATE),
        ({"only_from": ["192.0.2.1"]}, RejectReason.ACCESS),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_peer_that_a_rule_is_against_gets_no_message(
    served, client, events, limits, reason
):
    """It is rejected as with any other service, and counted with the reason."""
    server = served(LINE, **limits)
    first = await client(connect, server.sockets[0])
    if reason is not RejectReason.ACCESS:
        assert await client(first.recv, 100) == LINE
    assert (await client(silent, server.sockets[0]))[1] == b""
    await until(lambda: events.refused)
    assert events.refused[-1] is reason
    first.close()
    await over(server)
    assert [slots.in_use for slots in gate_of(server).admission.slots] == [0, 0]


@pytest_twisted.ensureDeferred
async def test_connections_that_are_over_at_once_need_no_slot_for_long(served, client, events):
    """A limit of one connection serves any number of peers, one after the other, in one turn."""
    server = served(b"", max_connections=1, overload="close")
    socks = [await client(connect, server.sockets[0]) for _ in range(50)]
    for sock in socks:
        assert await client(read_all, sock) == b""
        sock.close()
    assert len(events.closed) == 50
    assert events.refused == []


@pytest_twisted.ensureDeferred
async def test_a_token_that_no_connection_came_for_is_put_back(served, client, events):
    """A turn reserves tokens of the rate in advance, and gives back what it has not used."""
    server = served(b"", connection_rate="0.001:3", overload="close")
    for _ in range(4):
        await client(silent, server.sockets[0])
    assert (len(events.closed), events.refused) == (3, [RejectReason.CONNECTION_RATE])


@pytest_twisted.ensureDeferred
async def test_a_drain_serves_the_backlog_and_waits_for_those_that_linger(served, client, events):
    """Connections that wait when the drain begins get their message too."""
    server = served(LINE)
    server.suspend()
    socks = [await client(connect, server.sockets[0]) for _ in range(70)]
    server.resume()
    drained = server.drain(TIMEOUT)
    for sock in socks:
        assert await client(read_all, sock) == LINE
        sock.close()
    result = await drained
    assert result.aborted == 0
    assert len(events.closed) == 70


@pytest_twisted.ensureDeferred
async def test_a_drain_aborts_what_lingers_at_its_deadline(served, client, events):
    """A peer that does not end is reset when the drain does not wait any longer."""
    server = served(b"x" * (8 << 20))
    with await client(connect, server.sockets[0]):
        await until(lambda: server.connections == 1)
        assert (await server.drain(0)).aborted == 1
    assert events.closed[0][3] is CloseReason.SHUTDOWN


@pytest_twisted.ensureDeferred
async def test_a_forked_process_keeps_no_connection_open(served, client):
    """A child that has inherited the socket does not keep the watcher busy, or the slot."""
    server = served(LINE)
    sock = await client(connect, server.sockets[0])
    await until(lambda: server.connections == 1)
    ends, begins = os.pipe()
    child = os.fork()
    if not child:
        os.close(begins)
        os.read(ends, 1)
        os._exit(0)
    os.close(ends)
    try:
        sock.close()
        await over(server)
        assert (await client(silent, server.sockets[0]))[1] == LINE
        await over(server)
    finally:
        os.close(begins)
        os.waitpid(child, 0)


def test_a_subclass_that_builds_its_own_protocol_is_served_by_that():
    """`accepts_messages` is False if only ``buildProtocol`` is overridden."""

    class Own(MessageFactory):
        def buildProtocol(self, addr):
            return Protocol()

    class Both(Own):
        def message(self, peer):
            return b""

    with socket.socket() as sock:
        assert accepts_messages(sock, MessageFactory(lambda peer: b""))
        assert not accepts_messages(sock, Own(lambda peer: b""))
        assert accepts_messages(sock, Both(lambda peer: b""))
        assert not accepts_messages(sock, Factory.forProtocol(Protocol))
    assert not accepts_messages(object(), MessageFactory(lambda peer: b""))


@pytest_twisted.ensureDeferred
async def test_a_wait_for_connections_sees_those_that_are_over_at_once(served, client):
    """The number of live connections was one, for a moment."""
    server = served(b"")
    waited = server.wait_for_connections(lambda count: count == 1)
    await client(silent, server.sockets[0])
    assert await waited.addTimeout(TIMEOUT, reactor) == 1


@pytest_twisted.ensureDeferred
async def test_many_peers_at_once_are_all_served(served, client, events):
    """More peers than a turn takes, from several threads."""
    server = served(LINE)
    answers = []

    def visit_often():
        for _ in range(40):
            answers.append(silent(server.sockets[0])[1])

    def crowd():
        threads = [threading.Thread(target=visit_often) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    await client(crowd)
    await over(server)
    assert answers == [LINE] * 200
    assert len(events.closed) == 200


@pytest.mark.skipif(
    not IReadableWatcher.providedBy(reactor), reason="other reactors watch the descriptor itself"
)
@pytest_twisted.ensureDeferred
async def test_a_descriptor_that_other_code_has_closed_is_reported_with_the_next_peer(
    served, client, events
):
    """The listener fails, and a later one that gets the number of the descriptor serves."""
    server = served(LINE)
    address = server.sockets[0].sock.getsockname()
    with socket.socket() as sock:
        os.close(server.sockets[0].sock.fileno())
        await client(sock.connect, address)
        await until(lambda: events.failed)
    assert events.failed == [errno.EBADF]
    assert await client(visit, served(LINE).sockets[0], b"") == LINE
