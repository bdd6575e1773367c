"""The PROXY protocol on datagrams, through a whole server in memory."""

import json

import pytest
from twisted.internet.protocol import DatagramProtocol

from netsrv.datagrams.proxied import MAX_CLIENTS
from netsrv.proxy_protocol import Transport, make_local, make_v1, make_v2
from netsrv.testing.servers import MemoryServer

PROXY = ("192.0.2.1", 40000)
CLIENT, SERVER = ("203.0.113.7", 56324), ("198.51.100.9", 53)
HEADER = make_v2(CLIENT, SERVER, transport=Transport.DGRAM)


def serve(service="echo", **keywords):
    """Return a server that trusts one proxy."""
    return MemoryServer(service, "udp", proxy_protocol_from=[PROXY[0]], **keywords)


def test_f69_the_header_comes_off_and_the_answer_goes_to_the_proxy():
    """In the datagram of the payload, and in each."""
    server = serve()
    for payload in (b"hello", b"", b"x" * 1000):
        assert server.request(HEADER + payload, PROXY) == [payload]
    assert server.counts.datagrams_received == 3
    assert server.counts.received_bytes == 1005


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"hello",
        HEADER[:-1],
        make_v1(CLIENT, SERVER) + b"x",
        make_v2(CLIENT, SERVER) + b"x",
        HEADER[:12] + b"\x31" + HEADER[13:],
    ],
    ids=["empty", "none", "cut", "v1", "about TCP", "version 3"],
)
def test_f69_a_bad_one_is_dropped_and_counted(datagram):
    """Without, or with half a header, one of version 1, or about TCP; the next one is served."""
    server = serve()
    assert server.request(datagram, PROXY) == []
    assert server.counts.datagrams_dropped == {"proxy_header": 1}
    assert server.request(HEADER + b"next", PROXY) == [b"next"]


def test_f45_an_untrusted_sender_is_dropped():
    """Its header is not read."""
    server = serve()
    assert server.request(HEADER + b"x", ("192.0.2.2", 40000)) == []
    assert server.counts.datagrams_dropped == {"untrusted_proxy": 1}


def test_f70_rules_and_rates_count_the_client():
    """Access, the source port, and the rate of each client."""
    server = serve(no_access=["203.0.113.99"], datagram_rate="1:2")

    def send(host, port=56324):
        header = make_v2((host, port), SERVER, transport=Transport.DGRAM)
        return len(server.request(header + b"x", PROXY))

    assert [send("203.0.113.99"), send("203.0.113.5", 53)] == [0, 0]
    assert server.counts.datagrams_dropped == {"access": 1, "source_port": 1}
    assert [send("203.0.113.7") for _ in range(3)] == [1, 1, 0]
    assert [send("203.0.113.8") for _ in range(3)] == [1, 1, 0]


def test_f56_local_and_unspec_are_the_proxys_own():
    """Its own address stands, and the answer goes there."""
    server = serve("info")
    for header in (make_local(), make_v2()):
        [answer] = server.request(header + b"x" * 200, PROXY)
        assert json.loads(answer)["peer"] == "192.0.2.1:40000"


def test_the_service_sees_the_client():
    """Its address, also of IPv6 on an IPv4 socket (F66)."""
    server = serve("info")
    header = make_v2(("2001:db8::7", 56324), ("2001:db8::9", 53), transport=Transport.DGRAM)
    [answer] = server.request(header + b"x" * 200, PROXY)
    assert json.loads(answer)["peer"] == "[2001:db8::7]:56324"


class Later(DatagramProtocol):
    """Answers the datagram before, when the next one comes."""

    def __init__(self):
        self.before = []

    def datagramReceived(self, datagram, addr):
        for peer in self.before:
            self.transport.write(b"late", peer)
        self.before = [addr]


def test_a_late_answer_goes_to_the_proxy_of_its_client():
    """By the proxy from which the client has sent last."""
    server = MemoryServer(Later(), proxy_protocol_from=["192.0.2.0/24"])
    other = make_v2(("203.0.113.8", 1), SERVER, transport=Transport.DGRAM)
    server.send_datagram(HEADER + b"x", PROXY)
    server.send_datagram(other + b"x", ("192.0.2.2", 1))
    assert server.sent == [(b"late", PROXY)]


def test_a_late_answer_after_many_clients():
    """The clients that are remembered are the newest; the oldest is forgotten for each new one."""
    server = MemoryServer(Later(), proxy_protocol_from=["192.0.2.0/24"])
    for number in range(MAX_CLIENTS + 10):
        client = make_v2(
            (f"198.18.{number >> 8}.{number & 255}", 1), SERVER, transport=Transport.DGRAM
        )
        server.send_datagram(client + b"x", PROXY)
    assert server.sent == [(b"late", PROXY)] * (MAX_CLIENTS + 9)


def test_a_late_answer_to_a_client_of_long_ago_that_has_sent_again():
    """It is among the newest then, and its answer goes to its proxy."""
    server = MemoryServer(Later(), proxy_protocol_from=["192.0.2.0/24"])
    hosts = [f"198.18.{number >> 8}.{number & 255}" for number in range(MAX_CLIENTS + 1)]
    for host in (*hosts[:-1], hosts[0], hosts[-1]):
        server.send_datagram(make_v2((host, 1), SERVER, transport=Transport.DGRAM) + b"x", PROXY)
    assert server.sent == [(b"late", PROXY)] * (MAX_CLIENTS + 1)
