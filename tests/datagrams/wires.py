"""A datagram port with three peers, over loopback or in memory, and protocols for it."""

import errno
import socket

import pytest
from twisted.internet.protocol import DatagramProtocol
from zope.interface import implementer

from netsrv.datagrams import mmsg
from netsrv.datagrams.batch import BATCH_SIZE
from netsrv.datagrams.gate import DatagramGate
from netsrv.datagrams.port import DatagramPort
from netsrv.guards.access import Access
from netsrv.guards.datagrams import DatagramGuard
from netsrv.interfaces import IDatagramBatchProtocol
from netsrv.services.echo import EchoDatagrams
from netsrv.testing.memory import DatagramSocket
from tests.doubles import Gated, ReactorClock

HOST = "127.0.0.1"

BATCHES = mmsg.AVAILABLE
"""True if this system has the calls for many datagrams."""

ALMOST_FULL = BATCH_SIZE - 1
"""Datagrams of a batch with space for one more."""


class Wire:
    """A bound socket, and three clients that send to it over the kernel's loopback."""

    def __init__(self, host=HOST):
        self.sock = bound(host)
        self.server = (HOST, self.sock.getsockname()[1])
        self.clients = [bound(HOST) for _ in range(3)]
        self.peers = [client.getsockname() for client in self.clients]

    def arrive(self, data, number=0, host=HOST):
        """Send a datagram from a client."""
        self.clients[number].sendto(data, (host, self.server[1]))

    def arrive_all(self, datagrams, number=0):
        """Send datagrams from a client, in order."""
        for datagram in datagrams:
            self.arrive(datagram, number)

    def received(self, number=0):
        """Return what a client has received since the last call, in order."""
        return [data for data, _ in self.received_from(number)]

    def received_from(self, number=0):
        """Return the same with the address of each sender."""
        received = []
        while True:
            try:
                received.append(self.clients[number].recvfrom(65_535))
            except BlockingIOError:
                return received

    def close(self):
        for sock in (self.sock, *self.clients):
            sock.close()


class MemoryWire(Wire):
    """The same in memory."""

    def __init__(self):
        self.server = (HOST, 7)
        self.sock = DatagramSocket(self.server)
        self.peers = [("192.0.2.1", 40_000 + number) for number in range(3)]

    def arrive(self, data, number=0):
        self.sock.arrive(data, self.peers[number])

    def received(self, number=0):
        received = [data for data, peer in self.sock.sent if peer == self.peers[number]]
        self.sock.sent[:] = [sent for sent in self.sock.sent if sent[1] != self.peers[number]]
        return received

    def close(self):
        self.sock.close()


def bound(host):
    """Return a non-blocking UDP socket on a port that the kernel chooses."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.bind((host, 0))
    sock.setblocking(False)
    return sock


def numbered(count):
    """Return *count* datagrams that differ."""
    return [b"%d" % number for number in range(count)]


every_form = pytest.mark.parametrize(
    "form", ["batched", "single-first", "single", "memory"], indirect=True
)
kernel_forms = pytest.mark.parametrize("form", ["batched", "single-first", "single"], indirect=True)


class Port:
    """A started port with a protocol, which records its callbacks."""

    def __init__(self, wire, protocol, **options):
        self.reactor = ReactorClock()
        self.dropped, self.exceptions, self.sent = [], [], []
        self.protocol = protocol
        protocol.noisy = False
        self.port = DatagramPort(
            self.reactor,
            wire.sock,
            protocol,
            self.drop,
            lambda: self.exceptions.append(1),
            on_sent=self.sent.append,
            **options,
        )
        self.port.startListening()

    def drop(self, reason, error):
        """Record a drop: its reason, and the name of the error if there was one."""
        self.dropped.append((reason, errno.errorcode[error.errno]) if error else reason)

    def read(self):
        """Run one turn of the reactor at the port."""
        self.port.doRead()


class GatedPort(Port):
    """A port with a gate before the service."""

    def __init__(self, wire, service, refused=frozenset(), rate=None, access=None, safe=True):
        service.noisy = False
        self.service = service
        self.gate = Gated().gate
        self.gate.observer.told.clear()
        guard = DatagramGuard(access or Access(), refused, frozenset(), rate, safe)
        super().__init__(wire, DatagramGate(self.gate, service, guard))

    def observed(self, event):
        """Return each datagram of an event: its peer, its size, and the event's other arguments."""
        events = [observed for observed in self.gate.observer.told if observed[0] == event]
        return [(*datagram, *more) for _, _, datagrams, *more in events for datagram in datagrams]


class Collect(DatagramProtocol):
    """Echoes and records datagrams one by one; *actions* are called for some of them."""

    def __init__(self, **actions):
        self.actions = actions
        self.received = []

    def datagramReceived(self, datagram, addr):
        self.received.append(datagram)
        if datagram.decode() in self.actions:
            self.actions[datagram.decode()](self.transport)
        self.transport.write(datagram, addr)


class Echo(DatagramProtocol):
    """Echoes datagrams one by one."""

    def datagramReceived(self, datagram, addr):
        self.transport.write(datagram, addr)


@implementer(IDatagramBatchProtocol)
class Batched(DatagramProtocol):
    """Records sizes, and calls *serve* with each batch."""

    def __init__(self, serve):
        self.serve = serve
        self.sizes = []

    def datagramsReceived(self, batch):
        self.sizes.extend(batch.sizes)
        self.serve(batch)

    def datagramReceived(self, datagram, addr):
        self.sizes.append(len(datagram))
        self.transport.write(datagram, addr)


both_kinds = pytest.mark.parametrize(
    "service", [EchoDatagrams, Collect], ids=["batches", "one by one"]
)
"""A service that is called for batches, and one that is called for each datagram."""
