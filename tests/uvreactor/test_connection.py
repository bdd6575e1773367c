"""A connection of the uvloop reactor does what Twisted's interfaces say."""

import socket

import pytest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IPushProducer,
    ISystemHandle,
    ITCPTransport,
    ITLSTransport,
)
from twisted.internet.protocol import Factory
from twisted.protocols.wire import Echo
from zope.interface.verify import verifyObject

from netsrv.uvreactor.writing_connection import MAX_PULLS
from tests.process import needs
from tests.uvreactor.conftest import HalfCloseable, Recorder
from tests.uvreactor.peer import Peer

MUCH = b"0123456789abcdef" * (1 << 18)
"""4 MiB: more than any buffer of the kernel takes at once."""


def echo(protocol, data):
    """Answer with what came."""
    protocol.transport.write(data)


def end(protocol):
    """Close."""
    protocol.transport.loseConnection()


def test_it_provides_what_twisted_demands(served):
    """Each interface is there, with all its methods."""
    _, protocol = served()
    for interface in (ITCPTransport, ITLSTransport, ISystemHandle, IConsumer, IPushProducer):
        assert verifyObject(interface, protocol.transport)


def test_writes_of_one_call_go_out_in_one_piece(served):
    """Two writes are one segment: the second does not wait for the peer's acknowledgement."""

    def answer(protocol, data):
        protocol.transport.write(b"head ")
        protocol.transport.writeSequence([b"bo", b"dy"])
        protocol.transport.write(bytearray(b"!"))
        written.append(protocol.transport.unsent)

    written = []
    peer, _ = served(data=answer)
    peer.send(b"?")
    assert peer.read() == b"head body!"
    assert written == [10]


def test_what_is_written_later_goes_out_too(served, runner):
    """The same outside of any call to the protocol."""
    peer, protocol = served()
    protocol.transport.write(b"a")
    protocol.transport.write(b"b")
    assert protocol.transport.unsent == 2
    assert peer.read() == b"ab"
    assert protocol.transport.unsent == 0


@pytest.mark.parametrize("data", ["text", "", None, 5])
def test_what_is_not_bytes_is_a_type_error(served, data):
    """As with Twisted's own transports."""
    _, protocol = served()
    with pytest.raises(TypeError):
        protocol.transport.write(data)
    with pytest.raises(TypeError):
        protocol.transport.writeSequence([b"good", data])


def test_everything_written_goes_out_before_the_end(served):
    """`loseConnection` waits for 16 MiB that the peer has not read yet."""

    def make(protocol):
        protocol.transport.write(4 * MUCH)
        protocol.transport.loseConnection()
        protocol.transport.write(b"too late")

    peer, protocol = served(made=make)
    assert protocol.transport.unsent > 0
    assert peer.read_all() == 4 * MUCH
    peer.sock.close()


def test_an_end_is_connection_done(served, runner):
    """Either side may close."""
    peer, protocol = served(made=end)
    assert peer.read() == b""
    runner.until(lambda: protocol.reason)
    assert type(protocol.reason) is ConnectionDone
    peer, protocol = served()
    peer.end()
    runner.until(lambda: protocol.reason)
    assert type(protocol.reason) is ConnectionDone
    assert protocol.calls == ["made", "lost"]


def test_a_reset_is_connection_lost(served, runner):
    """The peer may reset."""
    peer, protocol = served()
    peer.reset()
    runner.until(lambda: protocol.reason)
    assert type(protocol.reason) is ConnectionLost


def test_an_abort_is_a_reset(served, runner):
    """The peer gets RST, and what is unsent is lost."""

    def make(protocol):
        protocol.transport.write(MUCH)

    peer, protocol = served(made=make)
    protocol.transport.abortConnection()
    protocol.transport.write(b"ignored")
    runner.until(lambda: protocol.reason)
    assert type(protocol.reason) is ConnectionAborted
    with pytest.raises(ConnectionResetError):
        peer.read_all()


def test_after_the_end_nothing_happens(served, runner):
    """Whatever is called once the connection is gone has no effect."""

    def lose(protocol):
        protocol.transport.write(b"ignored")

    peer, protocol = served(made=end, lost=lose)
    transport = protocol.transport
    runner.until(lambda: protocol.reason)
    for call in (
        lambda: transport.write(b"x"),
        lambda: transport.writeSequence([b"x"]),
        transport.loseConnection,
        transport.loseWriteConnection,
        transport.abortConnection,
        transport.pauseProducing,
        transport.resumeProducing,
        transport.unregisterProducer,
    ):
        call()
    runner.turns()
    assert protocol.calls == ["made", "lost"]
    assert (transport.connected, transport.disconnected, transport.fileno()) == (False, True, -1)
    assert transport.getPeer().port == peer.sock.getsockname()[1]
    assert peer.read_all() == b""


@pytest.fixture
def expected_failures(request):
    """What is logged in tests of what raises."""
    mark = request.node.get_closest_marker("parametrize")
    return ["ZeroDivisionError"] if mark and "raises" in mark.args[0] else []


@pytest.mark.parametrize("raises", ["made", "data", "lost", "read lost"])
def test_an_exception_ends_its_connection_alone(served, runner, raises):
    """It is logged, and is the reason of the end."""
    script = {raises.replace(" ", "_"): lambda *_: 1 // 0}
    other, _ = served(data=echo)
    peer, protocol = served(HalfCloseable, **script)
    if raises != "made":
        peer.send(b"x")
    if raises == "read lost":
        peer.end()
    elif raises == "lost":
        peer.reset()
    runner.until(lambda: protocol.reason)
    assert type(protocol.reason) is (ConnectionLost if raises == "lost" else ZeroDivisionError)
    other.send(b"still here")
    assert other.read() == b"still here"


def test_a_peer_that_has_ended_may_be_answered_at_length(served):
    """4 MiB come back after FIN, when the protocol knows half-closed connections."""
    peer, protocol = served(HalfCloseable, data=echo, read_lost=end)
    assert peer.exchange(MUCH) == MUCH
    assert protocol.calls == ["made", "data", "read lost", "lost"]


def test_our_fin_does_not_end_what_the_peer_says(served, runner):
    """4 MiB go out and FIN, then 4 MiB come in."""

    def make(protocol):
        protocol.transport.write(MUCH)
        protocol.transport.loseWriteConnection()

    peer, protocol = served(HalfCloseable, made=make)
    assert peer.read_all() == MUCH
    runner.until(lambda: "write lost" in protocol.calls)
    protocol.transport.write(b"ignored")
    peer.send(MUCH)
    runner.until(lambda: len(protocol.received) == len(MUCH))
    peer.end()
    runner.until(lambda: "read lost" in protocol.calls)
    assert protocol.reason is None
    protocol.transport.loseConnection()
    runner.until(lambda: protocol.reason)
    assert type(protocol.reason) is ConnectionDone


def test_fin_is_sent_at_once_when_nothing_is_unsent(served, runner):
    """And a second call does nothing more."""
    peer, protocol = served(HalfCloseable)
    protocol.transport.loseWriteConnection()
    protocol.transport.loseWriteConnection()
    assert peer.read() == b""
    runner.until(lambda: "write lost" in protocol.calls)
    runner.turns()
    assert protocol.calls == ["made", "write lost"]


def test_nothing_is_read_while_paused(served, runner):
    """Not even what has come before the protocol was there, nor the end."""

    def make(protocol):
        protocol.transport.pauseProducing()

    peer, protocol = served(made=make)
    peer.send(b"early")
    peer.end()
    runner.turns()
    assert protocol.calls == ["made"]
    protocol.transport.resumeProducing()
    runner.until(lambda: protocol.reason)
    assert protocol.received == b"early"


def test_reading_pauses_and_goes_on(served, runner):
    """A connection that is paused in the middle gets the rest later."""

    def pause(protocol, data):
        protocol.transport.pauseProducing()

    peer, protocol = served(data=pause)
    peer.send(b"one")
    runner.until(lambda: protocol.received)
    peer.send(b"two")
    runner.turns()
    assert protocol.received == b"one"
    protocol.transport.resumeProducing()
    runner.until(lambda: protocol.received == b"onetwo")


class Producer:
    """Writes pieces of 10,000 bytes until it is paused, or one per call if it is pulled."""

    def __init__(self, transport, pieces):
        self.transport = transport
        self.left = pieces
        self.calls = []
        self.paused = False

    def resumeProducing(self):
        self.calls.append("resume")
        self.paused = False
        while self.left and not self.paused:
            self.left -= 1
            self.transport.write(b"x" * 10_000)
            if not self.streaming:
                break
        if not self.left:
            self.transport.unregisterProducer()

    def pauseProducing(self):
        self.calls.append("pause")
        self.paused = True

    def stopProducing(self):
        self.calls.append("stop")


@pytest.mark.parametrize("streaming", [True, False])
def test_a_producer_writes_as_fast_as_the_peer_reads(served, runner, streaming):
    """5 MB in pieces, of which few wait at any time; the connection ends after the last."""
    peer, protocol = served()
    producer = Producer(protocol.transport, 500)
    producer.streaming = streaming
    protocol.transport.registerProducer(producer, streaming)
    if streaming:
        producer.resumeProducing()
    protocol.transport.loseConnection()
    runner.turns()
    assert producer.left > 0
    assert protocol.transport.unsent < 200_000
    assert len(peer.read_all()) == 5_000_000
    assert ("pause" in producer.calls) is streaming
    assert "stop" not in producer.calls


def test_a_pull_producer_that_writes_nothing_is_not_asked_again(served, runner):
    """Only after a write has gone out is there a reason to ask."""
    _, protocol = served()
    producer = Producer(protocol.transport, 0)
    producer.resumeProducing = lambda: producer.calls.append("resume")
    protocol.transport.registerProducer(producer, False)
    runner.turns(20)
    assert producer.calls == ["resume"]


def test_a_pull_producer_may_write_several_times_in_a_call(served, runner):
    """All of it goes out, and the producer is called again, also for long writes."""

    class Bursts(Producer):
        def resumeProducing(self):
            super().resumeProducing()
            super().resumeProducing()

    peer, protocol = served()
    producer = Bursts(protocol.transport, 500)
    producer.streaming = False
    protocol.transport.registerProducer(producer, False)
    protocol.transport.loseConnection()
    assert len(peer.read_all()) == 5_000_000


def test_a_pull_producer_leaves_other_events_their_turns(served, runner):
    """It is called a few times in one turn of the loop, however much the peer reads."""
    _, protocol = served()
    producer = Producer(protocol.transport, 1000)
    producer.streaming = False
    protocol.transport.registerProducer(producer, False)
    calls = []
    runner.reactor.loop.call_soon(lambda: calls.append(len(producer.calls)))
    runner.until(lambda: calls)
    assert calls == [1 + MAX_PULLS]


def test_a_producer_is_stopped_at_the_end(served, runner):
    """One of a connection that is gone as well; a second one is refused before."""
    peer, protocol = served()
    producer = Producer(protocol.transport, 0)
    protocol.transport.registerProducer(producer, True)
    with pytest.raises(RuntimeError, match="never unregistered"):
        protocol.transport.registerProducer(producer, True)
    peer.reset()
    runner.until(lambda: protocol.reason)
    assert producer.calls == ["stop"]
    protocol.transport.registerProducer(producer, True)
    assert producer.calls == ["stop", "stop"]


@pytest.mark.parametrize("interface", ["127.0.0.1", "::1"])
def test_addresses_are_those_of_the_kernel(served, interface):
    """For IPv4 and IPv6, and the factory gets the same."""
    if ":" in interface:
        needs.ipv6()
    peer, protocol = served(interface=interface)
    kind = IPv6Address if ":" in interface else IPv4Address
    assert protocol.transport.getPeer() == kind("TCP", *peer.sock.getsockname())
    assert protocol.transport.getHost() == kind("TCP", *peer.sock.getpeername())
    local = protocol.transport.getHost().port
    assert repr(protocol.transport) == f"<Recorder #{protocol.transport.sessionno} on {local}>"
    assert protocol.transport.logPrefix().startswith("Recorder,")


@pytest.mark.parametrize("no_delay", [0, 1])
def test_tcp_nodelay_is_as_the_listening_socket_has_it(runner, no_delay):
    """Which uvloop sets on every socket."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, no_delay)
        factory = Factory.forProtocol(lambda: built.append(Recorder({})) or built[-1])
        built = []
        port = runner.reactor.adoptStreamPort(sock.fileno(), socket.AF_INET, factory)
        peer = Peer(runner, *sock.getsockname())
        runner.until(lambda: built)
        transport = built[0].transport
        handle = transport.getHandle()
        assert handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == no_delay
        transport.setTcpNoDelay(not no_delay)
        assert transport.getTcpNoDelay() is not bool(no_delay)
        transport.setTcpKeepAlive(True)
        assert transport.getTcpKeepAlive()
        peer.sock.close()
        port.stopListening()
        runner.turns()


def test_closing_the_socket_hands_the_connection_over(served, runner):
    """As with Twisted's transports: its protocol is not called again, and a duplicate lives."""
    peer, protocol = served()
    with protocol.transport.getHandle().dup() as duplicate:
        runner.reactor.removeReader(protocol.transport)
        protocol.transport.socket.close()
        runner.turns()
        assert protocol.calls == ["made"]
        duplicate.send(b"from elsewhere")
        assert peer.read() == b"from elsewhere"


def test_a_peer_that_floods_does_not_starve_others(served, runner):
    """Another connection is served while one sends all the time."""
    flood, flooded = served()
    other, protocol = served(data=echo)
    other.send(b"?")
    while protocol.received == b"":
        flood._sent(memoryview(MUCH))
        runner.reactor.iterate(0)
    assert other.read() == b"?"
    assert len(flooded.received) < 10 * len(MUCH)


def test_the_protocol_may_be_replaced(served, runner):
    """Programs set `transport.protocol`."""

    def switch(protocol, data):
        successor = Echo()
        successor.transport = protocol.transport
        protocol.transport.protocol = successor

    peer, protocol = served(data=switch)
    peer.send(b"switch")
    runner.until(lambda: protocol.received)
    peer.send(b"hello")
    assert peer.read() == b"hello"
