"""Stand-ins for what is beside the code under test: sockets, reactors, transports, observers.

Scripted ones do what their script says, step by step; recording ones remember what they were
called with.
"""

import errno
import os
import socket

from attrs import define
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from netsrv.gate import Gate
from netsrv.guards.admission import Admission
from netsrv.guards.capacity import ConnectionSlots
from netsrv.guards.limits import NO_LIMITS, Limits
from netsrv.guards.sources import PacketInfo
from netsrv.interfaces import CloseReason, IObserver, ListenerInfo
from netsrv.streams.factory import GatedFactory

PEER = ("192.0.2.1", 40000)

DONE = Failure(ConnectionDone())
"""The reason with which a connection ends in order."""

TCP_INFO = ListenerInfo("tcp", "0.0.0.0:7", "test")
UDP_INFO = ListenerInfo("udp", "0.0.0.0:7", "test")
"""Identities of listeners."""

UNUSED_FD = 1_000_000
"""A descriptor that no file has: closing it by its number harms no other test."""


# Reactors and sockets


class ReactorClock(Clock):
    """A clock that also records which objects are watched for reading."""

    running = True

    def __init__(self):
        super().__init__()
        self.readers = set()

    def addReader(self, reader):
        self.readers.add(reader)

    def removeReader(self, reader):
        self.readers.discard(reader)


class ScriptedDatagramSocket:
    """A UDP socket; numbers in its script are errors, bytes are datagrams.  It keeps what is sent.

    *sending* is the error of every send, if there is one.
    """

    family = socket.AF_INET

    def __init__(self, *script, sending=None, flags=0, peer=PEER):
        self.script = list(script)
        self.sending = sending
        self.flags = flags
        self.peer = peer
        self.sent = []
        self.open = True

    def getsockname(self):
        return "127.0.0.1", 7

    def recvmsg(self, size, space):
        if not self.script:
            raise BlockingIOError(errno.EAGAIN, "no datagram is queued")
        step = self.script.pop(0)
        if isinstance(step, int):
            raise OSError(step, os.strerror(step))
        return step[:size], [], self.flags, self.peer

    def sendto(self, packet, address):
        if self.sending is not None:
            raise OSError(self.sending, os.strerror(self.sending))
        self.sent.append((packet, address))

    def send(self, packet):
        self.sendto(packet, None)

    def connect(self, address):
        self.connected = address

    def fileno(self):
        return UNUSED_FD if self.open else -1

    def detach(self):
        self.open = False

    def close(self):
        self.open = False


# Transports and protocols


class RecordingTransport:
    """Records calls.  It has no handle, like every transport that is not a socket."""

    TLS = False
    dataBuffer = b""
    offset = 0
    _tempDataLen = 0
    packet_info = PacketInfo()

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        if name in ("getHandle", "fileno", "unsent") or name.startswith("_"):
            raise AttributeError(name)
        return lambda *arguments: self.calls.append((name, *arguments))


class DatagramTransport:
    """Keeps each datagram that is sent, and its address."""

    def __init__(self):
        self.sent = []

    def write(self, packet, addr=None):
        self.sent.append((packet, addr))

    def getHost(self):
        return IPv4Address("UDP", "0.0.0.0", 7)


class Recorder(Protocol):
    """Records events: ``made``, the bytes received, and the type of the reason at the end."""

    def __init__(self):
        self.events = []

    def connectionMade(self):
        self.events.append("made")

    def dataReceived(self, data):
        self.events.append(data)

    def connectionLost(self, reason):
        self.events.append(reason.type.__name__)


@implementer(IHalfCloseableProtocol)
class HalfCloseableRecorder(Recorder):
    """Records half-closes too: ``read lost`` and ``write lost``."""

    def readConnectionLost(self):
        self.events.append("read lost")

    def writeConnectionLost(self):
        self.events.append("write lost")


class RecorderFactory(Factory):
    """Builds half-closeable recorders, and keeps them."""

    noisy = False

    def __init__(self):
        self.protocols = []

    def buildProtocol(self, addr):
        self.protocols.append(HalfCloseableRecorder())
        return self.protocols[-1]


def open_stream(service, settings=None):
    """Connect to a stream service; return its protocol and transport."""
    protocol = service.stream(settings).buildProtocol(None)
    transport = StringTransport()
    protocol.makeConnection(transport)
    return protocol, transport


def answers(protocol, datagram=b"", peer=PEER):
    """Return what a datagram protocol sends in answer to a datagram, with the addresses."""
    protocol.transport = transport = DatagramTransport()
    protocol.datagramReceived(datagram, peer)
    return transport.sent


# Observers and gates


@implementer(IObserver)
class RecordingObserver:
    """Remembers each event with its arguments."""

    def __init__(self):
        self.told = []

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *details: self.told.append((name, *details))


@define
class ObservedConnection:
    """A connection as observers see it."""

    received: int = 0
    sent: int = 0
    seconds: float = 0.0
    close_reason: CloseReason | None = None
    peer: str = "192.0.2.1:40000"
    details: dict | None = None
    proxy: object = None
    tls: object = None


class Gated:
    """A gate with one connection to a service; with *beside*, one more at that gate."""

    def __init__(self, service=Recorder, limits=NO_LIMITS, beside=None):
        self.clock = beside.clock if beside else Clock()
        self.observer = beside.observer if beside else RecordingObserver()
        self.gate = (
            beside.gate
            if beside
            else Gate(
                self.clock,
                TCP_INFO,
                self.observer,
                Admission(Limits(), ConnectionSlots(), 0),
                limits,
                self.clock.seconds,
            )
        )
        self.transport = RecordingTransport()
        permit = self.gate.admit(PEER)
        self.connection = GatedFactory(permit, Factory.forProtocol(service)).buildProtocol(None)
        if self.connection is not None:
            self.connection.makeConnection(self.transport)
            self.service = self.connection.protocol

    @property
    def calls(self):
        """What the gate asked of the transport."""
        return self.transport.calls
