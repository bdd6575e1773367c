"""The PROXY protocol on connections, through a whole server in memory."""

import json

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock

from netsrv.config.model import ConfigurationError
from netsrv.files import LogFile
from netsrv.guards.proxies import NO_PROXY_PROTOCOL
from netsrv.observers.accesslog import AccessLog
from netsrv.observers.dispatch import Observer
from netsrv.proxy_protocol import Transport, make_local, make_v1, make_v2
from netsrv.testing.servers import MemoryServer
from tests.proxy_protocol.vectors import VECTORS

PROXY = "192.0.2.1"
CLIENT, SERVER = ("203.0.113.7", 56324), ("198.51.100.9", 443)
HEADER = make_v2(CLIENT, SERVER)


def serve(service="echo", **keywords):
    """Return a server that trusts one proxy."""
    return MemoryServer(service, **{"proxy_protocol_from": [PROXY], **keywords})


class Greeter(Protocol):
    """Sends first, and keeps what it has seen of its peer."""

    def connectionMade(self):
        seen = self.transport.getPeer(), self.transport.getHost(), self.transport.hostname
        self.factory.seen.append(seen)
        self.transport.write(b"hello\r\n")


class GreeterFactory(Factory):
    """Builds greeters; keeps the addresses that it is called with."""

    noisy = False
    protocol = Greeter

    def __init__(self):
        self.addresses, self.seen = [], []

    def buildProtocol(self, addr):
        self.addresses.append(addr)
        return super().buildProtocol(addr)


@pytest.mark.parametrize(
    ("header", "peer", "host"),
    [
        (HEADER, IPv4Address("TCP", *CLIENT), IPv4Address("TCP", *SERVER)),
        (make_v1(CLIENT, SERVER), IPv4Address("TCP", *CLIENT), IPv4Address("TCP", *SERVER)),
        (
            make_v2(("2001:db8::7", 1), ("2001:db8::9", 2)),
            IPv6Address("TCP", "2001:db8::7", 1),
            IPv6Address("TCP", "2001:db8::9", 2),
        ),
        (
            make_v2("/run/c", "/run/s"),
            UNIXAddress("/run/c"),
            UNIXAddress("/run/s"),
        ),
        (make_local(), IPv4Address("TCP", PROXY, 40000), IPv4Address("TCP", "192.0.2.7", 7)),
        (make_v1(), IPv4Address("TCP", PROXY, 40000), IPv4Address("TCP", "192.0.2.7", 7)),
    ],
    ids=["v2", "v1", "ipv6", "unix", "local", "unknown"],
)
def test_f47_a_service_begins_with_the_addresses_of_the_header(header, peer, host):
    """Nothing is sent before; `getPeer` is right in buildProtocol and in connectionMade."""
    factory = GreeterFactory()
    server = serve(factory)
    client = server.connect()
    client.send(header[:-1])
    assert (client.received, factory.addresses, server.connections) == (b"", [], 0)
    client.send(header[-1:])
    assert client.received == b"hello\r\n"
    assert factory.addresses == [peer]
    assert factory.seen == [(peer, host, getattr(peer, "host", ""))]


def test_f58_a_path_has_no_address_for_limits():
    """Access rules and shares do not apply, and the log shows the path."""
    server = serve("info", only_from=["203.0.113.0/24"], per_source=1)
    client = server.connect()
    client.send(make_v2("/run/client\x1b", "/run/server"))
    assert json.loads(client.received)["proxy"]["version"] == 2


def test_f66_addresses_of_ipv6_need_no_ipv6():
    """A header may have them on an IPv4 socket: limits count the /64."""
    server = serve(per_source=1)
    clients = [server.connect() for _ in range(2)]
    for number, client in enumerate(clients):
        client.send(make_v2((f"2001:db8::{number}", 1), ("2001:db8::9", 2)))
    assert [client.close_kind for client in clients] == [None, "closed"]
    assert server.counts.refused == {"per_source": 1}


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x02\0", b"\0", b"PROXY TCP4 x\r\n", b"\r\n\r\nx"]
)
def test_f44_what_is_no_header_is_closed_at_once(data):
    """HTTP, TLS and others: nothing is sent, and it is counted."""
    server = serve("daytime")
    client = server.connect()
    client.send(data)
    assert (client.received, client.close_kind) == (b"", "closed")
    assert server.counts.refused == {"proxy_header": 1}
    assert server.counts.proxy_headers == {("-", "proxy_header"): 1}
    assert server.counts.accepted == 0


def test_f45_an_untrusted_peer_is_closed_before_its_header_is_read():
    """It takes no slot; the trusted proxy is served."""
    server = serve("daytime", max_connections=1)
    client = server.connect(("192.0.2.2", 1))
    assert client.close_kind == "closed"
    client.send(HEADER)
    assert (client.received, server.counts.refused) == (b"", {"untrusted_proxy": 1})
    trusted = server.connect((PROXY, 1))
    trusted.send(HEADER)
    assert trusted.received.endswith(b"-UTC\r\n")


def test_f46_without_the_protocol_a_header_is_plain_data():
    """Echo sends it back."""
    client = MemoryServer("echo").connect()
    client.send(HEADER)
    assert client.received == HEADER


def test_f65_a_second_header_is_plain_data():
    """Only the first one is one."""
    client = serve().connect()
    client.send(HEADER + HEADER + make_v1())
    assert client.received == HEADER + make_v1()


def outcome(server, vector, size):
    """Return verdict and payload of a vector that comes in segments of *size* bytes."""
    counts = server.counts
    before = counts.accepted, sum(counts.refused.values())
    host = PROXY if vector.get("trusted", True) else "192.0.2.99"
    client = server.connect((host, 1), keep_open=True)
    data = vector["bytes"]
    for start in range(0, len(data), size):
        client.send(data[start : start + size])
    waiting = client.close_kind is None and counts.accepted == before[0]
    client.end()
    accepted = counts.accepted - before[0]
    assert accepted + sum(counts.refused.values()) - before[1] == 1
    assert client.close_kind == "closed"
    received = client.received
    client.close()
    if accepted:
        return "accept", received
    return "incomplete" if waiting and vector.get("then") != "close" else "reject", b""


def test_f48_each_vector_whole_and_byte_by_byte():
    """The same verdict, and the payload comes back; FIN ends what is incomplete (F49)."""
    wrong, server = [], serve()
    for vector in VECTORS:
        whole = outcome(server, vector, 1 << 20)
        if whole[0] != vector["verdict"]:
            wrong.append((vector["name"], whole[0]))
        leftover = vector.get("leftover", 0)
        if whole[0] == "accept" and leftover and whole[1] != vector["bytes"][-leftover:]:
            wrong.append((vector["name"], "payload"))
        if len(vector["bytes"]) < 70 and outcome(server, vector, 1) != whole:
            wrong.append((vector["name"], "byte by byte"))
    assert wrong == []


@pytest.mark.parametrize("header", [HEADER, make_v1(CLIENT, SERVER), make_local()])
@pytest.mark.parametrize("leave", ["end", "close", "reset"])
def test_f49_a_header_that_is_cut_at_each_byte(header, leave):
    """The connection is closed, and its slot is free; nothing is raised."""
    server = serve()
    for size in range(len(header)):
        client = server.connect()
        client.send(header[:size])
        getattr(client, leave)()
    assert server.counts.refused == {"proxy_header": len(header)}
    assert server.server.listeners[0].gate.admission.slots[0].in_use == 0
    assert server.info()["listeners"][0]["pending"] == {}


def test_f50_a_header_has_its_time():
    """Five seconds from the accept, however its bytes trickle in; after it there is no limit."""
    server = serve()
    slow, fast = server.connect(), server.connect()
    fast.send(HEADER)
    for byte in HEADER[:4]:
        slow.send(bytes([byte]))
        server.advance(1.2)
    assert server.info()["listeners"][0]["pending"] == {"proxy": 1}
    server.advance(0.3)
    assert (slow.close_kind, fast.close_kind) == ("closed", None)
    assert server.counts.refused == {"proxy_timeout": 1}


def test_f50_the_time_is_at_least_3_seconds():
    """As the specification says; a lost segment comes again in that time."""
    with pytest.raises(ConfigurationError, match="from 3 to"):
        serve(proxy_protocol_header_timeout=2.9)
    server = serve(proxy_protocol_header_timeout=3)
    client = server.connect()
    server.advance(3.1)
    assert client.close_kind == "closed"


def test_f57_and_f59_are_choices():
    """Headers without addresses, and headers about UDP."""
    about_udp = make_v2(CLIENT, SERVER, transport=Transport.DGRAM)
    for keywords, served in (
        ({}, [True, False]),
        ({"proxy_protocol_unspec": "reject"}, [False, False]),
        ({"proxy_protocol_other_transport": "accept"}, [True, True]),
    ):
        server = serve("daytime", **keywords)
        for header, expected in zip((make_v2(), about_udp), served, strict=True):
            client = server.connect()
            client.send(header)
            assert bool(client.received) == expected


def test_f64_the_cap_is_a_setting():
    """Of the bytes after the first 16; at most what the field can hold."""
    long = make_v2(CLIENT, SERVER, tlvs=[(0xE1, bytes(3000))])
    for cap, served in ((520, False), (65535, True)):
        client = serve("daytime", proxy_protocol_max_length=cap).connect()
        client.send(long)
        assert bool(client.received) == served
    with pytest.raises(ConfigurationError, match="from 520 to 65535"):
        serve(proxy_protocol_max_length=65536)


def test_f70_limits_and_rules_are_about_the_client():
    """``per_source`` and access count the header's address, a mapped one as IPv4."""
    server = serve(per_source=1, no_access=["203.0.113.99"])
    clients = []
    for host in ("203.0.113.7", "203.0.113.7", "::ffff:203.0.113.7", "203.0.113.8", "203.0.113.99"):
        client = server.connect()
        client.send(make_v2((host, 1), SERVER))
        clients.append(client.close_kind)
    assert clients == [None, "closed", "closed", None, "closed"]
    assert server.counts.refused == {"per_source": 2, "access": 1}
    assert server.server.listeners[0].gate.admission.slots[0].in_use == 2


def test_f70_a_proxy_has_its_own_cap():
    """It counts pending and served connections, and each place is free again afterwards."""
    server = serve(proxy_protocol_per_proxy=2, proxy_protocol_from=["192.0.2.0/24"])
    first, second = server.connect((PROXY, 1)), server.connect((PROXY, 2))
    first.send(HEADER)
    assert server.connect((PROXY, 3)).close_kind == "closed"
    assert server.connect(("192.0.2.2", 1)).close_kind is None
    assert server.counts.refused == {"proxy_connections": 1}
    first.close()
    second.reset()
    again = [server.connect((PROXY, port)) for port in (4, 5)]
    assert [client.close_kind for client in again] == [None, None]
    [listener] = server.server.listeners
    for client in again:
        client.reset()
    server.settle()
    assert len(listener.gate.admission.proxies) == 1


def test_pending_connections_take_slots():
    """Under close, a proxy that sends no header has its slots, and gives them back."""
    server = serve("daytime", max_connections=1, overload="close")
    silent = server.connect()
    assert server.connect().close_kind == "closed"
    silent.reset()
    client = server.connect()
    client.send(HEADER)
    assert client.received


def test_the_connection_rate_counts_connections_of_the_proxy():
    """A token is taken at the accept, before the client is known."""
    server = serve(connection_rate="1:1", overload="close")
    assert [server.connect().close_kind for _ in range(2)] == [None, "closed"]


class Headers(Observer):
    """Keeps the headers, and the peers of connections."""

    def __init__(self):
        self.events = []

    def proxy_header_received(self, listener, peer, header):
        self.events.append((peer, header.source))

    def connection_made(self, listener, connection):
        self.events.append((connection.peer, connection.proxy.version))


def test_observers_see_the_client_and_the_header():
    """The header first, then the connection of the client."""
    observer = Headers()
    server = serve(observers=[observer])
    client = server.connect()
    client.send(HEADER)
    assert observer.events == [("203.0.113.7:56324", CLIENT), ("203.0.113.7:56324", 2)]
    assert server.info()["listeners"][0]["counts"]["proxy_headers"] == {"2": {"accepted": 1}}
    json.dumps(server.info())


def test_info_answers_about_the_client():
    """Its addresses, and what the header says."""
    client = serve("info").connect()
    client.send(make_v2(CLIENT, SERVER, tlvs=[(2, b"a.example"), (0xEA, b"\1vpce-1")]))
    told = json.loads(client.received)
    assert (told["peer"], told["local"]) == ("203.0.113.7:56324", "198.51.100.9:443")
    assert told["proxy"]["authority"] == "a.example"
    assert told["proxy"]["aws_vpce_id"] == "vpce-1"


def test_a_reload_changes_the_settings():
    """In place for new connections; on and off, on the same socket; pending ones keep theirs."""
    server = serve("daytime")
    [listener] = server.server.listeners
    pending = server.connect()
    narrow = evolve(listener.settings.proxy_protocol, from_=())
    listener.update(evolve(listener.settings, proxy_protocol=narrow))
    refused = server.connect()
    assert (pending.close_kind, refused.close_kind) == (None, "closed")
    listener.update(evolve(listener.settings, proxy_protocol=NO_PROXY_PROTOCOL))
    plain = server.connect()
    assert plain.received.endswith(b"-UTC\r\n")
    pending.send(HEADER)
    assert pending.received.endswith(b"-UTC\r\n")


ECHO = serve()


@settings(max_examples=30)
@given(st.lists(st.integers(1, 40), max_size=20))
def test_echo_is_the_same_for_any_split(sizes):
    """Header and payload in any segments: the payload comes back, in order."""
    payload = bytes(range(200))
    data = make_v2(CLIENT, SERVER, tlvs=[(4, bytes(30))], checked=True) + payload
    client = ECHO.connect(keep_open=True)
    for size in sizes:
        client.send(data[:size])
        data = data[size:]
    client.send(data)
    client.end()
    assert (client.received, client.close_kind) == (payload, "closed")


def test_the_access_log_has_the_client_and_the_header(tmp_path):
    """One line of JSON, with what the proxy says about its client."""
    path = tmp_path / "access.jsonl"
    clock = Clock()
    log = AccessLog(clock, LogFile(str(path)))
    server = serve("daytime", observers=[log], clock=clock)
    client = server.connect()
    client.send(make_v2(CLIENT, SERVER, tlvs=[(2, b"a.example\x1b")]))
    client.close()
    server.settle()
    log.close()
    line = json.loads(path.read_text())
    assert (line["peer"], line["ended"]) == ("203.0.113.7:56324", "service")
    assert line["proxy"] == {"version": 2, "command": "PROXY", "authority": r"a.example\x1b"}
