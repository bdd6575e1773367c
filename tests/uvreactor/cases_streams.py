"""Cases with connections that are served: errors of the application, and odd moments."""

import contextlib  # trial takes a `suppress` of a module for its own
import os
import socket
import struct

from twisted.internet.interfaces import IHalfCloseableProtocol, IPullProducer, IPushProducer
from twisted.internet.protocol import Protocol
from zope.interface import implementer

from tests.clients import read_all
from tests.uvreactor.cases import (
    Case,
    Events,
    Made,
    Recorder,
    connect,
    in_reactor,
)

RESET = struct.pack("ii", 1, 0)
BIG = 8 * 2**20


class Mistake(Exception):
    """What a protocol raises."""


class Raising(Recorder):
    """Raises in one of its methods."""

    def __init__(self, events, where):
        super().__init__(events)
        self.where = where

    def maybe(self, where):
        if where == self.where:
            raise Mistake(where)

    def connectionMade(self):
        super().connectionMade()
        self.maybe("made")

    def dataReceived(self, data):
        super().dataReceived(data)
        self.maybe("data")

    def connectionLost(self, reason):
        super().connectionLost(reason)
        self.maybe("lost")


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Raising):
    """Raises in one of the methods of half-closed connections."""

    def readConnectionLost(self):
        self.events("read ended")
        self.maybe("read")

    def writeConnectionLost(self):
        self.events("write ended")
        self.maybe("write")


class Echo(Protocol):
    """Sends everything back."""

    def dataReceived(self, data):
        self.transport.write(data)


class RaisingCases(Case):
    """An application that raises loses that connection, and nothing else."""

    def mistakes(self, number=1):
        assert len(self.flushLoggedErrors(Mistake)) == number

    def raises(self, make, say=b"", lost="Mistake", end=False):
        """Serve one that raises and then an echo; return the events of the first."""
        events = Events()
        makers = [lambda: make(events), Echo]

        def script(port):
            with connect(port) as first:
                if say:
                    first.sendall(say)
                if end:
                    first.shutdown(socket.SHUT_WR)
                if lost:
                    events.wait_for(lost)
                    with contextlib.suppress(ConnectionResetError):
                        assert read_all(first) == b""
            with connect(port) as second:
                second.sendall(b"still here?")
                assert second.recv(100) == b"still here?"

        self.serve(lambda: makers.pop(0)(), script)  # noqa: PLW0108
        return events.seen

    def test_in_connectionMade(self):
        assert self.raises(lambda events: Raising(events, "made"), lost="")[0] == "made"
        self.mistakes()

    def test_in_dataReceived(self):
        seen = self.raises(lambda events: Raising(events, "data"), b"x")
        assert seen == ["made", b"x", "Mistake"]
        self.mistakes()

    def test_in_connectionLost(self):
        seen = self.raises(lambda events: Raising(events, "lost"), b"x", "ConnectionDone", True)
        assert seen == ["made", b"x", "ConnectionDone"]
        self.mistakes()

    def test_in_readConnectionLost(self):
        seen = self.raises(lambda events: HalfCloseable(events, "read"), b"x", "Mistake", True)
        assert seen == ["made", b"x", "read ended", "Mistake"]
        self.mistakes()

    def test_in_writeConnectionLost(self):
        class CloseReason(HalfCloseable):
            def dataReceived(self, data):
                super().dataReceived(data)
                self.transport.loseWriteConnection()

        seen = self.raises(lambda events: CloseReason(events, "write"), b"x", "Mistake")
        assert seen == ["made", b"x", "write ended", "Mistake"]
        self.mistakes()

    def test_in_buildProtocol(self):
        def make(events):
            raise Mistake("build")

        self.raises(make, lost="")
        self.mistakes()

    def test_in_buildProtocol_that_gives_none(self):
        self.raises(lambda events: None, lost="")

    def test_in_resumeProducing(self):
        @implementer(IPullProducer)
        class Producing(Recorder):
            def connectionMade(self):
                super().connectionMade()
                self.turns = 0
                self.transport.registerProducer(self, False)

            def resumeProducing(self):
                self.turns += 1
                if self.turns == 3:
                    raise Mistake("resume")
                self.transport.write(b"")
                self.transport.write(b"x")

            def stopProducing(self):
                self.events("stop")

        events = Events()

        def script(port):
            with connect(port) as peer:
                events.wait_for("Mistake")
                with contextlib.suppress(ConnectionResetError):
                    assert read_all(peer) in (b"", b"x", b"xx")

        self.serve(lambda: Producing(events), script)
        assert events.seen == ["made", "stop", "Mistake"]
        self.mistakes()


class OddMomentCases(Case):
    """Calls of the transport at moments when few expect them."""

    def events_of(self, kind, script=None, lost="ConnectionDone"):
        """Serve *kind*; return what a peer read until the end, and the server's events."""
        events = Events()
        read = []

        def usual(port):
            with contextlib.suppress(ConnectionResetError), connect(port) as peer:
                if script is not None:
                    script(peer, events)
                read.append(read_all(peer))
            events.wait_for(lost)

        self.serve(lambda: kind(events), usual)
        return b"".join(read), events.seen

    def test_write_and_loseConnection_in_connectionMade(self):
        class Kind(Recorder):
            def connectionMade(self):
                super().connectionMade()
                self.transport.write(b"bye")
                self.transport.loseConnection()
                self.events("after")

        assert self.events_of(Kind) == (b"bye", ["made", "after", "ConnectionDone"])

    def test_abortConnection_in_connectionMade(self):
        class Kind(Recorder):
            def connectionMade(self):
                super().connectionMade()
                self.transport.write(b"never")
                self.transport.abortConnection()
                self.events("after")

        read, seen = self.events_of(Kind, lost="ConnectionAborted")
        assert (read, seen) == (b"", ["made", "after", "ConnectionAborted"])

    def test_the_transport_may_be_used_when_the_connection_is_lost(self):
        class Kind(Recorder):
            def connectionLost(self, reason):
                self.transport.write(b"no peer reads this")
                self.transport.writeSequence([b"nor", b"this"])
                self.transport.loseConnection()
                self.transport.abortConnection()
                self.transport.pauseProducing()
                self.transport.resumeProducing()
                self.transport.stopProducing()
                self.transport.unregisterProducer()
                self.events(self.transport.getPeer().host)
                self.events(bool(repr(self.transport)))
                super().connectionLost(reason)

        read, seen = self.events_of(Kind, lambda peer, events: peer.shutdown(socket.SHUT_WR))
        assert seen == ["made", "127.0.0.1", True, "ConnectionDone"]
        assert read == b""

    def test_the_transport_may_be_used_long_after(self):
        events = Events()

        def script(port):
            with connect(port):
                events.wait_for("made")
            events.wait_for("ConnectionDone")
            transport = factory.protocols[0].transport
            for call in ("loseConnection", "abortConnection", "pauseProducing"):
                in_reactor(reactor, getattr(transport, call))
            in_reactor(reactor, transport.write, b"x")
            in_reactor(reactor, transport.resumeProducing)
            assert transport.getPeer().host == "127.0.0.1"
            assert not transport.connected

        reactor = self.buildReactor()
        factory = Made(lambda: Recorder(events))
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.play(reactor, lambda: script(port.getHost().port))
        assert events.seen == ["made", "ConnectionDone"]

    def test_nothing_is_received_after_loseConnection(self):
        class Kind(Recorder):
            def dataReceived(self, data):
                self.events("data")
                self.transport.loseConnection()

        def script(peer, events):
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                for _ in range(50):
                    peer.sendall(bytes(100_000))

        _, seen = self.events_of(Kind, script)
        assert seen == ["made", "data", "ConnectionDone"]

    def test_nothing_is_received_after_pauseProducing(self):
        class Kind(Recorder):
            paused = False
            received = 0

            def dataReceived(self, data):
                assert not self.paused
                self.received += len(data)
                self.paused = True
                self.transport.pauseProducing()
                self.reactor.callLater(0.001, self.go_on)

            def go_on(self):
                self.paused = False
                self.transport.resumeProducing()

            def connectionLost(self, reason):
                self.events(self.received)
                super().connectionLost(reason)

        events = Events()

        def script(port):
            with connect(port) as peer:
                for _ in range(20):
                    peer.sendall(bytes(100_000))
            events.wait_for("ConnectionDone")

        reactor = self.buildReactor()
        Kind.reactor = reactor
        port = reactor.listenTCP(0, Made(lambda: Kind(events)), interface="127.0.0.1")
        self.play(reactor, lambda: script(port.getHost().port))
        assert events.seen == ["made", 2_000_000, "ConnectionDone"]

    def test_paused_in_connectionMade(self):
        class Kind(Recorder):
            def connectionMade(self):
                self.transport.pauseProducing()
                super().connectionMade()

        events = Events()

        def script(port):
            with connect(port) as peer:
                peer.sendall(b"early")
                events.wait_for("made")
                in_reactor(reactor, lambda: None)
                assert events.seen == ["made"]
                in_reactor(reactor, factory.protocols[0].transport.resumeProducing)
                events.wait_for(b"early")

        reactor = self.buildReactor()
        factory = Made(lambda: Kind(events))
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.play(reactor, lambda: script(port.getHost().port))

    def test_an_end_while_paused_is_told_when_resumed(self):
        class Kind(Recorder):
            def dataReceived(self, data):
                self.transport.pauseProducing()
                super().dataReceived(data)

        events = Events()

        def script(port):
            with connect(port) as peer:
                peer.sendall(b"first")
                events.wait_for(b"first")
                peer.sendall(b"second")
            for _ in range(3):
                in_reactor(reactor, lambda: None)
            assert events.seen == ["made", b"first"]
            in_reactor(reactor, factory.protocols[0].transport.resumeProducing)
            events.wait_for(b"second")
            in_reactor(reactor, factory.protocols[0].transport.resumeProducing)
            events.wait_for("ConnectionDone")

        reactor = self.buildReactor()
        factory = Made(lambda: Kind(events))
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.play(reactor, lambda: script(port.getHost().port))

    def test_much_is_written_and_the_connection_is_lost_after_it(self):
        class Kind(Recorder):
            def connectionMade(self):
                super().connectionMade()
                self.transport.write(bytes(BIG))
                self.transport.writeSequence([b"a", b"b"])
                self.transport.loseConnection()

        read, seen = self.events_of(Kind)
        assert len(read) == BIG + 2
        assert read[-2:] == b"ab"
        assert seen == ["made", "ConnectionDone"]

    def test_what_is_written_is_taken_as_it_is(self):
        class Kind(Recorder):
            def connectionMade(self):
                super().connectionMade()
                filler = bytes(BIG)
                text = bytearray(b"first")
                self.transport.write(filler)
                self.transport.write(bytes(text))
                text[:] = b"other"
                self.transport.writeSequence([b"x", b"", b"y"])
                self.transport.write(b"")
                self.transport.loseConnection()

        assert self.events_of(Kind)[0][BIG:] == b"firstxy"

    def test_a_string_cannot_be_written(self):
        class Kind(Recorder):
            def connectionMade(self):
                super().connectionMade()
                for write, what in (("write", "text"), ("writeSequence", ["text"])):
                    try:
                        getattr(self.transport, write)(what)
                    except TypeError:
                        self.events("refused")
                self.transport.loseConnection()

        assert self.events_of(Kind) == (b"", ["made", "refused", "refused", "ConnectionDone"])

    def test_a_write_to_a_peer_that_has_reset(self):
        class Kind(Recorder):
            def dataReceived(self, data):
                super().dataReceived(data)
                self.transport.write(bytes(2**20))

        def script(peer, events):
            events.wait_for("made")
            peer.sendall(b"x")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            peer.close()
            events.wait_for("ConnectionLost")

        events = Events()

        def whole(port):
            script(connect(port), events)

        self.serve(lambda: Kind(events), whole)
        assert events.seen in (
            ["made", b"x", "ConnectionLost"],
            ["made", "ConnectionLost"],
        )

    def test_many_are_reset_in_the_middle(self):
        events = Events()
        number = 200

        class Kind(Recorder):
            def connectionLost(self, reason):
                self.events("lost")

            def dataReceived(self, data):
                self.transport.write(bytes(100_000))

        def script(port):
            in_reactor(reactor, lambda: None)  # it runs, and has opened its own descriptors
            before = len(os.listdir("/proc/self/fd"))
            peers = []
            for _ in range(number):
                peer = connect(port)
                peer.sendall(b"x")
                peers.append(peer)
            for index, peer in enumerate(peers):
                if index % 2:
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                peer.close()
            with connect(port) as peer:
                peer.sendall(b"x")
                assert peer.recv(1)
            # A peer that has reset before it is served may not be served at all.
            made, lost = (lambda: events.seen.count("made")), (lambda: events.seen.count("lost"))
            events.wait_until(lambda: made() == lost() > number // 2, "not all are lost")
            in_reactor(reactor, lambda: None)
            assert len(os.listdir("/proc/self/fd")) <= before

        reactor = self.buildReactor()
        port = reactor.listenTCP(0, Made(lambda: Kind(events)), interface="127.0.0.1")
        self.play(reactor, lambda: script(port.getHost().port))

    def test_all_connections_are_lost_when_the_reactor_stops(self):
        events = Events()

        class Kind(Recorder):
            def connectionLost(self, reason):
                self.events("lost")

        peers = []

        def script(port):
            for _ in range(5):
                peers.append(connect(port))
            events.wait_for("made", 5)

        self.serve(lambda: Kind(events), script)
        assert events.seen.count("lost") == 5
        for peer in peers:
            with contextlib.suppress(ConnectionResetError):
                assert peer.recv(1) == b""
            peer.close()


class ProducerCases(Case):
    """Producers of programs."""

    def test_a_push_producer_is_paused_while_the_peer_does_not_read(self):
        @implementer(IPushProducer)
        class Kind(Recorder):
            left = BIG
            going = False

            def connectionMade(self):
                super().connectionMade()
                self.transport.registerProducer(self, True)
                self.resumeProducing()

            def resumeProducing(self):
                if not self.going:
                    self.going = True
                    self.go_on()

            def go_on(self):
                while self.going and self.left:
                    self.left -= 2**16
                    self.transport.write(bytes(2**16))
                if self.going:
                    self.going = False
                    self.transport.unregisterProducer()
                    self.transport.loseConnection()

            def pauseProducing(self):
                self.going = False
                self.events("paused")

            def stopProducing(self):
                self.going = False
                self.events("stopped")

        events = Events()

        def script(port):
            with connect(port) as peer:
                events.wait_for("paused")
                assert factory_of[0].protocols[0].left
                assert len(read_all(peer)) == BIG
            events.wait_for("ConnectionDone")

        factory_of = []
        reactor = self.buildReactor()
        factory_of.append(Made(lambda: Kind(events)))
        port = reactor.listenTCP(0, factory_of[0], interface="127.0.0.1")
        self.play(reactor, lambda: script(port.getHost().port))
        assert "stopped" not in events.seen

    def test_a_producer_is_stopped_when_its_peer_leaves(self):
        @implementer(IPushProducer)
        class Kind(Recorder):
            def connectionMade(self):
                super().connectionMade()
                self.transport.registerProducer(self, True)
                self.transport.write(bytes(BIG))

            def resumeProducing(self):
                self.events("resumed")

            def pauseProducing(self):
                self.events("paused")

            def stopProducing(self):
                self.events("stopped")

        events = Events()

        def script(port):
            peer = connect(port)
            events.wait_for("paused")
            assert peer.recv(1)
            peer.close()  # with something unread: a reset
            events.wait_for("stopped")

        self.serve(lambda: Kind(events), script)
        assert events.seen[:3] == ["made", "paused", "stopped"]

    def lose(self, streaming):
        """Serve a protocol that loses the connection, and writes and unregisters later."""

        @implementer(IPushProducer)
        class Kind(Recorder):
            def connectionMade(self):
                super().connectionMade()
                self.transport.registerProducer(self, streaming)
                self.transport.write(b"written ")
                self.transport.loseConnection()
                self.reactor.callLater(0.02, self.finish)

            def finish(self):
                self.transport.write(b"the end")
                self.transport.unregisterProducer()

            def pauseProducing(self):
                pass

            resumeProducing = stopProducing = pauseProducing

        events = Events()
        read = []

        def script(port):
            with connect(port) as peer:
                read.append(read_all(peer))
            events.wait_for("ConnectionDone")

        reactor = self.buildReactor()
        Kind.reactor = reactor
        port = reactor.listenTCP(0, Made(lambda: Kind(events)), interface="127.0.0.1")
        self.play(reactor, lambda: script(port.getHost().port))
        return read

    def test_loseConnection_waits_for_a_pull_producer(self):
        assert self.lose(False) == [b"written the end"]

    def test_loseConnection_does_not_wait_for_a_push_producer_that_is_not_paused(self):
        assert self.lose(True) == [b"written "]

    def test_abortConnection_does_not_wait_for_the_producer(self):
        @implementer(IPullProducer)
        class Kind(Recorder):
            def connectionMade(self):
                super().connectionMade()
                self.transport.registerProducer(self, False)

            def resumeProducing(self):
                self.transport.write(bytes(2**16))
                if self.events.seen[-1] == "made":
                    self.events("aborting")
                    self.transport.abortConnection()

            def stopProducing(self):
                self.events("stopped")

        events = Events()

        def script(port):
            with contextlib.suppress(ConnectionResetError), connect(port):
                events.wait_for("ConnectionAborted")
            events.wait_for("ConnectionAborted")

        self.serve(lambda: Kind(events), script)
        assert events.seen == ["made", "aborting", "stopped", "ConnectionAborted"]


globals().update(RaisingCases.makeTestCaseClasses())
globals().update(OddMomentCases.makeTestCaseClasses())
globals().update(ProducerCases.makeTestCaseClasses())
