"""Headers of the PROXY protocol that have come before the accept: no connection is ever pending."""

import json
from contextlib import contextmanager

import pytest
from twisted.internet.protocol import Factory, Protocol

from netsrv.observers.dispatch import Observer
from netsrv.proxy_protocol import make_local, make_v1, make_v2
from netsrv.testing.servers import MemoryServer
from tests.proxy_protocol.vectors import VECTORS

PROXY = ("192.0.2.1", 1)
CLIENT, SERVER = ("203.0.113.7", 56324), ("198.51.100.9", 443)
HEADER = make_v2(CLIENT, SERVER)


def serve(service="echo", **keywords):
    """Return a server that trusts one proxy."""
    return MemoryServer(service, proxy_protocol_from=[PROXY[0]], **keywords)


@contextmanager
def backlog(server):
    """Let connections, and what they send, wait before the accept."""
    [listener] = server.server.listeners
    listener.suspend()
    yield
    listener.resume()
    server.settle()


def send_early(server, data, peer=PROXY, **keywords):
    """Return a client that has sent *data* before it was accepted."""
    with backlog(server):
        client = server.connect(peer, **keywords)
        client.send(data)
    return client


def slots(server):
    """Return how many connections hold a slot."""
    return server.server.listeners[0].gate.admission.slots[0].in_use


def test_f48_each_vector_that_comes_before_the_accept():
    """The verdict and the payload are those of a header that comes later."""
    server, wrong = serve(), []
    for vector in VECTORS:
        host = PROXY[0] if vector.get("trusted", True) else "192.0.2.99"
        before = server.counts.accepted
        client = send_early(server, vector["bytes"], (host, 1), keep_open=True)
        client.end()
        accepted = server.counts.accepted > before
        if accepted != (vector["verdict"] == "accept"):
            wrong.append(vector["name"])
        leftover = vector.get("leftover", 0)
        if accepted and leftover and client.received != vector["bytes"][-leftover:]:
            wrong.append((vector["name"], "payload"))
        assert client.close_kind == "closed"
        client.close()
    assert wrong == []
    assert slots(server) == 0


class Stages(Observer):
    """Keeps the headers, with the stages in which connections are meanwhile."""

    def __init__(self):
        self.seen = []

    def proxy_header_received(self, listener, peer, header):
        self.seen.append((peer, dict(self.gate.pending)))


@pytest.mark.parametrize("header", [HEADER, make_v1(CLIENT, SERVER), make_local()])
def test_nothing_is_pending(header):
    """The service begins in the turn of the accept, with the payload of the same segment."""
    server = serve(observers=[observer := Stages()])
    observer.gate = server.server.listeners[0].gate
    client = send_early(server, header + b"hello")
    assert client.received == b"hello"
    peer = "192.0.2.1:1" if header == make_local() else "203.0.113.7:56324"
    assert observer.seen == [(peer, {})]
    client.send(b" again")
    assert client.received == b"hello again"


def test_half_a_header_is_awaited():
    """The rest of it comes later, for each byte at which it is cut."""
    server = serve()
    for size in range(1, len(HEADER)):
        client = send_early(server, HEADER[:size])
        assert server.info()["listeners"][0]["pending"] == {"proxy": 1}
        client.send(HEADER[size:] + b"hello")
        assert client.received == b"hello"
        client.close()


def test_a_header_and_a_payload_that_are_longer_than_one_read():
    """They come whole and in order."""
    data = bytes(range(256)) * 100
    server = serve()
    assert send_early(server, HEADER + data).received == data
    long = make_v2(CLIENT, SERVER, tlvs=[(0xE1, bytes(10_000))], checked=True)
    assert send_early(server, long + data).received == data


class Pauser(Protocol):
    """Pauses as soon as it is connected."""

    def connectionMade(self):
        self.factory.events.append(("made", self.transport.getPeer().host))
        self.factory.last = self
        self.transport.pauseProducing()

    def dataReceived(self, data):
        self.factory.events.append(data)


class PauserFactory(Factory):
    """Builds pausers; keeps what they see."""

    noisy = False
    protocol = Pauser

    def __init__(self):
        self.events = []

    def buildProtocol(self, addr):
        self.events.append(("built", addr.host))
        return super().buildProtocol(addr)


def test_a_service_that_pauses_gets_the_payload_when_it_resumes():
    """All of it, and then what comes later; the address is the client's from the first call."""
    factory = PauserFactory()
    server = serve(factory)
    client = send_early(server, HEADER + b"early")
    client.send(b"late")
    assert factory.events == [("built", CLIENT[0]), ("made", CLIENT[0])]
    factory.last.transport.resumeProducing()
    server.settle()
    assert factory.events[2:] == [b"early", b"late"]


class Refuser(Factory):
    """Builds no protocol, or raises."""

    noisy = False

    def __init__(self, error=None):
        self.error = error

    def buildProtocol(self, addr):
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize("factory", [Refuser(), Refuser(ValueError("no"))], ids=["none", "raises"])
def test_a_service_that_builds_nothing(factory, expected_failures):
    """The connection is closed, and its slot and its place at the proxy are free."""
    if factory.error is not None:
        expected_failures.append("ValueError")  # of two, one is logged in a minute
    server = serve(factory, proxy_protocol_per_proxy=1)
    for _ in range(2):
        assert send_early(server, HEADER + b"hello").close_kind == "closed"
    assert slots(server) == 0
    assert server.counts.service_failures == (0 if factory.error is None else 2)


def test_f70_the_client_is_rejected():
    """By ``per_source`` and access; slots and places at the proxy are free again."""
    server = serve(per_source=1, no_access=["203.0.113.99"], proxy_protocol_per_proxy=2)
    first = send_early(server, HEADER)
    for host in (CLIENT[0], "::ffff:203.0.113.7", "203.0.113.99"):
        assert send_early(server, make_v2((host, 1), SERVER)).close_kind == "closed"
    assert (first.close_kind, slots(server)) == (None, 1)
    assert server.counts.refused == {"per_source": 2, "access": 1}
    other = send_early(server, make_v2(("203.0.113.8", 1), SERVER))
    assert send_early(server, make_v2(("203.0.113.9", 1), SERVER)).close_kind == "closed"
    assert server.counts.refused["proxy_connections"] == 1
    first.close()
    other.reset()
    server.settle()
    assert len(server.server.listeners[0].gate.admission.proxies) == 0


@pytest.mark.parametrize("leave", ["end", "close", "reset"])
def test_f49_a_peer_that_has_left_before_the_accept(leave):
    """With no byte, half a header, a header, and a payload: slots are free, nothing is raised."""
    server = serve()
    for data in (b"", HEADER[:20], HEADER, HEADER + b"hello"):
        with backlog(server):
            client = server.connect(PROXY, keep_open=True)
            if data:
                client.send(data)
            getattr(client, leave)()
        if leave == "end":
            assert client.received == data[len(HEADER) :]
            client.close()
    server.settle()
    assert slots(server) == 0


def test_info_answers_about_the_client():
    """A service of one message knows the header too."""
    client = send_early(serve("info"), make_v2(CLIENT, SERVER, tlvs=[(2, b"a.example")]))
    answer = json.loads(client.received)
    assert (answer["peer"], answer["proxy"]["authority"]) == ("203.0.113.7:56324", "a.example")
