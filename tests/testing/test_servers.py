"""MemoryServer: the whole path of a peer, without a reactor and without a socket."""

import socket

import pytest
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.internet.task import Clock
from twisted.protocols.basic import LineReceiver
from twisted.protocols.policies import TimeoutMixin
from twisted.trial.unittest import SynchronousTestCase

from netsrv.config.model import ConfigurationError
from netsrv.interfaces import CloseReason
from netsrv.observers.dispatch import Observer
from netsrv.server.server import Drained
from netsrv.testing.servers import MAX_RECEIVED, PEER, MemoryServer
from tests.doubles import HalfCloseableRecorder, RecorderFactory


class Upper(LineReceiver):
    """Returns each line in capitals, and closes after ``bye``."""

    def lineReceived(self, line):
        self.sendLine(line.upper())
        if line == b"bye":
            self.transport.loseConnection()


class InTrial(SynchronousTestCase):
    """A trial test case without a reactor."""

    def test_lines(self):
        """A custom service is asked, and answers."""
        server = MemoryServer(Factory.forProtocol(Upper))
        client = server.connect()
        client.send(b"hello\r\nbye\r\n")
        self.assertEqual(client.received, b"HELLO\r\nBYE\r\n")
        self.assertEqual((client.close_kind, server.connections), ("closed", 0))
        server.connect()
        drained = server.drain(8)
        self.assertNoResult(drained)
        server.advance(8)
        self.assertEqual(self.successResultOf(drained), Drained(ended=0, aborted=1))


def test_nothing_of_it_is_a_socket(monkeypatch):
    """No socket is created, and no reactor used, on the whole path."""
    monkeypatch.setattr(socket, "socket", None)
    monkeypatch.setattr("twisted.internet.reactor.callLater", None)
    server = MemoryServer("echo", idle_timeout=60)
    client = server.connect()
    client.send(b"hello")
    assert client.received == b"hello"
    server.advance(61)
    assert client.close_kind == "closed"
    assert MemoryServer("echo", "udp").request(b"x") == [b"x"]


def test_a_service_that_is_not_there_is_named():
    """The error for an unknown service is that of a real start."""
    with pytest.raises(ConfigurationError, match="there is no service 'ecko'"):
        MemoryServer("ecko")
    with pytest.raises(ConfigurationError, match="only tcp and udp"):
        MemoryServer("echo", "unix")
    with pytest.raises(ConfigurationError, match="max_connections: 0"):
        MemoryServer("echo", max_connections=0)


def test_peers_come_from_where_the_test_says():
    """Access and per-source limits use the test's address; the service sees it too."""
    factory = RecorderFactory()
    server = MemoryServer(factory, only_from=["10.0.0.0/8", "2001:db8::/32"], per_source=1)
    first = server.connect(("10.0.0.1", 5000))
    assert server.connect(("10.0.0.1", 5001)).close_kind == "closed"
    assert server.connect(("192.0.2.9", 5000)).close_kind == "closed"
    sixth = server.connect(("2001:db8::1", 5000))
    assert (first.close_kind, sixth.close_kind, server.connections) == (None, None, 2)
    assert server.counts.refused == {"per_source": 1, "access": 1}
    peers = [each.transport.getPeer() for each in factory.protocols]
    assert [(each.host, each.port) for each in peers] == [("10.0.0.1", 5000), ("2001:db8::1", 5000)]
    assert factory.protocols[1].transport.getHost().host == "2001:db8::7"
    assert ITCPTransport.providedBy(factory.protocols[0].transport)


@pytest.mark.parametrize("no_access", [[], ["10.0.0.0/8"]])
def test_f141_an_empty_list_of_allowed_networks_lets_no_peer_in(no_access):
    """Every door that a list can be given at: no connection and no datagram is served."""
    server = MemoryServer("echo", only_from=[], no_access=no_access)
    for host in ("127.0.0.1", "192.0.2.9", "2001:db8::1"):
        assert server.connect((host, 5000)).close_kind == "closed"
    assert server.counts.refused == {"access": 3}
    datagrams = MemoryServer("echo", "udp", only_from=[], no_access=no_access)
    assert datagrams.request(b"abc", ("192.0.2.1", 4000)) == []
    assert dict(datagrams.counts.datagrams_dropped) == {"access": 1}


def test_at_the_limit_connections_wait_for_a_slot():
    """They are connected, and served once a slot is free."""
    server = MemoryServer("echo", max_connections=1)
    inside, waiting = server.connect(), server.connect()
    waiting.send(b"waited")
    assert (waiting.received, waiting.close_kind, server.counts.suspended) == (b"", None, True)
    inside.close()
    assert waiting.received == b"waited"
    waiting.close()
    assert (server.connections, server.counts.suspended) == (0, False)


@pytest.mark.parametrize(("overload", "ended"), [("close", "closed"), ("reset", "reset")])
def test_at_the_limit_connections_are_rejected(overload, ended):
    """They are closed or reset, as the overload policy says."""
    server = MemoryServer("echo", max_connections=1, overload=overload)
    server.connect()
    assert server.connect().close_kind == ended
    assert server.counts.refused == {"max_connections": 1}


def test_time_advances_only_by_the_test():
    """A limit is reached exactly at its time; earlier timers run in order."""
    server = MemoryServer("echo", idle_timeout=3600)
    client = server.connect()
    server.advance(1800)
    client.send(b"x")
    server.advance(3599)
    assert client.close_kind is None
    server.advance(2)
    assert (client.close_kind, server.counts.closed) == ("closed", {"idle_timeout": 1})
    assert server.server.counters.stalls == 0


def test_a_rate_lets_in_as_time_goes_by():
    """Tokens are added as the clock advances."""
    server = MemoryServer("echo", connection_rate="1:1")
    server.connect()
    second = server.connect()
    second.send(b"x")
    assert second.received == b""
    server.advance(1)
    assert second.received == b"x"


def test_a_service_has_the_same_clock():
    """The delayed calls of a service run as the clock advances."""

    class Impatient(Protocol, TimeoutMixin):
        def connectionMade(self):
            self.callLater = clock.callLater
            self.setTimeout(10)

    clock = Clock()
    server = MemoryServer(Factory.forProtocol(Impatient), clock=clock)
    client = server.connect()
    server.advance(9)
    assert client.close_kind is None
    server.advance(1)
    assert client.close_kind == "closed"
    assert server.counts.closed == {"service": 1}


def test_a_half_close_is_one():
    """A half-closeable service goes on; so can a client, after its readConnectionLost."""
    factory = RecorderFactory()
    server = MemoryServer(factory)
    client = server.connect(keep_open=True)
    client.send(b"question")
    client.end()
    [service] = factory.protocols
    assert service.events == ["made", b"question", "read lost"]
    service.transport.write(b"answer")
    assert client.received == b"answer"
    service.transport.loseWriteConnection()
    assert client.close_kind == "closed"
    service.transport.loseConnection()
    server.settle()
    assert service.events[-2:] == ["write lost", "ConnectionDone"]
    other = server.connect(keep_open=True)
    factory.protocols[1].transport.loseWriteConnection()
    other.send(b"still")
    assert factory.protocols[1].events == ["made", "write lost", b"still"]


def test_a_client_that_stays_is_read_until_it_has_lingered():
    """After a close by the service, the last bytes of a peer that goes on sending arrive."""
    server = MemoryServer(Factory.forProtocol(Upper))
    client = server.connect(keep_open=True)
    client.send(b"bye\r\nmore\r\n")
    assert (client.received, client.close_kind, server.connections) == (b"BYE\r\n", "closed", 1)
    server.advance(2)
    assert server.connections == 0


def test_a_peer_that_does_not_read_has_its_producer_paused():
    """Unsent output is bounded, counted, and ended by the write timeout."""
    server = MemoryServer("chargen", write_timeout=10)
    client = server.connect(reading=False)
    [connection] = server.server.listeners[0].gate.connections
    assert 0 < connection.unsent < 200_000
    server.advance(5)
    client.resume()
    assert len(client.received) >= MAX_RECEIVED  # and there the client pauses by itself
    before = connection.sent
    server.advance(5)
    assert connection.sent == before
    server.advance(6)
    assert (server.counts.closed, server.connections) == ({"write_timeout": 1}, 0)
    assert client.read()[:3] == b' !"'
    assert client.close_kind == "reset"


def test_a_reset_is_an_unclean_end_on_both_sides():
    """Both the service and the client get ConnectionLost."""
    factory = RecorderFactory()
    server = MemoryServer(factory)
    server.connect().reset()
    assert factory.protocols[0].events == ["made", "ConnectionLost"]
    assert server.counts.closed == {CloseReason.RESET.value: 1}
    client = server.connect()
    factory.protocols[1].transport.abortConnection()
    assert client.close_kind == "reset"
    assert server.counts.closed == {"reset": 1, "aborted": 1}


def test_data_for_a_closed_socket_is_answered_with_a_reset():
    """This is what a kernel does."""
    factory = RecorderFactory()
    server = MemoryServer(factory)
    client = server.connect()
    client.close()
    [service] = factory.protocols
    assert service.events == ["made", "read lost"]
    for _ in range(2):  # the first is answered with RST, and the second finds it
        service.transport.write(b"x")
        server.settle()
    assert service.events == ["made", "read lost", "ConnectionLost"]


def test_a_protocol_may_be_the_client():
    """It has a transport of Twisted's, with the addresses of its side."""
    server = MemoryServer(Factory.forProtocol(Upper))
    client = server.connect_protocol(HalfCloseableRecorder(), ("192.0.2.50", 1234))
    client.transport.write(b"hello\r\n")
    server.settle()
    assert client.events == ["made", b"HELLO\r\n"]
    assert (client.transport.getHost().port, client.transport.getPeer().port) == (1234, 7)


def test_an_endless_exchange_is_an_error():
    """Two protocols that echo each other raise an error instead of looping."""

    class Beginning(Protocol):
        def connectionMade(self):
            self.transport.write(b"x")

        def dataReceived(self, data):
            self.transport.write(data)

    server = MemoryServer("echo")
    with pytest.raises(RuntimeError, match="never stop sending"):
        server.connect_protocol(Beginning())


@pytest.mark.parametrize("expected_failures", [["ZeroDivisionError"]])
def test_an_exception_of_the_service_is_of_its_connection(expected_failures):
    """It is logged and counted, the peer is reset, and the server goes on."""

    class Raising(Protocol):
        def dataReceived(self, data):
            return 1 / 0

    server = MemoryServer(Factory.forProtocol(Raising))
    other, client = server.connect(), server.connect()
    client.send(b"x")
    assert (client.close_kind, other.close_kind) == ("reset", None)
    assert server.counts.service_failures == 1


def test_datagrams_are_held_to_the_rules():
    """A named service's answers follow the rules, for any peer."""
    server = MemoryServer("echo", "udp", no_access=["192.0.2.66"])
    assert server.request(b"hello") == [b"hello"]
    assert server.request(b"", ("2001:db8::1", 4000)) == [b""]
    assert server.request(b"x", ("192.0.2.1", 53)) == []
    assert server.request(b"x", ("192.0.2.66", 4000)) == []
    assert server.request(b"x", ("192.0.2.1", 7)) == []
    assert server.counts.datagrams_dropped == {"source_port": 1, "access": 1, "own_port": 1}
    assert server.sent == [(b"hello", PEER), (b"", ("2001:db8::1", 4000))]


class Loud(DatagramProtocol):
    """Sends first, and answers with much, to the peer and to others."""

    noisy = False

    def startProtocol(self):
        self.transport.setBroadcastAllowed(True)
        self.transport.write(b"here", ("192.0.2.255", 9999))

    def datagramReceived(self, datagram, addr):
        self.transport.write(datagram * 100, addr)
        self.transport.write(b"told", ("198.51.100.1", 9))


def test_an_own_datagram_protocol_sends_and_receives_what_it_wants():
    """Only access and the rate apply to it; everything is counted."""
    server = MemoryServer(Loud(), only_from=["192.0.2.0/24"], datagram_rate="1:2")
    for peer in (("192.0.2.1", 53), ("192.0.2.1", 7)):
        assert server.request(b"abc", peer) == [b"abc" * 100]
    assert server.request(b"abc", ("192.0.2.1", 53)) == []
    assert server.request(b"abc", ("203.0.113.1", 4000)) == []
    server.advance(1)
    assert len(server.request(b"abc", ("192.0.2.1", 53))) == 1
    assert server.sent[:3] == [
        (b"here", ("192.0.2.255", 9999)),
        (b"abc" * 100, ("192.0.2.1", 53)),
        (b"told", ("198.51.100.1", 9)),
    ]
    assert server.counts.datagrams_dropped == {"datagram_rate": 1, "access": 1}
    assert (server.counts.datagrams_received, server.counts.datagrams_sent) == (3, 7)


def test_an_own_datagram_protocol_can_be_held_to_the_rules():
    """With safe_replies it is treated like a named service."""
    server = MemoryServer(Loud(), safe_replies=True)
    assert server.request(b"abc", ("192.0.2.1", 53)) == []
    assert server.request(b"abc") == []
    assert server.request(b"") == [b""]
    assert server.counts.datagrams_dropped == {"source_port": 1, "reply_too_long": 1}


def test_a_drain_serves_the_backlog_and_refuses_new_connections():
    """It ends with the last connection, and then nothing listens."""
    server = MemoryServer("echo")
    client = server.connect()
    drained = server.drain(8)
    with pytest.raises(ConnectionRefusedError):
        server.connect()
    client.send(b"last")
    assert client.received == b"last"
    client.close()
    server.settle()
    assert drained.result == Drained(ended=1, aborted=0)
    server.advance(100)
    assert server.clock.getDelayedCalls() == []


def test_own_observers_get_events():
    """They get each connection and its end."""

    class Ends(Observer):
        seen = []

        def connection_closed(self, listener, connection):
            self.seen.append((str(listener), connection.peer, connection.close_reason))

    server = MemoryServer("echo", observers=[Ends()])
    server.connect(("192.0.2.4", 4000)).close()
    assert Ends.seen == [("tcp 0.0.0.0:7 (echo)", "192.0.2.4:4000", CloseReason.PEER)]
    assert server.info()["listeners"][0]["counts"]["accepted"] == 1


def test_what_a_server_does_not_have_is_said():
    """A UDP server has no connections, a TCP server no datagrams."""
    with pytest.raises(TypeError, match="see request"):
        MemoryServer("echo", "udp").connect()
    with pytest.raises(TypeError, match="see connect"):
        MemoryServer("echo").request(b"x")
