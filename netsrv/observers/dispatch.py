"""The observers of a server, told as one.

Who observes derives from `Observer` and overrides what it wants to know; the rest costs
nothing.  What an observer raises is its own trouble: the server goes on.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from twisted.logger import Logger
from zope.interface import implementer

from netsrv.batches import accepts_batches
from netsrv.interfaces import (
    DropReason,
    IBatchObserver,
    IConnection,
    IDatagrams,
    IObserver,
    RejectReason,
)

SINGLE = {
    "datagrams_received": "datagram_received",
    "datagrams_sent": "datagram_sent",
    "datagrams_refused": "datagram_refused",
}
"""The events of batches, and those of which there is one for each datagram."""


Told = tuple[Callable[..., None], IObserver]
"""What is called for an event, and whose it is."""


@implementer(IBatchObserver)
class Observer:
    """Is told of everything, and does nothing."""

    def connection_made(self, listener: str, connection: IConnection) -> None: ...
    def connection_refused(self, listener: str, peer: str, reason: RejectReason) -> None: ...
    def connection_closed(self, listener: str, connection: IConnection) -> None: ...
    def suspended(self, listener: str, reason: RejectReason | None) -> None: ...
    def resumed(self, listener: str) -> None: ...
    def datagram_received(self, listener: str, peer: tuple[str, int], size: int) -> None: ...
    def datagram_sent(self, listener: str, peer: tuple[str, int], size: int) -> None: ...
    def datagram_dropped(self, listener: str, reason: str) -> None: ...
    def datagram_refused(
        self, listener: str, peer: tuple[str, int], reason: DropReason
    ) -> None: ...
    def datagrams_received(self, listener: str, datagrams: IDatagrams) -> None: ...
    def datagrams_sent(self, listener: str, datagrams: IDatagrams) -> None: ...
    def datagrams_refused(
        self, listener: str, datagrams: IDatagrams, reason: DropReason
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
            for event in IBatchObserver.names(all=True)
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
    """How an observer is told of an event, if it wants to know."""
    single = SINGLE.get(event)
    if single is not None and not accepts_batches(observer, event, single):
        return (
            (partial(_tell_each, getattr(observer, single)), observer)
            if _overrides(observer, single)
            else None
        )
    return (getattr(observer, event), observer) if _overrides(observer, event) else None


def _tell_each(
    tell: Callable[..., None], listener: str, datagrams: IDatagrams, *reason: DropReason
) -> None:
    for peer, size in datagrams:
        tell(listener, peer, *(reason or (size,)))


def _overrides(observer: IObserver, event: str) -> bool:
    return getattr(type(observer), event, None) is not getattr(Observer, event)
