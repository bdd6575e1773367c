"""What a server was sent, remembered for a test: each connection's bytes, each datagram.

The record is bounded, and says when it has left something out.  Bytes of a connection are
taken where the reactor hands them to the gate's connection, so that a service's protocol is
the one that it would be without us: half-closed connections, producers and all.
"""

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

from attrs import define, evolve, field
from twisted.internet.protocol import DatagramProtocol

from netsrv.interfaces import IConnection
from netsrv.observers.audience import Observer
from netsrv.preparation import Prepared, PreparedListener

MOST_CONNECTIONS = 1000
"""Connections of a listener that are remembered one by one: the first."""

MOST_DATAGRAMS = 10_000
"""Datagrams of a listener that are remembered: the first."""

MOST_BYTES = 2**20
"""Bytes that are remembered of each connection: the first."""

MOST_DATAGRAM_BYTES = 16 * MOST_BYTES
"""Bytes that are remembered of all datagrams of a listener together."""


@define
class Seen:
    """One connection: what is known of it, and what its peer has sent."""

    connection: Any
    """None once it has ended."""
    peer: str
    received: int = 0
    sent: int = 0
    ending: str | None = None
    data: bytearray = field(factory=bytearray)

    def look(self) -> None:
        """Take over the counts of the moment."""
        if self.connection is not None:
            self.received, self.sent = self.connection.received, self.connection.sent


@define
class Record:
    """What has happened at one listener."""

    count: int = 0
    """Connections accepted, or datagrams served, remembered or not."""
    connections: list[Seen] = field(factory=list)
    datagrams: list[bytes] = field(factory=list)
    datagram_bytes: int = 0
    cut: bool = False
    """Whether something was left out."""


class Recorder(Observer):
    """Remembers what happens at each listener; *changed* is called after each event."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.records: defaultdict[str, Record] = defaultdict(Record)
        """By the listener's name in the log."""
        self._changed = changed
        self._live: dict[int, Seen] = {}

    def recording(self, prepared: Prepared) -> Prepared:
        """Put ourselves before the datagram protocols; connections need no such thing."""
        return evolve(prepared, listeners=tuple(map(self._recorded, prepared.listeners)))

    def connection_made(self, listener: str, connection: IConnection) -> None:
        record = self.records[listener]
        record.count += 1
        if len(record.connections) < MOST_CONNECTIONS:
            seen = Seen(connection, connection.peer)
            record.connections.append(seen)
            self._live[id(connection)] = seen
            self._listen(connection, partial(self._received, record, seen))
        else:
            record.cut = True
            self._listen(connection, lambda data: self._changed())
        self._changed()

    def connection_closed(self, listener: str, connection: Any) -> None:
        connection.__dict__.pop("dataReceived", None)
        seen = self._live.pop(id(connection), None)
        if seen is not None:
            seen.look()
            seen.ending = connection.ending.value
            seen.connection = None
        self._changed()

    def _listen(self, connection: Any, told: Callable[[bytes], None]) -> None:
        """Be told of what a connection receives, before its service is."""
        receive = connection.dataReceived

        def data_received(data: bytes) -> None:
            told(data)
            receive(data)

        connection.dataReceived = data_received

    def _received(self, record: Record, seen: Seen, data: bytes) -> None:
        room = MOST_BYTES - len(seen.data)
        seen.data += data[:room]
        record.cut = record.cut or len(data) > room
        self._changed()

    def _recorded(self, listener: PreparedListener) -> PreparedListener:
        if listener.settings.transport != "udp":
            return listener
        told = partial(self._datagram, self.records[listener.name])
        return evolve(listener, service=_RecordedDatagrams(listener.service, told))

    def _datagram(self, record: Record, datagram: bytes) -> None:
        record.count += 1
        size = record.datagram_bytes + len(datagram)
        if len(record.datagrams) < MOST_DATAGRAMS and size <= MOST_DATAGRAM_BYTES:
            record.datagrams.append(datagram)
            record.datagram_bytes = size
        else:
            record.cut = True
        self._changed()


class _RecordedDatagrams(DatagramProtocol):
    """Tells of each datagram, and hands it on to the service."""

    noisy = False

    def __init__(self, service: Any, told: Callable[[bytes], None]) -> None:
        self._service = service
        self._told = told

    def makeConnection(self, transport: Any) -> None:
        self._service.makeConnection(transport)

    def doStop(self) -> None:
        self._service.doStop()

    def connectionRefused(self) -> None:
        self._service.connectionRefused()

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self._told(datagram)
        self._service.datagramReceived(datagram, addr)
