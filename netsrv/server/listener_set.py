"""The set of running listeners, and the gates of closed ones that still have connections."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from netsrv.config.model import ListenerSettings
from netsrv.gate import Gate
from netsrv.guards.admission import Admission
from netsrv.guards.capacity import ConnectionSlots
from netsrv.guards.limits import Limits
from netsrv.interfaces import IObserver, IServerAware, ListenerInfo
from netsrv.observers.counters import Counts
from netsrv.server.assembly import assemble
from netsrv.server.listeners import RunningListener
from netsrv.server.listening import Listener
from netsrv.server.prepare import PreparedListener
from netsrv.tls.settings import TLSSettings

if TYPE_CHECKING:
    from netsrv.server.faulting import Faulting
    from netsrv.tls.store import CertificateStore


class Listeners:
    """The set of running listeners.

    *slots* are those of the whole process: its descriptors.  *now* returns seconds of a
    monotonic clock.  *counts* returns the counters of a listener.
    *make_admission* is called as `Admission`.
    """

    def __init__(
        self,
        reactor: Any,
        observer: IObserver,
        slots: ConnectionSlots,
        counts: Callable[[ListenerInfo], Counts],
        now: Callable[[], float] = time.monotonic,
        make_admission: Callable[[Limits, ConnectionSlots, float], Admission] = Admission,
    ) -> None:
        self.running: dict[RunningListener, None] = {}
        """The running listeners, in the order in which they were added."""
        self._by_label: defaultdict[str, dict[RunningListener, None]] = defaultdict(dict)
        self.observer = observer
        self.counts = counts
        self.server_status: Any = None
        """The `netsrv.interfaces.IServerStatus` for services that ask for it."""
        self._now = now
        self._reactor = reactor
        self._slots = slots
        self._make_admission = make_admission
        self._retired: dict[Gate, None] = {}
        self._own_ports: Counter[int] = Counter()
        self._suspended = False

    @property
    def retired(self) -> list[Gate]:
        """The gates of closed listeners that still have connections."""
        return list(self._retired)

    @property
    def gates(self) -> list[Gate]:
        """The gates of all listeners, and those of closed ones that are not drained yet."""
        return [*(listener.gate for listener in self.running), *self._retired]

    @property
    def connections(self) -> int:
        """The number of live connections, those of closed listeners included."""
        return sum(len(gate.connections) for gate in self.gates)

    @property
    def certificates(self) -> list[CertificateStore]:
        """The certificates of the running listeners, each store once."""
        stores = (listener.certificates for listener in self.running)
        return list(dict.fromkeys(store for store in stores if store is not None))

    def find(self, settings: ListenerSettings) -> RunningListener | None:
        """Return the listener of *settings*, or of equal ones; None if there is none."""
        equal = None
        for listener in self._by_label.get(settings.address_label, ()):
            if listener.settings is settings:
                return listener
            if equal is None and listener.settings == settings:
                equal = listener
        return equal

    def add(self, prepared: PreparedListener) -> RunningListener:
        """Serve on one more socket.  Raises what the service raises when it is started."""
        admission = self._make_admission(prepared.settings.limits, self._slots, self._now())
        listener = RunningListener(self, prepared, admission)
        self._enter(listener)
        try:
            listener.start(self._suspended)
        except BaseException:
            self._leave(listener)
            raise
        self.observer.listener_started(listener.listener_info)
        return listener

    def remove(self, listener: RunningListener) -> Deferred[None]:
        """Take a listener's backlog and close it; fire when its last connection has ended."""
        try:
            listener.drain()
        except BaseException:  # as Twisted: not even SystemExit ends the server
            listener.log.failure("{name}: closing the listener failed", name=listener.name)
            listener.gate.close()
        self._leave(listener)
        return self.retire(listener.gate)

    def retire(self, gate: Gate) -> Deferred[None]:
        """Keep a gate until it is drained, and report then that its listener is closed."""
        self._retired[gate] = None

        def drained(_result: None) -> None:
            del self._retired[gate]
            self.observer.listener_closed(gate.listener_info)

        return gate.when_drained().addCallback(drained)

    def suspend(self) -> None:
        """Suspend all listeners, and those that are added later."""
        self._suspended = True
        for listener in list(self.running):
            listener.suspend()

    def resume(self) -> None:
        """Resume all listeners."""
        self._suspended = False
        for listener in list(self.running):
            listener.resume()

    def make_faulting(self, running: RunningListener, find: Callable[[], Any]) -> Faulting:
        """Return what applies faults to the listener that *find* returns."""
        from netsrv.server.faulting import Faulting  # it imports what a listener runs on

        return Faulting(self._reactor, self._now, running, find)

    def build(self, prepared: PreparedListener, admission: Admission) -> Listener:
        """Put a listener together; it is not started yet."""
        if IServerAware.providedBy(prepared.service):
            prepared.service.server = self.server_status
        limits, reactor = prepared.settings.limits, self._reactor
        gate = Gate(reactor, prepared.info, self.observer, admission, limits, self._now)
        return assemble(reactor, prepared, gate, self._own_ports)

    def _enter(self, listener: RunningListener) -> None:
        self.running[listener] = None
        self._by_label[listener.settings.address_label][listener] = None
        if not listener.settings.transport.is_stream:
            self._own_ports[listener.port] += 1

    def _leave(self, listener: RunningListener) -> None:
        label, port = listener.settings.address_label, listener.port
        del self.running[listener], self._by_label[label][listener]
        if not self._by_label[label]:
            del self._by_label[label]
        if not listener.settings.transport.is_stream:
            self._own_ports[port] -= 1
            if not self._own_ports[port]:
                del self._own_ports[port]


def certificates_in_use(running: Iterable[RunningListener]) -> dict[TLSSettings, CertificateStore]:
    """Return the certificates of running listeners."""
    return {
        listener.settings.tls: listener.certificates
        for listener in running
        if listener.certificates is not None
    }
