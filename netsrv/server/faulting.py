"""The faults of a running listener, applied to what it accepts and receives.

Without faults nothing of this stands on the way of a peer.
"""

from collections.abc import Callable
from typing import Any

from netsrv.datagrams.faulty import FaultyDatagrams
from netsrv.datagrams.listener import DatagramListener
from netsrv.faults.endings import Refusal
from netsrv.faults.fault import Fault, Level
from netsrv.faults.table import FaultTable
from netsrv.interfaces import DropReason, RejectReason
from netsrv.settings import MAX_SECONDS
from netsrv.streams.connection import Connection
from netsrv.streams.listener import StreamListener
from netsrv.streams.pending import PendingConnection, Stage


class Faulting:
    """Applies the faults of its *table* to a listener.

    *find* returns the listener, which may be replaced by another on the same socket;
    *is_suspended* tells whether its owner has suspended it.
    """

    def __init__(
        self,
        reactor: Any,
        now: Callable[[], float],
        find: Callable[[], Any],
        is_suspended: Callable[[], bool],
    ) -> None:
        self.table = FaultTable(reactor, now, self._changed)
        self._reactor = reactor
        self._now = now
        self._find = find
        self._is_suspended = is_suspended
        self._applied_to: Any = None
        """The listener on whose way the faults stand; None if they stand on none."""
        self.is_stalled = False
        """True while a fault keeps the listener from accepting."""

    def reapply(self) -> None:
        """Apply the faults to a listener that has replaced the one of before."""
        self._applied_to = None
        self.is_stalled = False
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
        self._hold(listener)

    def _interpose(self, listener: Any) -> None:
        """Stand on the way of the listener's peers, those that are connected included."""
        if isinstance(listener, StreamListener):
            listener.set_last_stage(FaultStage(self.table))
            connections = [
                connection
                for connection in listener.gate.connections
                if isinstance(connection, Connection) and not connection.disconnecting
            ]
            for connection in sorted(connections, key=lambda one: one.permit.since):
                self.table.adopt(connection, connection.permit.source)
        elif isinstance(listener, DatagramListener):
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

    def _make_datagrams(self, gate: Any, port: Any) -> FaultyDatagrams:
        def drop() -> None:
            owner = self._find().gate
            owner.observer.datagram_dropped(owner.listener_info, DropReason.FAULT, None)

        faulty = FaultyDatagrams(gate, port, self._reactor, self._now, drop)
        self.table.targets = {faulty: None}
        for fault in self.table.faults.values():
            faulty.add(fault)
        return faulty

    # The listener itself

    def _hold(self, listener: Any) -> None:
        """Stall the listener as long as a fault asks for it: peers wait in the backlog."""
        stalled = any(map(_stalls, self.table.faults.values()))
        if stalled != self.is_stalled:
            self.is_stalled = stalled
            if stalled:
                listener.suspend()
            elif not self._is_suspended():
                listener.resume()


def _stalls(fault: Fault) -> bool:
    kind = fault.settings.kind
    return kind.level is Level.ACCEPT and fault.settings.attributes.how is Refusal.STALL


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
