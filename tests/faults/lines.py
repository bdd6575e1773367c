"""A connection with faults between a transport and a service that record what they get."""

from attrs import define, field
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from netsrv.faults.connection import FaultyConnection
from netsrv.faults.fault import Direction, Fault, FaultSettings
from netsrv.faults.kinds import DATAGRAM_KINDS, STREAM_KINDS
from netsrv.guards.sources import source_of


@define(eq=False)
class Recorder:
    """Records what it is called with, and when, in milliseconds."""

    clock: Clock
    events: list = field(factory=list)
    unsent = 0
    owner = None

    def note(self, *event):
        self.events.append((round(self.clock.seconds() * 1000), *event))

    @property
    def data(self):
        return b"".join(event[2] for event in self.events if event[1] == "data")


class Transport(Recorder):
    """The transport's side."""

    def write(self, data):
        self.note("data", data)

    def loseWriteConnection(self):
        self.note("fin")

    def loseConnection(self):
        self.note("close")
        self.owner.connectionLost(Failure(ConnectionDone()))

    def abortConnection(self):
        self.note("reset")
        self.owner.connectionLost(Failure(ConnectionDone()))

    def pauseProducing(self):
        self.note("pause")

    def resumeProducing(self):
        self.note("resume")


class Service(Recorder):
    """The side of the gate's connection."""

    transport = None

    def dataReceived(self, data):
        self.note("data", data)

    def readConnectionLost(self):
        self.note("fin")

    def connectionLost(self, reason):
        self.note("lost")

    def end(self, reason):
        self.transport.loseConnection()

    def abort(self, reason):
        self.transport.abortConnection()


def join(connection, peer, service):
    """Put a connection with faults between its two sides."""
    connection.transport, connection.protocol = peer, service
    peer.owner = service.transport = connection


class Line:
    """A connection, its two sides, and the faults on it."""

    def __init__(self, *faults, number=1, peer="192.0.2.1"):
        self.clock = Clock()
        self.peer, self.service = Transport(self.clock), Service(self.clock)
        self.connection = FaultyConnection(source_of(peer), number, self.clock, self.clock.seconds)
        join(self.connection, self.peer, self.service)
        for fault in faults:
            self.connection.add(fault)
        self.connection.start()

    def step(self, milliseconds):
        """Advance the clock."""
        self.clock.pump([0.001] * milliseconds)


def make_fault(kind, name="", stream="downstream", *, kinds=STREAM_KINDS, **values):
    """Make a fault; values that are no selectors are attributes."""
    selectors = {
        key: values.pop(key)
        for key in ("probability", "skip", "first", "every", "only_from", "ttl", "seed")
        if key in values
    }
    directions = tuple(Direction) if stream == "both" else (Direction(stream),)
    found = kinds[kind]
    settings = FaultSettings(
        found, name or f"{kind}_{stream}", found.attributes(**values), directions, **selectors
    )
    return Fault(settings, lambda: 0.0)


def make_datagram_fault(kind, name="", stream="downstream", **values):
    """Make a fault of datagrams, as `make_fault` does one of streams."""
    return make_fault(kind, name, stream, kinds=DATAGRAM_KINDS, **values)
