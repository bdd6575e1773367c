"""The gate: where a peer meets the server, before it meets the service.

One gate stands at each listener.  It asks the guards who may come in, knows who is
there, tells the observer, and sees to it that who shall go goes.  It opens no sockets and
speaks no protocol; `netsrv.streams.connection` stands between a transport and a service.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from netsrv.guards.admission import Admission
from netsrv.guards.limits import NO_LIMITS, Limits
from netsrv.guards.timeouts import Visit
from netsrv.interfaces import CloseReason, IObserver, RejectReason
from netsrv.sockets.addresses import show_sockaddr

LINGER = 2.0
"""Seconds that a connection which we have ended goes on reading, so that the peer gets
our last bytes: closing with unread input would send RST, which destroys them."""

LONGEST_PERIOD = 1.0
"""Seconds from one sweep to the next, at most; less where a time limit is short."""


class Gate:
    """The gate of one listener; *listener* is its name in the log.

    *clock* provides IReactorTime; *now* gives seconds that never go back, for limits;
    *observer* is told of everything.
    """

    def __init__(
        self,
        clock: Any,
        listener: str,
        observer: IObserver,
        admission: Admission,
        limits: Limits = NO_LIMITS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self.now = now
        self.admission = admission
        self.limits = limits
        self._period = min(LONGEST_PERIOD, limits.shortest / 4)
        self._next_sweep: Any = None
        self._newcomer: Visit | None = None
        self.listener = listener
        self.observer = observer
        self.connections: set[Any] = set()
        self._ended: deque[tuple[float, Any]] = deque()
        self._ending: Any = None
        self._closed = self._expecting = False
        self._empty: list[Deferred[None]] = []

    def limit(self, limits: Limits) -> None:
        """Let newcomers in by other limits; who is in keeps those under which it came."""
        self.admission.change(limits, self.now())
        self.limits = limits
        self._period = min(self._period, limits.shortest / 4)

    @property
    def occupied(self) -> bool:
        """Whether somebody is in, or has been accepted and is on the way."""
        return bool(self.connections) or self._expecting

    def expect(self) -> None:
        """Somebody is on the way: the gate is not empty before it is closed."""
        self._expecting = True

    def close(self) -> None:
        """Nobody comes any more: no timer is left behind by the last connection."""
        self._closed, self._expecting = True, False
        self._tell_if_empty()

    def when_empty(self) -> Deferred[None]:
        """Fire once the last of the live connections has gone, and nobody is on the way."""
        waiter: Deferred[None] = Deferred(self._empty.remove)
        self._empty.append(waiter)
        self._tell_if_empty()
        return waiter

    def abort_all(self) -> int:
        """Abort the connections that are left, and say how many those were."""
        left = [each for each in self.connections if not each.aborted]
        for connection in left:
            connection.abort(CloseReason.SHUTDOWN)
        return len(left)

    def admit(self, sockaddr: Any) -> RejectReason | None:
        """Ask whether a peer may come in; if so, its connection comes next, or `withdraw`."""
        now = self.now()
        visit = Visit(sockaddr, self.limits, now)
        refusal = self.admission.admit(visit.source, now)
        if refusal is None:
            self._newcomer = visit
        else:
            self.observer.connection_refused(self.listener, show_sockaddr(sockaddr), refusal)
        return refusal

    def withdraw(self) -> None:
        """Give the place back of a peer that was admitted and has not come in."""
        if self._newcomer is not None:
            self.admission.release(self._newcomer.source)
            self._newcomer = None

    def entered(self, connection: Any) -> None:
        """A connection is there."""
        connection.visit, self._newcomer = self._newcomer, None
        self.connections.add(connection)
        if self._next_sweep is None:
            self._next_sweep = self.clock.callLater(self._period, self._sweep)
        self.observer.connection_made(self.listener, connection)

    def left(self, connection: Any) -> None:
        """A connection is gone."""
        self.connections.discard(connection)
        self.admission.release(connection.visit.source)
        connection.seconds = self.now() - connection.visit.opened_at
        self.observer.connection_closed(self.listener, connection)
        if not self.connections and (self._closed or self._empty):
            self._tell_if_empty()

    def linger(self, connection: Any) -> None:
        """Close a connection on which we have sent FIN, once its peer has had `LINGER` seconds."""
        self._forget_who_left()
        self._ended.append((self.now() + LINGER, connection))
        if self._ending is None:
            self._ending = self.clock.callLater(LINGER, self._end_lingering)

    def _sweep(self) -> None:
        """Look at all connections, and end those that have reached a time limit."""
        if not self.connections:
            self._next_sweep = None
            return
        self._next_sweep = self.clock.callLater(self._period, self._sweep)
        now = self.now()
        for connection in list(self.connections):
            limit = connection.visit.limit_reached(connection, now)
            if limit is None or connection.aborted:
                continue
            if limit in (CloseReason.WRITE_TIMEOUT, CloseReason.CLOSE_GRACE):
                connection.abort(limit)
            else:
                connection.visit.close_begins(now)
                connection.end(limit)

    def _end_lingering(self) -> None:
        self._ending = None
        now = self.now()
        while self._ended and self._ended[0][0] <= now:
            connection = self._ended.popleft()[1]
            connection.transport.loseConnection()
        self._forget_who_left()
        if self._ended:
            self._ending = self.clock.callLater(self._ended[0][0] - now, self._end_lingering)

    def _forget_who_left(self) -> None:
        while self._ended and self._ended[0][1] not in self.connections:
            self._ended.popleft()

    def _tell_if_empty(self) -> None:
        if self.occupied:
            return
        if self._closed:
            self._stop_timers()
        waiting, self._empty = self._empty, []
        for waiter in waiting:
            waiter.callback(None)

    def _stop_timers(self) -> None:
        for timer in (self._next_sweep, self._ending):
            if timer is not None and timer.active():
                timer.cancel()
        self._next_sweep = self._ending = None
        self._ended.clear()
