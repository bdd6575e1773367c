"""The last events of a server, for its status page.

A busy server has thousands of events a second.  An observer here takes `MAX_A_SECOND` of them and
then leaves the dispatcher until the second is over: the others cost nothing.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Protocol

from netsrv.interfaces import IConnection, IServedConnections, ListenerInfo, RejectReason
from netsrv.observers.dispatch import Observer, ObserverDispatcher

MAX_ENTRIES = 50
"""Events of a kind that are kept."""

MAX_A_SECOND = 20
"""Events of a kind that are taken in a second."""

WINDOW = 1.0
"""Seconds."""

Entry = dict[str, Any]


class Recent(Protocol):
    """The last events of one kind."""

    def start(self, observers: ObserverDispatcher) -> None:
        """Take events from now on."""

    def stop(self) -> None:
        """Take no more events."""

    def entries(self, name: Callable[[ListenerInfo], str]) -> list[Entry]:
        """Return the events, the newest last, with the *name* of each listener."""


class _Recent(Observer):
    """Keeps the last events of one kind; *clock* provides IReactorTime."""

    def __init__(self, clock: Any, now: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._now = now
        self._observers: ObserverDispatcher | None = None
        self._entries: deque[tuple[ListenerInfo | None, Entry]] = deque(maxlen=MAX_ENTRIES)
        self._left = MAX_A_SECOND
        self._window_end = 0.0
        self._return: Any = None

    def start(self, observers: ObserverDispatcher) -> None:
        """Take events from now on."""
        self._observers = observers
        observers.add(self)

    def stop(self) -> None:
        """Take no more events."""
        observers, self._observers = self._observers, None
        if self._return is not None:
            self._return.cancel()
            self._return = None
        elif observers is not None:
            observers.remove(self)

    def entries(self, name: Callable[[ListenerInfo], str]) -> list[Entry]:
        """Return the events, the newest last, with the *name* of each listener."""
        return [
            {**entry, "listener": "" if listener is None else name(listener)}
            for listener, entry in self._entries
        ]

    def add(self, listener: ListenerInfo | None, **values: Any) -> None:
        """Add an event."""
        now = self._now()
        if now >= self._window_end or now < self._window_end - WINDOW:
            self._left, self._window_end = MAX_A_SECOND, now + WINDOW
        self._entries.append((listener, {"time": now, **values}))
        self._left -= 1
        if self._left <= 0 and self._observers is not None and self._return is None:
            self._observers.remove(self)
            self._return = self._clock.callLater(WINDOW, self._come_back)

    def _come_back(self) -> None:
        self._return = None
        self._window_end = 0.0
        if self._observers is not None:
            self._observers.add(self)


class RecentRefusals(_Recent):
    """Keeps the last connections that were not served."""

    def connection_refused(self, listener: ListenerInfo, peer: str, reason: RejectReason) -> None:
        self.add(listener, peer=peer, reason=str(reason))


class RecentEndings(_Recent):
    """Keeps the last connections that have ended."""

    def connection_closed(self, listener: ListenerInfo, connection: IConnection) -> None:
        self.add(
            listener,
            peer=connection.peer,
            reason=str(connection.close_reason),
            seconds=round(connection.seconds, 6),
            received=connection.received,
            sent=connection.sent,
        )

    def connections_closed(
        self, listener: ListenerInfo, connections: Sequence[IConnection]
    ) -> None:
        for connection in connections[:MAX_A_SECOND]:
            self.connection_closed(listener, connection)

    def connections_served(self, listener: ListenerInfo, connections: IServedConnections) -> None:
        for connection in islice(connections, MAX_A_SECOND):
            self.connection_closed(listener, connection)


class RecentEvents(_Recent):
    """Keeps the last events of listeners, and of the server."""

    def listener_started(self, listener: ListenerInfo) -> None:
        self.add(listener, event="started", text="")

    def listener_closed(self, listener: ListenerInfo) -> None:
        self.add(listener, event="closed", text="")

    def listener_failed(self, listener: ListenerInfo, error: OSError, reopening: bool) -> None:
        self.add(listener, event="failed", text=error.strerror or str(error))

    def listener_reopened(self, listener: ListenerInfo) -> None:
        self.add(listener, event="reopened", text="")

    def suspended(self, listener: ListenerInfo, reason: RejectReason | None) -> None:
        self.add(listener, event="suspended", text="" if reason is None else reason.option)

    def resumed(self, listener: ListenerInfo) -> None:
        self.add(listener, event="resumed", text="")

    def accept_failed(self, listener: ListenerInfo, error: OSError) -> None:
        self.add(listener, event="accept_error", text=error.strerror or str(error))

    def service_failed(self, listener: ListenerInfo, callback: str) -> None:
        self.add(listener, event="service_failed", text=callback)

    def stalled(self, seconds: float) -> None:
        self.add(None, event="stalled", text=f"{seconds:.1f} s")


def keep_recent(clock: Any) -> dict[str, Recent]:
    """Return the observers of all kinds, by the keys of the status; *clock* as in `_Recent`."""
    return {
        "refusals": RecentRefusals(clock),
        "endings": RecentEndings(clock),
        "events": RecentEvents(clock),
    }
