"""Cases with programs of Twisted's: forwarding, web, AMP, lines, wrappers, endpoints, TLS."""

import contextlib
import hashlib
import http.client
import os
import socket
import ssl
import threading
from functools import partial
from pathlib import Path

import twisted.test
from twisted.internet import endpoints
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.protocols import amp, basic, policies, portforward
from twisted.web import resource, server, static

from tests.clients import read_all
from tests.uvreactor.cases import (
    PATIENCE,
    Case,
    Events,
    Made,
    Recorder,
    connect,
    in_reactor,
)

BIG = 8 * 2**20
PEM = Path(twisted.test.__file__).with_name("server.pem")


def certificate():
    """Return the certificate that Twisted's own tests use."""
    return DefaultOpenSSLContextFactory(str(PEM), str(PEM))


def over_tls(sock):
    """Speak TLS with a server, whoever it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(sock)


class Echo(Protocol):
    """Sends everything back."""

    def dataReceived(self, data):
        self.transport.write(data)


class Source(Protocol):
    """Sends much and closes."""

    def connectionMade(self):
        self.transport.write(b"s" * BIG)
        self.transport.loseConnection()


class Endless(Protocol):
    """Sends as long as it may."""

    call_later = None
    sent = 0

    def __init__(self, events):
        self.events = events

    def connectionMade(self):
        self.transport.registerProducer(self, True)
        self.resumeProducing()

    def turn(self):
        if self.going:
            self.sent += 2**16
            self.transport.write(bytes(2**16))
            self.call_later(0, self.turn)

    def pauseProducing(self):
        self.going = False
        self.events("paused")

    def resumeProducing(self):
        self.going = True
        self.turn()

    def stopProducing(self):
        self.going = False
        self.events("stopped")


class ForwardingCases(Case):
    """Two connections that feed each other, one the producer of the other."""

    def forward(self, behind, script):
        """Run *script* against a forwarder with the service *behind* it."""
        reactor = self.buildReactor()
        hidden = reactor.listenTCP(0, Made(behind), interface="127.0.0.1")
        factory = portforward.ProxyFactory("127.0.0.1", hidden.getHost().port)
        factory.noisy = False
        portforward.ProxyClientFactory.noisy = False
        # It takes the reactor of the process, which is the one of this case by now.
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.play(reactor, lambda: script(reactor, port.getHost().port))

    def test_what_goes_round_comes_back(self):
        def script(reactor, port):
            data = os.urandom(BIG)
            with connect(port) as peer:
                sender = threading.Thread(target=peer.sendall, args=(data,))
                sender.start()
                read = hashlib.sha256()
                left = len(data)
                while left:
                    part = peer.recv(2**16)
                    assert part
                    read.update(part)
                    left -= len(part)
                sender.join(PATIENCE)
            assert read.digest() == hashlib.sha256(data).digest()

        self.forward(Echo, script)

    def test_a_peer_that_does_not_read_holds_up_the_source(self):
        events = Events()

        source = Endless(events)

        def script(reactor, port):
            source.call_later = reactor.callLater
            peer = connect(port)
            events.wait_for("paused")
            before = -1
            while before != source.sent:  # until nothing moves any more
                before = source.sent
                for _ in range(20):
                    in_reactor(reactor, lambda: None)
            assert source.sent < 64 * 2**20
            while source.sent == before:
                assert peer.recv(2**16)
            peer.close()
            events.wait_for("stopped")

        self.forward(lambda: source, script)

    def test_an_end_is_forwarded(self):
        def script(reactor, port):
            with connect(port) as peer:
                assert len(read_all(peer)) == BIG
            in_reactor(reactor, lambda: None)

        self.forward(Source, script)

    def test_a_client_that_leaves_is_forwarded(self):
        events = Events()

        def script(reactor, port):
            with connect(port) as peer:
                peer.sendall(b"x")
                events.wait_for(b"x")
            events.wait_for("ConnectionDone")

        self.forward(lambda: Recorder(events), script)


class Slow(resource.Resource):
    """Answers a moment later."""

    isLeaf = True

    def __init__(self, reactor):
        super().__init__()
        self.reactor = reactor

    def render_GET(self, request):
        self.reactor.callLater(0.001, self.finish, request)
        return server.NOT_DONE_YET

    def render_POST(self, request):
        return b"%d" % len(request.content.read())

    def finish(self, request):
        if not request._disconnected:
            request.write(b"a little ")
            request.write(b"later")
            request.finish()


class WebCases(Case):
    """twisted.web."""

    def web(self, script):
        """Serve a page, and a directory with a large file."""
        reactor = self.buildReactor()
        place = Path(self.mktemp())
        place.mkdir()
        (place / "large").write_bytes(b"l" * BIG)
        root = resource.Resource()
        root.putChild(b"slow", Slow(reactor))
        root.putChild(b"files", static.File(str(place)))
        root.putChild(b"fixed", static.Data(b"fixed", "text/plain"))
        site = server.Site(root, reactor=reactor)
        site.noisy = False
        port = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.play(reactor, lambda: script(reactor, port.getHost().port))

    def test_one_connection_for_many_requests(self):
        def script(reactor, port):
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
            for _ in range(20):
                for path, body in (("/slow", b"a little later"), ("/fixed", b"fixed")):
                    client.request("GET", path)
                    assert client.getresponse().read() == body
            client.request("POST", "/slow", bytes(BIG))
            assert client.getresponse().read() == str(BIG).encode()
            client.close()

        self.web(script)

    def test_requests_in_one_piece(self):
        def script(reactor, port):
            with connect(port) as peer:
                ask = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
                last = b"GET /fixed HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
                peer.sendall(ask * 30 + last)
                answers = read_all(peer)
            assert answers.count(b"200 OK") == 31
            assert answers.endswith(b"fixed")

        self.web(script)

    def test_a_large_file(self):
        def script(reactor, port):
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
            for _ in range(2):
                client.request("GET", "/files/large")
                assert client.getresponse().read() == b"l" * BIG
            client.close()

        self.web(script)

    def test_who_leaves_in_the_middle_of_a_large_file(self):
        def script(reactor, port):
            for _ in range(5):
                with connect(port) as peer:
                    peer.sendall(b"GET /files/large HTTP/1.0\r\n\r\n")
                    assert peer.recv(100)
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
            client.request("GET", "/fixed")
            assert client.getresponse().read() == b"fixed"
            client.close()

        self.web(script)


class Sum(amp.Command):
    """Adds."""

    arguments = ((b"a", amp.Integer()), (b"b", amp.Integer()))
    response = ((b"total", amp.Integer()),)


class Adder(amp.AMP):
    """Adds, when asked."""

    @Sum.responder
    def sum(self, a, b):
        return {"total": a + b}


class Lines(basic.LineReceiver, policies.TimeoutMixin):
    """Answers lines, takes raw data, and times out."""

    def connectionMade(self):
        self.setTimeout(0.05)

    def lineReceived(self, line):
        self.resetTimeout()
        if line.startswith(b"raw "):
            self.left = int(line[4:])
            self.setRawMode()
        else:
            self.sendLine(line.upper())

    def rawDataReceived(self, data):
        rest = data[self.left :]
        self.left -= len(data) - len(rest)
        if not self.left:
            self.sendLine(b"had it")
            self.setLineMode(rest)


class ProtocolCases(Case):
    """Protocols of Twisted's on our connections."""

    def test_amp(self):
        reactor = self.buildReactor()
        port = reactor.listenTCP(0, Made(Adder), interface="127.0.0.1")
        totals = []

        def script():
            point = endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
            client = in_reactor(reactor, endpoints.connectProtocol, point, amp.AMP())
            for number in range(200):
                call = partial(client.callRemote, Sum, a=number, b=1)
                answer = in_reactor(reactor, call)
                totals.append(answer["total"])
            in_reactor(reactor, client.transport.loseConnection)

        self.play(reactor, script)
        assert totals == list(range(1, 201))

    def test_lines_and_a_timeout(self):
        def script(port):
            with connect(port) as peer:
                peer.sendall(b"one\r\ntwo\r\nraw 100000\r\n")
                peer.sendall(bytes(100_000) + b"three\r\n")
                assert read_all(peer) == b"ONE\r\nTWO\r\nhad it\r\nTHREE\r\n"

        reactor = self.buildReactor()
        Lines.callLater = reactor.callLater
        port = reactor.listenTCP(0, Made(Lines), interface="127.0.0.1")
        self.play(reactor, lambda: script(port.getHost().port))

    def test_wrapped_factories(self):
        reactor = self.buildReactor()
        inner = policies.WrappingFactory(Made(Echo))
        limited = policies.ThrottlingFactory(inner, maxConnectionCount=2)
        limited.noisy = inner.noisy = False
        port = reactor.listenTCP(0, limited, interface="127.0.0.1")

        def script():
            for _ in range(3):
                with connect(port.getHost().port) as peer:
                    peer.sendall(b"x")
                    assert peer.recv(1) == b"x"

        self.play(reactor, script)


class Upgrading(basic.LineReceiver):
    """Starts TLS when the peer asks for it, after a plain line."""

    def lineReceived(self, line):
        if line == b"start":
            self.sendLine(b"go ahead")
            self.transport.startTLS(certificate())
        else:
            self.sendLine(line.upper())
            if line == b"much":
                self.transport.write(b"m" * BIG)
            if line == b"quit":
                self.transport.loseConnection()


class EndpointCases(Case):
    """Servers from strings, and from descriptors."""

    def serve_at(self, description, script, make=Echo):
        """Serve at an endpoint, while *script* runs with the address."""
        reactor = self.buildReactor()

        def whole():
            listening = endpoints.serverFromString(reactor, description)
            port = in_reactor(reactor, listening.listen, Made(make))
            script(port.getHost())
            in_reactor(reactor, port.stopListening)

        self.play(reactor, whole)

    def echoes(self, peer):
        """Ask an echo."""
        with peer:
            peer.settimeout(PATIENCE)
            peer.sendall(b"hello")
            assert peer.recv(100) == b"hello"

    def test_tcp(self):
        self.serve_at("tcp:0:interface=127.0.0.1", lambda host: self.echoes(connect(host.port)))

    def test_tcp6(self):
        def script(host):
            self.echoes(socket.create_connection(("::1", host.port), PATIENCE))

        try:
            with socket.create_server(("::1", 0), family=socket.AF_INET6):
                pass
        except OSError:
            return
        self.serve_at(r"tcp6:0:interface=\:\:1", script)

    def test_unix(self):
        path = self.mktemp()

        def script(host):
            peer = socket.socket(socket.AF_UNIX)
            peer.connect(path)
            self.echoes(peer)

        self.serve_at(f"unix:{path}", script)
        assert not Path(path).exists()

    def test_ssl(self):
        def script(host):
            with over_tls(connect(host.port)) as peer:
                self.echoes(peer)

        self.serve_at(f"ssl:0:interface=127.0.0.1:privateKey={PEM}:certKey={PEM}", script)

    def test_haproxy(self):
        def script(host):
            peer = connect(host.port)
            peer.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1111 2222\r\n")
            self.echoes(peer)

        class Peer(Echo):
            def connectionMade(self):
                peers.append(self)

            def dataReceived(self, data):
                assert self.transport.getPeer().host == "192.0.2.1"
                super().dataReceived(data)

        peers = []
        self.serve_at("haproxy:tcp:0:interface=127.0.0.1", script, Peer)

    def test_an_adopted_port(self):
        reactor = self.buildReactor()
        for family, place in (
            (socket.AF_INET, ("127.0.0.1", 0)),
            (socket.AF_UNIX, self.mktemp()),
        ):
            own = socket.socket(family)
            self.addCleanup(own.close)
            own.bind(place)
            own.listen()
            own.setblocking(False)
            reactor.adoptStreamPort(own.fileno(), family, Made(Echo))
            peer = socket.socket(family)
            peer.connect(own.getsockname())
            own.close()
            self.addCleanup(peer.close)
            self.peers = [*getattr(self, "peers", []), peer]
        self.play(reactor, lambda: [self.echoes(peer) for peer in self.peers])

    def test_tls_is_started_after_plain_lines(self):
        reactor = self.buildReactor()
        port = reactor.listenTCP(0, Made(Upgrading), interface="127.0.0.1")

        def script():
            plain = connect(port.getHost().port)
            plain.sendall(b"hello\r\nstart\r\n")
            expected = b"HELLO\r\ngo ahead\r\n"
            assert plain.recv(len(expected), socket.MSG_WAITALL) == expected
            with over_tls(plain) as peer:
                peer.sendall(b"secret\r\nmuch\r\nquit\r\n")
                assert read_all(peer) == b"SECRET\r\nMUCH\r\n" + b"m" * BIG + b"QUIT\r\n"

        self.play(reactor, script)

    def test_a_peer_that_breaks_off_the_handshake(self):
        events = Events()
        reactor = self.buildReactor()
        port = reactor.listenSSL(
            0, Made(lambda: Recorder(events)), certificate(), interface="127.0.0.1"
        )

        def script():
            for say in (b"", b"\x16\x03\x01", b"GET / HTTP/1.0\r\n\r\n"):
                with connect(port.getHost().port) as peer, contextlib.suppress(OSError):
                    peer.sendall(say)
                    peer.shutdown(socket.SHUT_WR)
                    read_all(peer)
            events.wait_for("made", 3)
            with over_tls(connect(port.getHost().port)) as peer:
                peer.sendall(b"x")
                events.wait_for(b"x")
                peer.unwrap()
            events.wait_for("ConnectionDone")

        self.play(reactor, script)

    def test_much_over_tls_to_a_peer_that_reads_late(self):
        reactor = self.buildReactor()
        port = reactor.listenSSL(0, Made(Source), certificate(), interface="127.0.0.1")

        def script():
            with over_tls(connect(port.getHost().port)) as peer:
                for _ in range(20):
                    in_reactor(reactor, lambda: None)
                assert read_all(peer) == b"s" * BIG

        self.play(reactor, script)


class FactoryCases(Case):
    """When a factory is started and stopped."""

    def test_start_and_stop(self):
        calls = []

        class Kind(Factory):
            noisy = False

            def startFactory(self):
                calls.append("start")

            def stopFactory(self):
                calls.append("stop")

        reactor = self.buildReactor()
        factory = Kind()
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        other = reactor.listenTCP(0, factory, interface="127.0.0.1")

        def script():
            in_reactor(reactor, port.stopListening)
            assert calls == ["start"]
            in_reactor(reactor, other.stopListening)

        self.play(reactor, script)
        assert calls == ["start", "stop"]


for _each in (
    ForwardingCases,
    WebCases,
    ProtocolCases,
    EndpointCases,
    FactoryCases,
):
    globals().update(_each.makeTestCaseClasses())
