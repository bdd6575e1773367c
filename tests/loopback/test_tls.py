"""TLS on real sockets: Python's blocking client, on every reactor that the tests run in."""

import select
import socket
import ssl
import threading
from contextlib import suppress

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions, KeyPair, PrivateCertificate

from netsrv.server import Server, listener
from tests.clients import connect as connect_plain
from tests.clients import read_all
from tests.timeouts import CLIENT_TIMEOUT
from tests.tls.authority import replace_files
from tests.tls.clients import client_context
from tests.tls.conftest import authority, tls  # noqa: F401

MIB = 2**20


@pytest.fixture
def context(authority):  # noqa: F811
    """The context of a client that trusts the authority."""
    return client_context(authority)


def connect(opened, context):
    """Connect a blocking TLS client."""
    return context.wrap_socket(connect_plain(opened), server_hostname="localhost")


def talk(opened, context, size):
    """Send *size* bytes and close_notify, and meanwhile read until all are back.

    One thread does both: `ssl` before Python 3.13 lets no two threads use a socket.
    """
    sock = connect(opened, context)
    sock.setblocking(False)
    data = bytes(range(256)) * (size // 256)
    unsent, received = memoryview(data), bytearray()
    while len(received) < size:
        select.select([sock], [sock] if unsent else [], [], CLIENT_TIMEOUT)
        with suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if unsent:
                unsent = unsent[sock.send(unsent[:65536]) :]
        with suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            while len(received) < size:
                chunk = sock.recv(65536)
                assert chunk, "the server has ended"
                received += chunk
    sock.settimeout(CLIENT_TIMEOUT)
    sock.unwrap().close()
    return received == data


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("service", ["echo", "daytime"])
async def test_services_over_tls(service, started, client, context, tls, tmp_path):  # noqa: F811
    """On TCP and on a unix socket."""
    settings = [
        listener("tcp", "127.0.0.1:0", service, **tls),
        listener("unix", f"{tmp_path}/s", service, **tls),
    ]
    server = started(Server(reactor, settings))

    def use(opened):
        with connect(opened, context) as sock:
            sock.sendall(b"hello")
            return sock.recv(100)

    for opened in server.sockets:
        answer = await client(use, opened)
        assert answer == b"hello" if service == "echo" else answer.endswith(b"\r\n")


@pytest_twisted.ensureDeferred
async def test_much_data_both_ways(started, client, context, tls):  # noqa: F811
    """8 MiB of echo, while the client reads as it writes; each byte comes back."""
    server = started(Server(reactor, listener("tcp", "127.0.0.1:0", "echo", **tls)))
    assert await client(talk, server.sockets[0], context, 8 * MIB)


@pytest_twisted.ensureDeferred
async def test_all_arrives_before_the_close(started, client, context, tls):  # noqa: F811
    """8 MiB, and then loseConnection, to a client that has sent data too."""

    class Sender(Protocol):
        def connectionMade(self):
            self.transport.write(b"x" * 8 * MIB)
            self.transport.loseConnection()

    factory = Factory.forProtocol(Sender)
    server = started(Server(reactor, listener("tcp", "127.0.0.1:0", factory, **tls)))

    def use():
        with connect(server.sockets[0], context) as sock:
            sock.sendall(b"y" * 1000)
            return len(read_all(sock))

    assert await client(use) == 8 * MIB


@pytest_twisted.ensureDeferred
async def test_f71_many_stalled_handshakes_are_freed_on_time(started, client, context, tls):  # noqa: F811
    """Others are served meanwhile."""
    settings = listener("tcp", "127.0.0.1:0", "echo", tls_handshake_timeout=0.5, **tls)
    server = started(Server(reactor, settings))
    [running] = server.listeners

    def stall():
        socks = [connect_plain(running.socket) for _ in range(1000)]
        for sock in socks:
            sock.sendall(b"\x16\x03\x01\x02\x00\x01")
        with connect(running.socket, context) as served:
            served.sendall(b"a")
            assert served.recv(1) == b"a"
        ends = [read_all(sock) for sock in socks]
        for sock in socks:
            sock.close()
        return ends

    assert await client(stall) == [b""] * 1000
    assert running.gate.open_connections <= 1
    assert running.info()["counts"]["refused"] == {"tls_timeout": 1000}


@pytest_twisted.ensureDeferred
async def test_a_renewal_under_load_fails_no_client(
    started,
    client,
    authority,  # noqa: F811
    context,
    tmp_path,
):
    """Clients that connect meanwhile get the old certificate or the new one."""
    replace_files(authority.server, tmp_path)
    files = {"tls_certificate": f"{tmp_path}/a.pem", "tls_key": f"{tmp_path}/a.key"}
    server = started(Server(reactor, listener("tcp", "127.0.0.1:0", "echo", **files)))
    [running] = server.listeners
    same_key = authority.issue("again", "localhost", key=authority.server[1])

    def use():
        with connect(running.socket, context) as sock:
            sock.sendall(b"a")
            assert sock.recv(1) == b"a"
            return sock.getpeercert()["subject"][0][0][1]

    names = {await client(use)}
    replace_files(same_key, tmp_path)
    while "again" not in names:
        server.reload(server.configuration)
        names.add(await client(use))
    assert names == {"server", "again"}
    assert running.info()["counts"]["refused"] == {}


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
@pytest_twisted.ensureDeferred
async def test_a_program_may_use_twisteds_tls(started, client, authority, context):  # noqa: F811
    """With a CertificateOptions; the limits of the listener hold."""
    certificate, key = authority.server
    pair = KeyPair.load(key.read_bytes(), 1)
    options = PrivateCertificate.load(certificate.read_bytes(), pair, 1).options()
    assert isinstance(options, CertificateOptions)

    class Echo(Protocol):
        def dataReceived(self, data):
            self.transport.write(data)

    settings = listener(
        "tcp", "127.0.0.1:0", Echo, context_factory=options, max_connections=1, overload="close"
    )
    server = started(Server(reactor, settings))

    def use():
        with connect(server.sockets[0], context) as sock:
            sock.sendall(b"hello")
            assert sock.recv(5) == b"hello"
            refused = connect_plain(server.sockets[0])
            assert refused.recv(1) == b""
            refused.close()
            return sock.unwrap() is not None

    assert await client(use)


def shut_down(opened, context):
    """Send data, and FIN without close_notify."""
    sock = connect(opened, context)
    sock.sendall(b"a")
    assert sock.recv(1) == b"a"
    raw = socket.socket(fileno=sock.detach())
    raw.settimeout(CLIENT_TIMEOUT)
    raw.shutdown(socket.SHUT_WR)
    data = read_all(raw)
    raw.close()
    return data


@pytest_twisted.ensureDeferred
async def test_f75_a_truncation_is_counted(started, client, context, tls):  # noqa: F811
    """The peer's FIN alone is no end of TLS."""
    server = started(Server(reactor, listener("tcp", "127.0.0.1:0", "echo", **tls)))
    await client(shut_down, server.sockets[0], context)
    await server.wait_for_connections(lambda count: count == 0)
    assert server.listeners[0].info()["counts"]["closed"] == {"tls_truncated": 1}


@pytest_twisted.ensureDeferred
async def test_a_client_that_half_closes_gets_all(started, client, context, tls):  # noqa: F811
    """close_notify and then silence: echo sends what it has, and its own close_notify."""
    server = started(Server(reactor, listener("tcp", "127.0.0.1:0", "echo", **tls)))

    def use():
        raw = connect_plain(server.sockets[0])
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        end = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        while True:
            try:
                end.do_handshake()
                break
            except ssl.SSLWantReadError:
                raw.sendall(outgoing.read())
                incoming.write(raw.recv(65536))
        end.write(b"x" * 300_000)
        with pytest.raises(ssl.SSLWantReadError):
            end.unwrap()
        sender = threading.Thread(target=raw.sendall, args=(outgoing.read(),))
        sender.start()
        received = 0
        while data := raw.recv(65536):
            incoming.write(data)
            try:
                while plain := end.read(65536):
                    received += len(plain)
            except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                pass
        sender.join()
        raw.close()
        return received

    assert await client(use) == 300_000
