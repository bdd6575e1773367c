"""Cases with descriptors that come into an error, which uvloop alone would watch no more."""

import socket
import struct

from twisted.internet.protocol import ClientFactory, DatagramProtocol, ProcessProtocol
from twisted.trial.unittest import SkipTest

from tests.uvreactor.cases import PATIENCE, Case, Events, Recorder, in_reactor

RESET = struct.pack("ii", 1, 0)


class Datagrams(DatagramProtocol):
    """Records its calls."""

    def __init__(self, events):
        self.events = events

    def datagramReceived(self, datagram, addr):
        self.events(datagram)

    def connectionRefused(self):
        self.events("refused")


class Child(ProcessProtocol):
    """Records the events of a child."""

    def __init__(self, events):
        self.events = events

    def outReceived(self, data):
        self.events(data)

    def childConnectionLost(self, childFD):
        self.events(("lost", childFD))

    def processEnded(self, reason):
        self.events("ended")


class DescriptorCases(Case):
    """Something is wrong with a descriptor, and something is still to be read."""

    def client(self, events):
        """Connect a client to a plain socket; return reactor, factory and listening socket."""
        reactor = self.buildReactor()
        listening = socket.create_server(("127.0.0.1", 0))
        listening.settimeout(PATIENCE)
        self.addCleanup(listening.close)
        factory = ClientFactory()
        factory.noisy = False
        factory.buildProtocol = lambda address: Recorder(events)
        reactor.connectTCP("127.0.0.1", listening.getsockname()[1], factory)
        return reactor, listening

    def test_a_reset_is_heard_behind_much_that_is_unread(self):
        events = Events()
        reactor, listening = self.client(events)

        def script():
            peer = listening.accept()[0]
            events.wait_for("made")
            readers = [reader for reader in reactor.getReaders() if hasattr(reader, "protocol")]
            client = next(reader for reader in readers if isinstance(reader.protocol, Recorder))
            in_reactor(reactor, client.pauseProducing)
            peer.setblocking(False)
            try:
                while True:
                    peer.send(bytes(2**16))
            except BlockingIOError:
                pass
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            peer.close()
            in_reactor(reactor, client.resumeProducing)
            events.wait_for("ConnectionLost")

        self.play(reactor, script)

    def test_a_refused_datagram_leaves_the_port_open(self):
        events = Events()
        reactor = self.buildReactor()
        if type(reactor).__name__ == "EPollReactor":
            raise SkipTest("it closes the port")
        peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        peer.bind(("127.0.0.1", 0))
        place = peer.getsockname()
        port = reactor.listenUDP(0, Datagrams(events), interface="127.0.0.1")

        def ask():
            port.connect(*place)
            port.write(b"no peer is there")

        def script():
            peer.close()
            for times in (1, 2, 3):
                in_reactor(reactor, ask if times == 1 else (lambda: port.write(b"nor now")))
                events.wait_for("refused", times)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
                again.bind(place)
                again.sendto(b"now I am", ("127.0.0.1", port.getHost().port))
                events.wait_for(b"now I am")

        self.play(reactor, script)

    def test_a_child_that_closes_its_input_is_noticed(self):
        events = Events()
        reactor = self.buildReactor()
        script = "exec 0<&-; echo closed; exec 1>&-; sleep 0.2"

        def start():
            child = Child(events)
            reactor.spawnProcess(child, "/bin/sh", ["sh", "-c", script])
            return child

        def play():
            in_reactor(reactor, start)
            events.wait_for(b"closed\n")
            for lost in (0, 1):
                events.wait_for(("lost", lost))
            events.wait_for("ended")

        self.play(reactor, play)

    def test_what_a_child_said_last_is_read_before_its_end(self):
        events = Events()
        reactor = self.buildReactor()
        child = Child(events)
        script = "head -c 300000 /dev/zero; exit 3"

        def play():
            reactor.callFromThread(reactor.spawnProcess, child, "/bin/sh", ["sh", "-c", script])
            events.wait_for("ended")

        self.play(reactor, play)
        assert sum(len(event) for event in events.seen if isinstance(event, bytes)) == 300_000


globals().update(DescriptorCases.makeTestCaseClasses())
