"""The gate of a listener: it admits connections, tracks them, and ends them.

Each listener has one gate.  It asks the guards, reports events to the observer, and enforces
time limits and shutdown.  It opens no sockets and speaks no protocol:
`netsrv.streams.connection` stands between a transport and a service.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from netsrv.guards.admission import Admission
from netsrv.guards.limits import NO_LIMITS, Limits
from netsrv.guards.sources import Source, source_of
from netsrv.interfaces import CloseReason, IObserver, ListenerInfo, RejectReason
from netsrv.sockets.addresses import show_sockaddr
from netsrv.time_limits import Deadlines, TimeLimits

LINGER_TIMEOUT = 2.0
"""Seconds that a connection goes on reading after our FIN, so that the peer gets our last
bytes: closing with unread input would send RST, which destroys them."""


class Permit:
    """The right of one accepted connection to be served: it holds a slot until its end.

    Pass it to the connection, or `cancel` it if none comes to be.
    """

    __slots__ = ("gate", "limits", "since", "sockaddr", "source", "spent")

    def __init__(
        self, gate: "Gate", sockaddr: Any, source: Source | None, limits: Limits, since: float
    ) -> None:
        self.gate = gate
        self.sockaddr = sockaddr
        """The peer's address as ``accept`` returned it; of a unix socket, its credentials."""
        self.source = source
        """The source that the limits count; None for a peer without an address."""
        self.limits = limits
        """The limits in effect when the connection was accepted."""
        self.since = since
        """When it was accepted, in seconds of the gate's clock."""
        self.spent = False
        """True once a connection holds the slot, or the slot was given back."""

    def identify(self, sockaddr: Any) -> RejectReason | None:
        """Check the source of a connection whose address was not known at accept.

        Returns the reason against it, which is reported; then the permit is cancelled.
        """
        source, self.sockaddr = source_of(sockaddr[0]), sockaddr
        reason = self.gate.admission.identify(source)
        if reason is None:
            self.source = source
        else:
            self.gate.report_rejection(sockaddr, reason)
            self.cancel()
        return reason

    def cancel(self) -> None:
        """Give the slot back, unless that was done before or a connection holds it."""
        if not self.spent:
            self.spent = True
            self.gate.admission.release(self.source)


class Gate:
    """The live connections of one listener.

    *clock* provides IReactorTime; *now* returns seconds of a monotonic clock, for limits;
    *observer* gets the events of the listener *listener_info*.
    """

    def __init__(
        self,
        clock: Any,
        listener_info: ListenerInfo,
        observer: IObserver,
        admission: Admission,
        limits: Limits = NO_LIMITS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self.now = now
        self.admission = admission
        self.limits = limits
        self.listener_info = listener_info
        self.observer = observer
        self.started_at = time.time()
        """Unix time since which the listener's events are counted."""
        self._time_limits = TimeLimits(clock, now, self._close_at_limit)
        self.connections = self._time_limits.connections
        """The live connections."""
        self._waiting: Deadlines | None = None
        self._lingering: deque[tuple[float, Any]] = deque()
        self._linger_timer: Any = None
        self._closed = False
        self._drain_waiters: list[Deferred[None]] = []

    def set_limits(self, limits: Limits) -> None:
        """Admit by other limits; a live connection keeps those under which it was accepted."""
        self.admission.set_limits(limits, self.now())
        self.limits = limits

    # Admission

    def admit(self, sockaddr: Any) -> Permit | RejectReason:
        """Admit a connection from *sockaddr*, or return the reason against it, and report it."""
        now = self.now()
        source = source_of(sockaddr[0]) if isinstance(sockaddr, tuple) else None
        reason = self.admission.admit(source, now)
        if reason is None:
            return Permit(self, sockaddr, source, self.limits, now)
        self.report_rejection(sockaddr, reason)
        return reason

    def reserve(self, sockaddr: Any, permit_type: type[Permit] = Permit) -> Permit | RejectReason:
        """Hold a slot for a connection whose source comes later: see `Permit.identify`."""
        now = self.now()
        reason = self.admission.reserve(now)
        if reason is None:
            return permit_type(self, sockaddr, None, self.limits, now)
        self.report_rejection(sockaddr, reason)
        return reason

    def report_rejection(self, sockaddr: Any, reason: RejectReason) -> None:
        """Report a connection that is not served."""
        self.observer.connection_refused(self.listener_info, show_sockaddr(sockaddr), reason)

    def report_failure(self, callback: str) -> None:
        """Report the exception that is being handled; the service's *callback* raised it."""
        self.observer.service_failed(self.listener_info, callback)

    # Connections

    def connection_made(self, connection: Any) -> None:
        """Track a connection from its first moment on."""
        connection.permit.spent = True
        self._time_limits.add(connection)
        self.observer.connection_made(self.listener_info, connection)

    def connections_made(self, connections: Sequence[Any]) -> None:
        """Track connections that were served in the accept loop, those that are over included."""
        self._time_limits.add_batch(connections)
        self.observer.connections_made(self.listener_info, connections)

    def connections_lost(
        self, connections: Sequence[Any], sources: Sequence[Source | None]
    ) -> None:
        """Report the end of such connections, and release a slot for each of *sources*."""
        for connection in connections:
            self._time_limits.discard(connection)
        self.admission.release_batch(sources)
        self.observer.connections_closed(self.listener_info, connections)
        if self._closed and self.drained:
            self._drained()

    def connection_lost(self, connection: Any) -> None:
        """Release the slot of a connection that has ended, and report its end."""
        self._time_limits.discard(connection)
        self.admission.release(connection.permit.source)
        self.observer.connection_closed(self.listener_info, connection)
        if self._closed and self.drained:
            self._drained()

    def start_closing(self, connection: Any) -> None:
        """Apply the time limits of a close to a connection that begins to close."""
        self._time_limits.start_closing(connection)

    def linger(self, *connections: Any) -> None:
        """Close connections on which FIN was sent, `LINGER_TIMEOUT` seconds from now."""
        self._forget_lost()
        end = self.now() + LINGER_TIMEOUT
        self._lingering.extend([(end, connection) for connection in connections])
        if self._linger_timer is None:
            self._linger_timer = self.clock.callLater(LINGER_TIMEOUT, self._end_lingering)

    # Connections whose service has not begun: `netsrv.streams.pending`

    @property
    def pending(self) -> Counter[str]:
        """The number of pending connections by stage."""
        return Counter(connection.stage for connection in self._pending)

    def wait_for(self, connection: Any, seconds: float) -> None:
        """Track a pending connection, and call its ``time_out`` after *seconds* in its stage."""
        if self._waiting is None:
            self._waiting = Deadlines(self.clock, self.now)
        self._waiting.put(connection, seconds)

    def stop_waiting(self, connection: Any) -> None:
        """Forget a pending connection, just before it is served."""
        if self._waiting is not None:
            self._waiting.discard(connection)

    def pending_lost(self, connection: Any) -> None:
        """Forget a pending connection that has ended."""
        self.stop_waiting(connection)
        if self.drained:
            self._drained()

    @property
    def _pending(self) -> Collection[Any]:
        return () if self._waiting is None else self._waiting.connections

    # The end

    @property
    def open_connections(self) -> int:
        """The number of connections, live or pending."""
        return len(self.connections) + len(self._pending)

    @property
    def drained(self) -> bool:
        """True if the gate is closed and its last connection has ended."""
        return self._closed and not (self.connections or self._pending)

    def open(self) -> None:
        """Admit, also after `close`."""
        self._closed = False

    def close(self) -> None:
        """Stop admitting; stop the timers once the last connection has ended."""
        self._closed = True
        if self.drained:
            self._drained()

    def when_drained(self) -> Deferred[None]:
        """Fire once the gate is closed and its last connection has ended."""
        waiter: Deferred[None] = Deferred(self._drain_waiters.remove)
        self._drain_waiters.append(waiter)
        if self.drained:
            self._drained()
        return waiter

    def abort_all(self) -> int:
        """Abort all connections, and return how many were not aborted before."""
        every = [*self.connections, *self._pending]
        live = [connection for connection in every if not connection.aborted]
        for connection in live:
            self._close_safely(connection, connection.abort, CloseReason.SHUTDOWN)
        return len(live)

    def give_up(self, connection: Any) -> None:
        """End a connection whose transport fails or does not report its end."""
        if connection in self.connections or connection in self._pending:
            connection.give_up()

    def give_up_all(self) -> None:
        """End all connections that are left, although their transports do not."""
        for connection in [*self.connections, *self._pending]:
            self.give_up(connection)

    # Timers

    def _close_at_limit(self, connection: Any, reason: CloseReason) -> None:
        """Close a connection that has reached a time limit."""
        aborts = reason in (CloseReason.WRITE_TIMEOUT, CloseReason.CLOSE_GRACE)
        close = connection.abort if aborts else connection.end
        self._close_safely(connection, close, reason)

    def _end_lingering(self) -> None:
        self._linger_timer = None
        now = self.now()
        while self._lingering and self._lingering[0][0] <= now:
            connection = self._lingering.popleft()[1]
            self._close_safely(connection, connection.end_linger)
        self._forget_lost()
        if self._lingering:
            wait = self._lingering[0][0] - now
            self._linger_timer = self.clock.callLater(wait, self._end_lingering)

    def _close_safely(
        self, connection: Any, close: Callable[..., None], *arguments: CloseReason
    ) -> None:
        """Close a connection; if its transport raises, report that and give the connection up."""
        try:
            close(*arguments)
        except BaseException:  # as Twisted: not even SystemExit ends the server
            self.observer.transport_failed(self.listener_info, connection.peer)
            self.give_up(connection)

    def _forget_lost(self) -> None:
        while self._lingering and self._lingering[0][1] not in self.connections:
            self._lingering.popleft()

    def _drained(self) -> None:
        self._time_limits.stop()
        if self._waiting is not None:
            self._waiting.stop()
        if self._linger_timer is not None and self._linger_timer.active():
            self._linger_timer.cancel()
        self._linger_timer = None
        self._lingering.clear()
        waiters, self._drain_waiters = self._drain_waiters, []
        for waiter in waiters:
            waiter.callback(None)
