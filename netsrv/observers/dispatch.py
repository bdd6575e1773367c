"""The observers of a server, told as one.

Who observes derives from `Observer` and overrides what it wants to know; the rest costs
nothing.  What an observer raises is its own trouble: the server goes on.
"""

from collections.abc import Callable, Iterable
from typing import Any

from twisted.logger import Logger
from zope.interface import implementer

from netsrv.interfaces import (
    DropReason,
    IConnection,
    IDatagrams,
    IObserver,
    RejectReason,
)

Told = tuple[Callable[..., None], IObserver]
"""What is called for an event, and whose it is."""


@implementer(IObserver)
class Observer:
    """Is told of everything, and does nothing."""

    def connection_made(self, listener: str, connection: IConnection) -> None: ...
    def connection_refused(self, listener: str, peer: str, reason: RejectReason) -> None: ...
    def connection_closed(self, listener: str, connection: IConnection) -> None: ...
    def suspended(self, listener: str, reason: RejectReason | None) -> None: ...
    def resumed(self, listener: str) -> None: ...
    def datagrams_received(self, listener: str, datagrams: IDatagrams) -> None: ...
    def datagrams_sent(self, listener: str, datagrams: IDatagrams) -> None: ...
    def datagrams_refused(
        self, listener: str, datagrams: IDatagrams, reason: DropReason
    ) -> None: ...
    def datagram_dropped(
        self, listener: str, reason: DropReason, error: OSError | None
    ) -> None: ...
    def accept_failed(self, listener: str, error: OSError) -> None: ...
    def service_failed(self, listener: str, what: str) -> None: ...
    def listener_failed(self, listener: str, error: OSError) -> None: ...
    def stalled(self, seconds: float) -> None: ...


OFTEN = frozenset({"connection_made", "connection_closed"})
"""Events with a quicker way, since passing on any arguments whatever takes its time."""


class ObserverDispatcher(Observer):
    """Tells each of *observers*; one that raises is told nothing more, and the log says so."""

    log = Logger()

    def __init__(self, observers: Iterable[IObserver] = ()) -> None:
        self._observers: list[IObserver] = []
        for each in observers:
            self.add(each)

    def add(self, observer: IObserver) -> None:
        """Tell one more."""
        self._arrange([*self._observers, observer])

    def remove(self, observer: IObserver) -> None:
        """Tell one no more, if it still was."""
        self._arrange([each for each in self._observers if each is not observer])

    def _arrange(self, observers: list[IObserver]) -> None:
        """Have each event call exactly those who want to know of it."""
        calls = {
            event: self._telling(event, [_told(each, event) for each in observers])
            for event in IObserver.names(all=True)
        }
        self._observers = observers
        vars(self).update(calls)

    def _telling(self, event: str, told: list[Told | None]) -> Callable[..., None]:
        calls = tuple(each for each in told if each is not None)

        def tell(*details: Any) -> None:
            for call, observer in calls:
                try:
                    call(*details)
                except BaseException:  # as Twisted: not even SystemExit ends the server
                    self._dismiss(observer, event)

        def tell_of_connection(listener: str, connection: IConnection) -> None:
            for call, observer in calls:
                try:
                    call(listener, connection)
                except BaseException:
                    self._dismiss(observer, event)

        return tell_of_connection if event in OFTEN else tell

    def _dismiss(self, observer: IObserver, event: str) -> None:
        self.log.failure(
            "{observer} raised in {event}, and is told nothing more", observer=observer, event=event
        )
        self.remove(observer)


def _told(observer: IObserver, event: str) -> Told | None:
    """Return how an observer is called for an event; None if it does not override it."""
    if getattr(type(observer), event, None) is getattr(Observer, event):
        return None
    return getattr(observer, event), observer
