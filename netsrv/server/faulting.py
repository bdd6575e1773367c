"""The faults of a running listener, applied to what it accepts and receives.

Without faults nothing of this stands on the way of a peer.
"""

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from twisted.logger import Logger

from netsrv.config.model import ListenerSettings
from netsrv.faults.endings import Refusal
from netsrv.faults.fault import Fault, Level
from netsrv.faults.table import Event, FaultTable
from netsrv.interfaces import CloseReason, DropReason, ListenerInfo, RejectReason
from netsrv.settings import MAX_SECONDS, count_of
from netsrv.sockets.addresses import printable
from netsrv.streams.connection import Connection
from netsrv.streams.listener import StreamListener
from netsrv.streams.pending import PendingConnection, Stage

if TYPE_CHECKING:
    from netsrv.datagrams.faulty import FaultyDatagrams


class Hold(Enum):
    """How a fault keeps all peers out; the first of several counts."""

    DOWN = "down"
    """The socket refuses them, and live connections are ended."""
    STALL = "stall"
    """They wait in the kernel."""


class Running(Protocol):
    """A running listener, as its faults see it."""

    suspended: bool

    @property
    def settings(self) -> ListenerSettings: ...

    @property
    def listener_info(self) -> ListenerInfo: ...


class Faulting:
    """Applies the faults of its *table* to the listener of *running*.

    *find* returns that listener, which may be replaced by another on the same socket.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        now: Callable[[], float],
        running: Running,
        find: Callable[[], Any],
    ) -> None:
        self.table = FaultTable(reactor, now, self._changed, self._report)
        self._reactor = reactor
        self._now = now
        self._running = running
        self._find = find
        self._applied_to: Any = None
        """The listener on whose way the faults stand; None if they stand on none."""
        self._hold: Hold | None = None

    @property
    def holds(self) -> bool:
        """True while a fault keeps the listener from accepting or receiving."""
        return self._hold is not None

    def describe(self) -> list[dict[str, Any]]:
        """Describe each fault in plain values, ready for JSON."""
        return self.table.describe()

    def reapply(self) -> None:
        """Apply the faults to a listener that has replaced the one of before."""
        self._applied_to = self._hold = None
        self._changed()

    def stop(self) -> None:
        """Leave the listener, which ends; live connections keep their faults."""
        self.table.stop()

    def _changed(self) -> None:
        listener = self._find()
        active = bool(self.table.faults)
        if active and self._applied_to is not listener:
            self._applied_to = listener
            self._interpose(listener)
        elif not active and self._applied_to is listener:
            self._applied_to = None
            self._withdraw(listener)
        self.keep_out()

    def _report(self, event: Event, fault: Fault) -> None:
        """Log what happens to a fault."""
        hits = "" if event is Event.ADDED else f" after {count_of(fault.hits, 'hit')}"
        self.log.warn(
            "Fault {name} {event} on {listener}{hits}: {fault}",
            name=printable(fault.settings.name),
            event=event,
            listener=self._running.listener_info,
            fault=printable(str(fault)),
            hits=hits,
        )

    def _interpose(self, listener: Any) -> None:
        """Stand on the way of the listener's peers, those that are connected included."""
        if isinstance(listener, StreamListener):
            listener.set_last_stage(FaultStage(self.table))
            connections = [
                connection
                for connection in listener.gate.connections
                if isinstance(connection, Connection)
                and not connection.disconnecting
                and connection.transport not in self.table.targets  # it could not be withdrawn
            ]
            for connection in sorted(connections, key=lambda one: one.permit.since):
                self.table.adopt(connection, connection.permit.source)
        else:
            listener.interpose(self._make_datagrams)

    def _withdraw(self, listener: Any) -> None:
        """Leave the way of the listener's peers."""
        if isinstance(listener, StreamListener):
            listener.set_last_stage(None)
            for connection in list(self.table.targets):
                if connection.withdraw():
                    del self.table.targets[connection]
        else:
            self.table.targets.clear()
            listener.interpose(None)

    # Datagrams

    def _make_datagrams(self, gate: Any, port: Any) -> "FaultyDatagrams":
        from netsrv.datagrams.faulty import FaultyDatagrams  # only UDP needs it

        def drop() -> None:
            owner = self._find().gate
            owner.observer.datagram_dropped(owner.listener_info, DropReason.FAULT, None)

        faulty = FaultyDatagrams(gate, port, self._reactor, self._now, drop)
        self.table.targets = {faulty: None}
        for fault in self.table.faults.values():
            faulty.add(fault)
        return faulty

    # The listener itself

    def let_in(self) -> None:
        """Let the socket be as it was, for another listener; `reapply` or `keep_out` follows."""
        if self._hold is Hold.DOWN:
            self._find().bring_up(self._running.settings.backlog)
        self._hold = None

    def keep_out(self) -> None:
        """Stall the listener, or take it down, as long as a fault asks for that."""
        listener = self._find()
        holds = {_hold_of(fault) for fault in self.table.faults.values()}
        hold = next((hold for hold in Hold if hold in holds), None)
        before, self._hold = self._hold, hold
        if hold is before:
            return
        if before is Hold.DOWN:
            listener.bring_up(self._running.settings.backlog)
        if hold is Hold.DOWN:
            listener.take_down()
            for connection in list(listener.gate.connections):
                connection.end(CloseReason.FAULT)
        elif hold is Hold.STALL:
            listener.suspend()
        elif not self._running.suspended:
            listener.resume()


def _hold_of(fault: Fault) -> Hold | None:
    """Return how a fault keeps peers out, whatever they are; None for one that hits some."""
    settings = fault.settings
    if settings.kind.level is Level.DOWN:
        return Hold.DOWN
    is_stall = settings.kind.level is Level.ACCEPT and settings.attributes.how is Refusal.STALL
    return Hold.STALL if is_stall else None


class FaultStage(Stage):
    """The last stage of connections: puts the faults that hit them before their service."""

    name = "fault"
    timeout = MAX_SECONDS
    timeout_reason = lost_reason = RejectReason.FAULT

    def __init__(self, table: FaultTable) -> None:
        self._table = table

    def start(self, connection: PendingConnection) -> Callable[[bytes], None]:
        permit, transport = connection.permit, connection.transport
        refusing = self._table.refusal(permit.source)
        if refusing is None:
            faulty = self._table.wrap(permit.source)
            faulty.transport, transport.protocol = transport, faulty
            connection.complete(transport=faulty)
            faulty.start()
            return faulty.dataReceived
        if refusing.settings.attributes.how is Refusal.RESET:
            permit.gate.report_rejection(permit.sockaddr, RejectReason.FAULT)
            connection.abort()
        else:
            connection.fail(RejectReason.FAULT)
        return lambda _data: None
