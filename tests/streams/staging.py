"""A stage for tests, and listeners with stages, in memory and in the running reactor."""

import socket

from twisted.internet.task import Clock

from netsrv.gate import Gate
from netsrv.guards.admission import Admission
from netsrv.guards.capacity import ConnectionSlots
from netsrv.guards.limits import NO_LIMITS, Limits
from netsrv.interfaces import RejectReason
from netsrv.streams.listener import StreamListener
from netsrv.streams.pending import Stage
from netsrv.testing.memory import ListeningSocket, MemoryReactor
from netsrv.testing.servers import Client
from tests.doubles import PEER, TCP_INFO, RecorderFactory, RecordingObserver


class LineStage(Stage):
    """Awaits a line ``go``; what follows it is the next stage's.  A line ``no`` is rejected."""

    timeout = 5.0
    timeout_reason = RejectReason.PROXY_TIMEOUT
    lost_reason = RejectReason.PROXY_HEADER

    def __init__(self, name="proxy"):
        self.name = name
        self.started = []

    def start(self, connection):
        self.started.append(connection)
        received = bytearray()

        def receive(data):
            received.extend(data)
            line, end, rest = bytes(received).partition(b"\n")
            if end and line == b"go":
                connection.complete(rest)
            elif end:
                connection.transport.write(b"bad line\n")
                connection.fail(RejectReason.PROXY_HEADER)

        return receive


class StagedListener:
    """A listener in memory whose connections go through *stages* to *factory*."""

    def __init__(self, *stages, factory=None, limits=NO_LIMITS):
        self.clock = Clock()
        self.reactor = MemoryReactor(self.clock)
        self.observer = RecordingObserver()
        self.factory = factory or RecorderFactory()
        admission = Admission(limits, ConnectionSlots(), 0)
        now = self.clock.seconds
        self.gate = Gate(self.reactor, TCP_INFO, self.observer, admission, limits, now)
        self.sock = ListeningSocket(("0.0.0.0", 7))
        overload = limits.overload
        self.listener = StreamListener(
            self.reactor, self.sock, self.gate, self.factory, overload, stages
        )
        self.listener.start()
        self.ports = 0

    def connect(self, *data, keep_open=False):
        """Connect, and send each of *data*."""
        self.ports += 1
        end = self.sock.connect((PEER[0], PEER[1] + self.ports), ("192.0.2.7", 7))
        client = Client(self.reactor, keep_open, True)
        self.reactor.adopt(end, client)
        self.reactor.settle()
        for piece in data:
            client.send(piece)
        return client

    @property
    def events(self):
        """What the services have seen, connection by connection."""
        self.reactor.settle()
        return [protocol.events for protocol in self.factory.protocols]

    @property
    def refused(self):
        """The reasons of the connections that were rejected."""
        return [event[3].value for event in self.observer.told if event[0] == "connection_refused"]

    @property
    def slots(self):
        """The number of slots in use."""
        return self.gate.admission.slots[0].in_use


def loopback_listener(reactor, factory, *stages):
    """Return a started listener on loopback, and its port."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    sock.setblocking(False)
    admission = Admission(Limits(), ConnectionSlots(), 0)
    gate = Gate(reactor, TCP_INFO, RecordingObserver(), admission)
    listener = StreamListener(reactor, sock, gate, factory, stages=stages)
    listener.start()
    return listener, sock
