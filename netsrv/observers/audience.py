"""The observers of a server, told as one.

Who observes derives from `Observer` and overrides what it wants to know; the rest costs
nothing.  What an observer raises is its own trouble: the server goes on.
"""

from collections.abc import Callable, Iterable
from typing import Any

from twisted.logger import Logger
from zope.interface import implementer

from netsrv.interfaces import Drop, IConnection, IObserver, Refusal


@implementer(IObserver)
class Observer:
    """Is told of everything, and does nothing."""

    def connection_made(self, listener: str, connection: IConnection) -> None: ...
    def connection_refused(self, listener: str, peer: str, reason: Refusal) -> None: ...
    def connection_closed(self, listener: str, connection: IConnection) -> None: ...
    def suspended(self, listener: str, reason: Refusal | None) -> None: ...
    def resumed(self, listener: str) -> None: ...
    def datagram_received(self, listener: str, peer: tuple[str, int], size: int) -> None: ...
    def datagram_sent(self, listener: str, peer: tuple[str, int], size: int) -> None: ...
    def datagram_dropped(self, listener: str, reason: str) -> None: ...
    def datagram_refused(self, listener: str, peer: tuple[str, int], reason: Drop) -> None: ...
    def accept_failed(self, listener: str, error: OSError) -> None: ...
    def service_failed(self, listener: str, what: str) -> None: ...
    def listener_gone(self, listener: str, error: OSError) -> None: ...
    def stalled(self, seconds: float) -> None: ...


class Audience(Observer):
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
            event: self._telling(event, [each for each in observers if _overrides(each, event)])
            for event in IObserver.names()
        }
        self._observers = observers
        vars(self).update(calls)

    def _telling(self, event: str, observers: list[IObserver]) -> Callable[..., None]:
        calls = tuple((getattr(each, event), each) for each in observers)

        def tell(*details: Any) -> None:
            for call, observer in calls:
                try:
                    call(*details)
                except BaseException:  # as Twisted: not even SystemExit ends the server
                    self._dismiss(observer, event)

        return tell

    def _dismiss(self, observer: IObserver, event: str) -> None:
        self.log.failure(
            "{observer} raised in {event}, and is told nothing more", observer=observer, event=event
        )
        self.remove(observer)


def _overrides(observer: IObserver, event: str) -> bool:
    return getattr(type(observer), event, None) is not getattr(Observer, event)
