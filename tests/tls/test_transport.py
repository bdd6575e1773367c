"""Connections over TLS, in memory: Python's own client, and the whole server."""

import ssl

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.interfaces import IHalfCloseableProtocol, ISSLTransport, ITLSTransport
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from netsrv.config.fault_reading import read_fault
from netsrv.testing import MemoryServer
from netsrv.tls.handshake import Handshake
from netsrv.tls.odd_names import ODD_NAMES
from netsrv.tls.transport import SLICE_SIZE
from tests.tls.authority import Authority
from tests.tls.clients import TLSClient, client_context, connect

MIB = 2**20


@pytest.fixture
def context(authority):
    """The context of a client that trusts the authority."""
    return client_context(authority)


class Recording(Protocol):
    """Records what it sees."""

    def __init__(self):
        self.events = []
        self.received = b""

    def connectionMade(self):
        self.events.append("made")

    def dataReceived(self, data):
        self.events.append("data")
        self.received += data

    def connectionLost(self, reason):
        self.events.append(reason.type.__name__)


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Recording):
    """Records half-closes too."""

    def readConnectionLost(self):
        self.events.append("read lost")

    def writeConnectionLost(self):
        self.events.append("write lost")


class Pausing(Recording):
    """Does not read at first."""

    def connectionMade(self):
        self.transport.pauseProducing()


def serving(protocol, tls, **keywords):
    """Serve one protocol object."""
    factory = Factory()
    factory.buildProtocol = lambda _addr: protocol
    return MemoryServer(factory, **tls, **keywords)


# Handshakes


def hello(context, name="localhost"):
    """Return a ClientHello, and the client that has written it."""
    client = TLSClient(None, context, name)
    with pytest.raises(ssl.SSLWantReadError):
        client.ssl.do_handshake()
    return client, client.taken()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_every_split_of_a_handshake_is_the_same(version, authority, tls):
    """The handshake, and what follows in the same segments, in pieces of one byte."""
    server = MemoryServer("echo", **tls)
    context = client_context(authority, maximum_version=version)
    connection = server.connect(keep_open=True)
    client = TLSClient(connection, context)
    plain = connection.send

    def send_byte_by_byte(data):
        for index in range(len(data)):
            plain(data[index : index + 1])

    connection.send = send_byte_by_byte
    client.shake_hands()
    client.write(b"hello")
    assert client.read() == b"hello"
    assert client.ssl.version() == {771: "TLSv1.2", 772: "TLSv1.3"}[version]


@pytest.mark.parametrize("size", [5, 50_000])
def test_data_in_the_segment_of_the_last_handshake_message_is_served(size, context, tls):
    """As clients of TLS 1.3 send it."""
    server = MemoryServer("echo", **tls)
    connection = server.connect(keep_open=True)
    client, data = hello(context)
    client.connection = connection
    connection.send(data)
    client._incoming.write(connection.read())
    client.ssl.do_handshake()
    client.ssl.write(b"x" * size)
    connection.send(client.taken())
    assert client.read() == b"x" * size


def test_openssl_gets_little_at_once_during_a_handshake():
    """Its memory for what comes in never shrinks."""
    sizes = []

    class Endless:
        def __init__(self, incoming, _outgoing):
            self.incoming = incoming

        def do_handshake(self):
            sizes.append(len(self.incoming.read()))
            raise ssl.SSLWantReadError

    assert not Handshake(None, Endless).receive(bytes(100_000))
    assert sum(sizes) == 100_000
    assert max(sizes) == SLICE_SIZE


def test_the_service_begins_when_the_handshake_is_complete(context, tls):
    """It knows nothing of a peer before."""
    protocol = Recording()
    server = serving(protocol, tls)
    client, data = hello(context)
    client.connection = connection = server.connect(keep_open=True)
    connection.send(data)
    assert protocol.events == []
    assert server.server.listeners[0].gate.pending == {"tls": 1}
    client._incoming.write(connection.read())
    client.shake_hands()
    assert protocol.events == ["made"]
    assert server.server.listeners[0].gate.pending == {}


def test_f71_a_stalled_handshake_is_closed_on_time(context, tls):
    """After 5 seconds; until then it counts against --max-connections."""
    server = MemoryServer("echo", **tls, max_connections=1, overload="close")
    stalled = server.connect()
    stalled.send(hello(context)[1][:40])
    assert server.connect().close_kind == "closed"
    server.advance(4.8)
    assert stalled.close_kind is None
    server.advance(0.4)
    assert stalled.close_kind == "closed"
    assert server.counts.refused == {"tls_timeout": 1, "max_connections": 1}
    assert server.counts.tls_handshakes == {"tls_timeout": 1}
    connect(server, context)


def test_f72_plain_text_is_closed_and_counted(context, tls):
    """At the first byte that is none of TLS."""
    server = MemoryServer("echo", **tls)
    client = server.connect()
    client.send(b"G")
    assert client.close_kind == "closed"
    assert server.counts.refused == {"tls_plaintext": 1}
    assert server.counts.accepted == 0


@pytest.mark.parametrize("end", ["close", "reset", "end"])
def test_a_peer_that_leaves_during_its_handshake_is_counted(end, context, tls):
    """Whether it closes, half-closes or resets."""
    server = MemoryServer("echo", **tls)
    client = server.connect()
    client.send(hello(context)[1])
    getattr(client, end)()
    assert server.counts.refused == {"tls_handshake": 1}
    server.advance(10)
    assert server.server.listeners[0].gate.open_connections == 0


@pytest.fixture
def echo(tls):
    """A server that all examples of a test share."""
    return MemoryServer("echo", **tls)


@settings(max_examples=100, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data())
def test_any_bytes_instead_of_a_handshake_are_rejected(data, context, echo):
    """Changed, cut or invented: a verdict, and no exception."""
    _, valid = hello(context)
    changed = bytearray(valid)
    for _ in range(data.draw(st.integers(0, 3))):
        changed[data.draw(st.integers(0, len(valid) - 1))] = data.draw(st.integers(0, 255))
    tail = data.draw(st.binary(max_size=80))
    sent = bytes(changed[: data.draw(st.integers(1, len(valid)))]) + tail
    before = sum(echo.counts.refused.values())
    client = echo.connect()
    client.send(sent)
    echo.advance(6)
    echo.advance(6)
    assert client.close_kind is not None
    assert sum(echo.counts.refused.values()) == before + 1
    assert echo.counts.service_failures == 0
    assert echo.server.listeners[0].gate.open_connections == 0


def test_f73_old_versions_are_refused(authority, tls):
    """TLS 1.1, though a client may ask for nothing else."""
    context = client_context(authority)
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    server = MemoryServer("echo", **tls)
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        connect(server, context)
    assert server.counts.refused == {"tls_handshake": 1}


def test_the_oldest_version_can_be_1_3(authority, tls):
    """Then TLS 1.2 is refused."""
    context = client_context(authority, maximum_version=ssl.TLSVersion.TLSv1_2)
    server = MemoryServer("echo", **tls, tls_min_version="1.3")
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        connect(server, context)


# Names


@pytest.fixture
def two(authority):
    """Keywords of a listener with two certificates; that of ``localhost`` is the default."""
    pairs = authority.server, authority.other
    certificates, keys = ([str(file) for file in files] for files in zip(*pairs, strict=True))
    return {"tls_certificate": certificates, "tls_key": keys}


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("localhost", "server"),
        ("OTHER.test", "other"),
        ("other.test.", "other"),
        ("www.example.org", "server"),
        ("a" * 63 + ".example.org", "server"),
        (".".join(["a" * 61] * 4) + ".a.bc", "server"),
        (None, "server"),
    ],
)
def test_g16_the_certificate_is_chosen_by_name(name, subject, authority, two):
    """In any case, with a dot at the end, long, unknown, or without a name."""
    server = MemoryServer("info", **two)
    context = client_context(authority)
    context.check_hostname = False
    client = connect(server, context, name)
    certificate = client.ssl.getpeercert()
    assert certificate["subject"] == ((("commonName", subject),),)
    told = None if name is None else f'"{name.lower().rstrip(".")}"'
    assert f'"server_name": {told or "null"}'.encode() in client.read()


@pytest.mark.parametrize("name", ["other.test", "unknown.test", None])
def test_strict_sni_refuses_other_names(name, authority, two):
    """And clients that ask for none; the alert says unrecognized_name."""
    server = MemoryServer("echo", **two, tls_strict_sni=True)
    context = client_context(authority)
    context.check_hostname = False
    if name == "other.test":
        connect(server, context, name)
    else:
        with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
            connect(server, context, name)
        assert server.counts.refused == {"tls_handshake": 1}


def test_the_log_says_that_strict_sni_has_refused_a_name(authority, two, lines):
    """In the words of the alert, not of OpenSSL's code."""
    server = MemoryServer("echo", **two, tls_strict_sni=True)
    context = client_context(authority)
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        connect(server, context, "unknown.test")
    assert any(text.endswith("failed: unrecognized server name") for _level, text in lines)


def test_g16_a_name_that_is_not_ascii_writes_no_line(context, tls, capfd):
    """It is refused with an alert, and counted; another exception is still reported."""
    server, before = MemoryServer("echo", **tls), ODD_NAMES.count
    _, data = hello(context, "localhost")
    for byte in (b"\x80", b"\xff"):
        client = server.connect()
        client.send(data.replace(b"localhost", b"loc" + byte + b"lhost"))
        assert client.read()[0] == 21  # an alert
        assert client.close_kind == "closed"
    assert ODD_NAMES.count == before + 2
    assert server.counts.refused == {"tls_handshake": 2}
    assert capfd.readouterr().err == ""


# Options


def test_alpn_chooses_what_both_know(authority, tls):
    """By our preference; without overlap the connection goes on without a protocol."""
    server = MemoryServer("info", **tls, tls_alpn=["netsrv/1", "h2"])
    for offered, chosen in ((["h2", "netsrv/1"], "netsrv/1"), (["x"], None), ([], None)):
        context = client_context(authority)
        if offered:
            context.set_alpn_protocols(offered)
        client = connect(server, context)
        assert client.ssl.selected_alpn_protocol() == chosen
        assert f'"alpn": {"null" if chosen is None else chr(34) + chosen}'.encode() in client.read()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("tickets", [True, False])
def test_clients_resume_their_sessions(tickets, version, authority, tls):
    """Unless session_tickets is off."""
    server = MemoryServer("echo", **tls, tls_session_tickets=tickets)
    context = client_context(authority, maximum_version=version)
    first = connect(server, context)
    first.write(b"a")
    assert first.read() == b"a"
    session = first.ssl.session
    again = connect(server, context, session=session)
    again.write(b"b")
    assert again.read() == b"b"
    if version == ssl.TLSVersion.TLSv1_3 or tickets:
        assert again.ssl.session_reused is tickets


def verifying(authority, verify, **others):
    """Return the keywords of a server that asks for certificates of an authority."""
    return {"tls_client_ca": str(authority.file), "tls_client_verify": verify, **others}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_certificate_is_verified(version, authority, tls):
    """Required, optional; its subject and its fingerprint are told."""
    keywords = verifying(authority, "required")
    server = MemoryServer("info", **tls, **keywords)
    client = connect(server, client_context(authority, authority.client, maximum_version=version))
    line = client.read()
    assert rb'"client_subject": "CN=alice,O=Example\\, Inc."' in line
    assert b'"client_sha256": null' not in line
    assert connect_refused(server, client_context(authority, maximum_version=version)) in (
        "SSLV3_ALERT_HANDSHAKE_FAILURE",
        "TLSV13_ALERT_CERTIFICATE_REQUIRED",
    )
    optional = MemoryServer("info", **tls, **verifying(authority, "optional"))
    client = connect(optional, client_context(authority, maximum_version=version))
    assert b'"client_subject": null' in client.read()


def connect_and_read(server, context):
    """Connect, and read: in TLS 1.3 the alert comes after the client's own handshake."""
    connect(server, context).read()


def connect_refused(server, context):
    """Connect with a certificate that is refused; return the reason of the alert."""
    before = sum(server.counts.refused.values())
    with pytest.raises(ssl.SSLError) as caught:
        connect_and_read(server, context)
    assert server.counts.refused["tls_handshake"] == before + 1
    return caught.value.reason


def test_bad_client_certificates_are_refused(authority, tls, tmp_path):
    """Of another authority, expired, revoked: each with its alert, also where it is optional."""
    stranger = Authority(tmp_path, "stranger")
    expired = authority.issue("expired", days=0)
    revoked = authority.issue("revoked")
    crl = authority.revoke(revoked[0])
    keywords = verifying(authority, "optional", tls_crl=str(crl))
    server = MemoryServer("echo", **tls, **keywords)
    alerts = [
        connect_refused(server, client_context(authority, certificate))
        for certificate in (stranger.issue("mallory"), expired, revoked)
    ]
    assert alerts == [
        "TLSV1_ALERT_UNKNOWN_CA",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        "SSLV3_ALERT_CERTIFICATE_REVOKED",
    ]
    connect(server, client_context(authority, authority.client))


# What a service gets


def test_a_service_has_what_a_tls_transport_has(authority, context, tls):
    """ITLSTransport in effect: certificate, protocol, addresses."""
    protocol = Recording()
    keywords = verifying(authority, "required", tls_alpn=["x"])
    server = serving(protocol, tls, **keywords)
    with_certificate = client_context(authority, authority.client)
    with_certificate.set_alpn_protocols(["x"])
    connect(server, with_certificate)
    transport = protocol.transport
    assert ITLSTransport.providedBy(transport)
    assert ISSLTransport(transport, None) is transport
    assert transport.negotiatedProtocol == b"x"
    certificate = transport.getPeerCertificate().to_cryptography()
    assert certificate.subject.rfc4514_string() == r"CN=alice,O=Example\, Inc."
    assert transport.tls.client_subject == r"CN=alice,O=Example\, Inc."
    assert transport.getPeer().host == "192.0.2.1"
    assert transport.getHost().port == 7
    assert transport.TLS is True
    assert transport.tls.version == "TLSv1.3"
    with pytest.raises(RuntimeError):
        transport.startTLS(None)
    with pytest.raises(TypeError):
        transport.write("text")


def test_records_of_one_read_are_one_call(context, tls):
    """And the writes of one call are one record."""
    protocol = Recording()
    server = serving(protocol, tls)
    client = connect(server, context)
    for index in range(5):
        client.ssl.write(b"%d" % index)
    client.flush()
    assert protocol.events == ["made", "data"]
    assert protocol.received == b"01234"

    def reply(_data):
        for piece in (b"a", bytearray(b"b"), b"c"):
            protocol.transport.write(piece)
        protocol.transport.writeSequence([b"d", b"e"])

    protocol.dataReceived = reply
    client.read()
    client.write(b"x")
    data = client.connection.received
    assert data[0] == 23
    assert len(data) == 5 + int.from_bytes(data[3:5])  # one record
    assert client.read() == b"abcde"


@pytest.mark.parametrize("size", [0, 1, 16384, 16385, 100_000, 8 * MIB])
def test_all_that_is_written_arrives_before_the_end(size, context, tls):
    """8 MiB, and then loseConnection: every byte, and close_notify."""
    protocol = Recording()
    server = serving(protocol, tls)
    client = connect(server, context)
    protocol.transport.write(b"x" * size)
    protocol.transport.loseConnection()
    received = 0
    while not client.ended:
        received += len(client.read())
    assert received == size
    client.notify()
    client.connection.close()
    assert server.counts.closed == {"service": 1}
    assert server.counts.sent_bytes == size


@pytest.mark.parametrize("end", ["close_notify", "reset", "pause"])
def test_tiny_records_leave_turns_to_others(end, context, tls):
    """They take twenty times the work of their size: a turn decrypts few of them, in order."""
    protocol, calls = Recording(), []
    server = serving(protocol, tls)
    client = connect(server, context)
    receive = protocol.dataReceived

    def count(data):
        calls.append(len(data))
        receive(data)
        if end == "pause" and len(calls) == 3:
            protocol.transport.pauseProducing()
        if end == "reset" and len(calls) == 3:
            protocol.transport.abortConnection()

    protocol.dataReceived = count
    text = bytes(range(256)) * 40
    for index in range(len(text)):
        client.ssl.write(text[index : index + 1])
    if end != "reset":
        client.notify()
    client.flush()
    assert max(calls) < 1000
    if end == "pause":
        assert len(calls) == 3
        protocol.transport.resumeProducing()
        server.settle()
    if end == "reset":
        assert len(calls) == 3
        assert protocol.events[-1] == "ConnectionAborted"
    else:
        assert protocol.received == text
        assert protocol.events[-1] == "ConnectionDone"


@settings(max_examples=40, suppress_health_check=list(HealthCheck), deadline=None)
@given(
    pieces=st.lists(st.binary(max_size=40_000), max_size=8),
    random=st.randoms(use_true_random=False),
)
def test_any_sizes_in_any_pieces_are_echoed(pieces, random, context, echo):
    """Both ways, with the ciphertext cut anywhere."""
    client = connect(echo, context)
    received = b""
    for piece in pieces:
        if piece:
            client.ssl.write(piece)
        data = client.taken()
        while data:
            cut = random.randint(1, len(data))
            client.connection.send(data[:cut])
            data = data[cut:]
            received += client.read()
    received += client.read()
    client.connection.reset()
    assert received == b"".join(pieces)


# Half-closes and ends


def test_g14_echo_is_a_true_half_close(context, tls):
    """After the peer's close_notify the service still sends what it has, then its own."""
    server = MemoryServer("echo", **tls)
    client = connect(server, context)
    client.ssl.write(b"x" * MIB)
    with pytest.raises(ssl.SSLWantReadError):
        client.ssl.unwrap()
    client.flush()
    received = 0
    while not client.ended:
        received += len(client.read())
    assert received == MIB
    client.connection.end()
    assert server.counts.closed == {"peer": 1}


def test_a_service_is_told_of_half_closes(context, tls):
    """The peer's close_notify; its FIN after it is no second one."""
    protocol = HalfCloseable()
    server = serving(protocol, tls)
    client = connect(server, context)
    client.write(b"a")
    client.notify()
    assert protocol.events == ["made", "data", "read lost"]
    protocol.transport.write(b"late")
    server.settle()
    assert client.read() == b"late"
    client.connection.end()
    assert protocol.events == ["made", "data", "read lost"]
    protocol.transport.loseConnection()
    server.settle()
    assert protocol.events[-1] == "ConnectionDone"


def test_a_service_half_closes_and_reads_on(context, tls):
    """close_notify, then FIN; the peer may still send, in TLS too."""
    protocol = HalfCloseable()
    server = serving(protocol, tls)
    client = connect(server, context)
    protocol.transport.write(b"last")
    protocol.transport.loseWriteConnection()
    server.settle()
    assert (client.read(), client.ended) == (b"last", True)
    assert protocol.events == ["made", "write lost"]
    client.write(b"more")
    assert protocol.received == b"more"
    client.notify()
    assert protocol.events[-2:] == ["read lost", "ConnectionDone"]


@pytest.mark.parametrize("faults", [(), ("noop",)])
def test_f75_a_fin_without_close_notify_is_a_truncation(faults, context, tls):
    """The service learns of a loss, and never of an end of input; the reason has its name."""
    protocol = HalfCloseable()
    server = serving(protocol, tls)
    for fault in faults:
        server.fault(fault)
    client = connect(server, context)
    client.write(b"half of a mess")
    client.connection.end()
    server.settle()
    assert protocol.events == ["made", "data", "TruncatedError"]
    assert server.counts.closed == {"tls_truncated": 1}


def test_a_fin_without_close_notify_ends_a_close_that_waits_for_its_producer(context, tls):
    """Without a linger: nothing more can come from the peer."""
    protocol = Recording()
    server = serving(protocol, tls)
    client = connect(server, context)
    producer = Recording()
    producer.pauseProducing = producer.resumeProducing = producer.stopProducing = lambda: None
    protocol.transport.registerProducer(producer, True)
    protocol.transport.write(b"x" * 200_000)
    protocol.transport.loseConnection()
    client.connection.end()
    client.connection.resume()
    assert server.connections == 0
    assert server.counts.closed == {"tls_truncated": 1}


def test_a_fin_without_close_notify_after_ours_is_no_truncation(context, tls):
    """Many clients end so: the service has closed, and nothing more was expected."""
    server = MemoryServer("daytime", **tls)
    client = connect(server, context)
    client.read()
    client.connection.close()
    assert server.counts.closed == {"service": 1}


@pytest.mark.parametrize("faults", [(), ("noop",)])
def test_f74_a_silent_peer_is_given_up(faults, context, tls):
    """One that answers no close_notify is closed after 2 seconds, as every connection."""
    server = MemoryServer("daytime", **tls)
    for fault in faults:
        server.fault(fault)
    client = connect(server, context)
    server.advance(1.9)
    assert server.connections == 1
    server.advance(0.2)
    assert server.connections == 0
    assert client.connection.close_kind == "closed"


def test_f74_a_peer_that_does_not_read_is_aborted(context, tls):
    """After close_grace, though output waits."""
    protocol = Recording()
    server = serving(protocol, tls, close_grace=3)
    client = connect(server, context)
    client.connection.pause()
    protocol.transport.write(b"x" * MIB)
    protocol.transport.loseConnection()
    server.advance(2)
    assert server.connections == 1
    server.advance(2)
    assert server.connections == 0
    assert server.counts.closed == {"close_grace": 1}


def test_f74_more_writes_do_not_delay_the_write_timeout(context, tls):
    """They are no progress: the peer gets nothing meanwhile."""
    protocol = Recording()
    server = serving(protocol, tls, write_timeout=10)
    client = connect(server, context)
    client.connection.pause()
    protocol.transport.write(b"x" * MIB)
    for second in range(12):
        server.advance(1)
        protocol.transport.write(b"x" * 100 * (second + 1))
    assert server.counts.closed == {"write_timeout": 1}


def test_garbage_ends_the_connection(context, tls):
    """A record that does not decrypt: an alert, and a loss for the service."""
    protocol = HalfCloseable()
    server = serving(protocol, tls)
    client = connect(server, context)
    client.connection.read()
    client.connection.send(b"\x17\x03\x03\x00\x20" + bytes(32))
    assert protocol.events == ["made", "ConnectionLost"]
    assert client.connection.received[0] in (21, 23)  # an alert
    assert client.connection.close_kind == "closed"
    assert server.counts.closed == {"reset": 1}


def test_garbage_after_a_request_ends_the_connection(context, tls):
    """Also if the service answers what came before it: the answer is dropped."""
    server = MemoryServer("echo", **tls)
    client = connect(server, context)
    client.read()
    client.ssl.write(b"hello")
    client.connection.send(client.taken() + b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(ssl.SSLError, match="alert"):
        client.read()
    assert client.connection.close_kind == "closed"
    assert server.counts.closed == {"reset": 1}


@pytest.mark.parametrize("call", ["abortConnection", "loseConnection", "stopProducing", "raise"])
def test_g14_a_service_may_end_within_its_call(call, context, tls, expected_failures):
    """Abort, close, or raise, with more records and more writes to come."""
    protocol = Recording()
    server = serving(protocol, tls)
    client = connect(server, context)

    def end(data):
        protocol.events.append("data")
        protocol.transport.write(b"x" * 20_000)
        if call == "raise":
            expected_failures.append("RuntimeError")
            raise RuntimeError
        getattr(protocol.transport, call)()
        protocol.transport.write(b"y")

    protocol.dataReceived = end
    for _ in range(3):
        client.ssl.write(b"z" * 16_384)
    client.flush()
    server.settle()
    received = client.read()
    server.advance(3)
    closes = call in ("loseConnection", "stopProducing")
    assert protocol.events == ["made", "data", "ConnectionDone" if closes else "ConnectionAborted"]
    assert received == (b"x" * 20_000 if closes else b"")
    assert server.connections == 0


def test_a_drain_ends_pending_handshakes_and_connections(context, tls):
    """Both are aborted when its time is over."""
    server = MemoryServer("discard", **tls)
    client = connect(server, context)
    stalled = server.connect()
    drained = []
    server.drain(1).addCallback(drained.append)
    assert not drained
    server.advance(1)
    assert (drained[0].ended, drained[0].aborted) == (0, 2)
    assert client.connection.close_kind == stalled.close_kind == "reset"


# Producers


class Pulled:
    """A pull producer of many pieces."""

    def __init__(self, transport, pieces):
        self.transport = transport
        self.left = pieces
        self.stopped = False

    def resumeProducing(self):
        self.transport.write(b"x" * 1000)
        self.left -= 1
        if not self.left:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def stopProducing(self):
        self.stopped = True


def test_a_pull_producer_is_called_as_the_peer_reads(context, tls):
    """And what it has written arrives whole, with close_notify."""
    protocol = Recording()
    server = serving(protocol, tls)
    client = connect(server, context)
    client.connection.pause()
    producer = Pulled(protocol.transport, 1000)
    protocol.transport.registerProducer(producer, False)
    server.settle()
    assert 800 < producer.left < 1000
    client.connection.resume()
    received = 0
    while not client.ended:
        received += len(client.read())
    assert received == 1_000_000


@pytest.mark.parametrize("streaming", [True, False])
def test_a_close_waits_for_the_producer(streaming, context, tls):
    """As a plain transport does; close_notify comes after the last byte."""
    protocol = Recording()
    server = serving(protocol, tls)
    client = connect(server, context)
    client.connection.pause()
    producer = Recording()
    producer.pauseProducing = producer.resumeProducing = producer.stopProducing = lambda: None
    protocol.transport.registerProducer(producer, streaming)
    protocol.transport.write(b"x" * 200_000)
    server.settle()
    protocol.transport.loseConnection()
    protocol.transport.write(b"last")
    protocol.transport.unregisterProducer()
    client.connection.resume()
    received = b""
    while not client.ended:
        received += client.read()
    assert received == b"x" * 200_000 + b"last"


def test_g14_memory_is_bounded_while_the_peer_does_not_read(context, tls):
    """echo stops reading; then nothing is lost."""
    server = MemoryServer("echo", **tls)
    client = connect(server, context)
    client.connection.pause()
    for _ in range(64):
        client.write(b"x" * 32_768)
    [connection] = server.server.listeners[0].gate.connections
    assert connection.received < 400_000
    assert connection.unsent < 400_000
    client.connection.resume()
    received = 0
    for _ in range(200):
        received += len(client.read())
    assert received == 2 * MIB


@pytest.mark.parametrize("reading", [True, False])
def test_faults_come_and_go_on_a_connection_with_a_producer(reading, context, tls):
    """Also while the producer is paused, since the peer does not read: nothing is lost."""
    server = MemoryServer("echo", **tls)
    client = connect(server, context)
    sent = bytes(range(256)) * 2048
    if not reading:
        client.connection.pause()
    client.write(sent)
    faults = server.server.listeners[0].faults
    faults.add(read_fault({"type": "latency", "latency": 1000, "name": "late"}).settings(True))
    client.write(b"more")
    client.connection.resume()
    received = client.read()
    server.advance(2)
    received += client.read()
    faults.remove("late")
    client.write(b"last")
    server.settle()
    assert received + client.read() == sent + b"more" + b"last"


def test_a_service_pauses_and_resumes(context, tls):
    """What has come already waits too; so does the end of the peer."""
    protocol = HalfCloseable()
    server = serving(protocol, tls)
    client = connect(server, context)
    transport = protocol.transport

    def pause(data):
        HalfCloseable.dataReceived(protocol, data)
        transport.pauseProducing()

    protocol.dataReceived = pause
    client.write(b"a")
    client.write(b"b" * 100_000)
    client.notify()
    client.connection.end()
    assert protocol.received == b"a"
    for _ in range(20):
        transport.resumeProducing()
        server.settle()
    assert protocol.received == b"a" + b"b" * 100_000
    assert protocol.events[-1] == "read lost"


def test_a_service_that_pauses_at_once_gets_early_data_later(context, tls):
    """Data in the segment of the last handshake message waits in the connection."""
    protocol = Pausing()
    server = serving(protocol, tls)
    client, data = hello(context)
    client.connection = connection = server.connect(keep_open=True)
    connection.send(data)
    client._incoming.write(connection.read())
    client.ssl.do_handshake()
    client.ssl.write(b"early")
    connection.send(client.taken())
    assert protocol.received == b""
    protocol.transport.resumeProducing()
    server.settle()
    assert protocol.received == b"early"


def test_counts_are_those_of_the_service(context, tls):
    """Bytes of plaintext, before and after they are sent; handshakes with their durations."""
    server = MemoryServer("echo", **tls)
    client = connect(server, context)
    client.write(b"x" * 1000)
    assert client.read() == b"x" * 1000
    client.notify()
    client.connection.end()
    counts = server.counts
    assert (counts.received_bytes, counts.sent_bytes) == (1000, 1000)
    assert counts.tls_handshakes == {"completed": 1}
    assert counts.tls_handshake_buckets[0] == 1
