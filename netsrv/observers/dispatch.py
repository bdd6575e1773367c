"""Passes events to the observers.

Derive an observer from `Observer` and override the events that it needs; the others cost
nothing.  An observer that raises is removed; a failing observer never affects the server.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.logger import Logger
from zope.interface import implementer

from netsrv.interfaces import (
    DropReason,
    IConnection,
    IDatagrams,
    IObserver,
    IServedConnections,
    ListenerInfo,
    RejectReason,
)

Callback = tuple[Callable[..., None], IObserver]
"""What is called for an event, and its observer."""


@implementer(IObserver)
class Observer:
    """Receives all events, and ignores them: a base class."""

    def listener_started(self, listener: ListenerInfo) -> None: ...
    def listener_closed(self, listener: ListenerInfo) -> None: ...
    def listener_failed(self, listener: ListenerInfo, error: OSError, reopening: bool) -> None: ...
    def listener_reopen_failed(self, listener: ListenerInfo, reason: str) -> None: ...
    def listener_reopened(self, listener: ListenerInfo) -> None: ...
    def connection_made(self, listener: ListenerInfo, connection: IConnection) -> None: ...
    def connection_refused(
        self, listener: ListenerInfo, peer: str, reason: RejectReason
    ) -> None: ...
    def connection_closed(self, listener: ListenerInfo, connection: IConnection) -> None: ...
    def proxy_header_received(self, listener: ListenerInfo, peer: str, header: Any) -> None: ...
    def tls_handshake_completed(
        self, listener: ListenerInfo, peer: str, session: Any, seconds: float
    ) -> None: ...
    def connections_made(self, listener: ListenerInfo, connections: Sequence[IConnection]) -> None:
        for connection in connections:
            self.connection_made(listener, connection)

    def connections_closed(
        self, listener: ListenerInfo, connections: Sequence[IConnection]
    ) -> None:
        for connection in connections:
            self.connection_closed(listener, connection)

    def connections_served(self, listener: ListenerInfo, connections: IServedConnections) -> None:
        served = list(connections)
        self.connections_made(listener, served)
        self.connections_closed(listener, served)

    def suspended(self, listener: ListenerInfo, reason: RejectReason | None) -> None: ...
    def resumed(self, listener: ListenerInfo) -> None: ...
    def datagrams_received(self, listener: ListenerInfo, datagrams: IDatagrams) -> None: ...
    def datagrams_sent(self, listener: ListenerInfo, datagrams: IDatagrams) -> None: ...
    def datagrams_refused(
        self, listener: ListenerInfo, datagrams: IDatagrams, reason: DropReason
    ) -> None: ...
    def datagram_dropped(
        self, listener: ListenerInfo, reason: DropReason, error: OSError | None
    ) -> None: ...
    def accept_failed(self, listener: ListenerInfo, error: OSError) -> None: ...
    def service_failed(self, listener: ListenerInfo, callback: str) -> None: ...
    def transport_failed(self, listener: ListenerInfo, peer: str) -> None: ...
    def stalled(self, seconds: float) -> None: ...


PARTS = {
    "connections_made": ("connection_made",),
    "connections_closed": ("connection_closed",),
    "connections_served": (
        "connections_made",
        "connections_closed",
        "connection_made",
        "connection_closed",
    ),
}
"""The events that `Observer` calls for an event about several connections."""

HOT_EVENTS = frozenset({"connection_made", "connection_closed"})
"""Events that are passed on with fixed arguments, which is faster than ``*arguments``."""


class ObserverDispatcher(Observer):
    """Passes each event to all of *observers* that override it."""

    log = Logger()

    def __init__(self, observers: Iterable[IObserver] = ()) -> None:
        self._observers: list[IObserver] = []
        self._set_observers(list(observers))

    def add(self, observer: IObserver) -> None:
        """Add an observer."""
        self._set_observers([*self._observers, observer])

    def remove(self, observer: IObserver) -> None:
        """Remove an observer, if it is present."""
        self._set_observers([other for other in self._observers if other is not observer])

    def _set_observers(self, observers: list[IObserver]) -> None:
        """Make a method for each event that calls exactly the observers that override it."""
        methods = {
            event: self._make_method(
                event, [_callback_for(observer, event) for observer in observers]
            )
            for event in IObserver.names(all=True)
        }
        self._observers = observers
        vars(self).update(methods)

    def _make_method(self, event: str, callbacks: list[Callback | None]) -> Callable[..., None]:
        present = tuple(callback for callback in callbacks if callback is not None)

        def dispatch(*arguments: Any) -> None:
            for call, observer in present:
                try:
                    call(*arguments)
                except BaseException:  # as Twisted: not even SystemExit ends the server
                    self._drop_failed(observer, event)

        def dispatch_connection(listener: ListenerInfo, connection: IConnection) -> None:
            for call, observer in present:
                try:
                    call(listener, connection)
                except BaseException:
                    self._drop_failed(observer, event)

        return dispatch_connection if event in HOT_EVENTS else dispatch

    def _drop_failed(self, observer: IObserver, event: str) -> None:
        self.log.failure(
            "Observer {observer} raised in {event} and is removed", observer=observer, event=event
        )
        self.remove(observer)


def _callback_for(observer: IObserver, event: str) -> Callback | None:
    """Return how an observer is called for an event; None if it does not override it."""
    if _overrides(observer, event):
        return getattr(observer, event), observer
    if any(_overrides(observer, part) for part in PARTS.get(event, ())):
        derived = observer if isinstance(observer, Observer) else _Derived(observer)
        return getattr(derived, event), observer
    return None


def _overrides(observer: IObserver, event: str) -> bool:
    inherited = getattr(type(observer), event, None) is getattr(Observer, event)
    return not inherited and hasattr(observer, event)


class _Derived(Observer):
    """Calls an observer that does not derive from `Observer`, as if it did."""

    def __init__(self, observer: IObserver) -> None:
        for event in PARTS["connections_served"]:
            if hasattr(observer, event):
                setattr(self, event, getattr(observer, event))
