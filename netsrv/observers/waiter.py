"""Waits until the number of connections satisfies a predicate."""

from collections.abc import Callable

from twisted.internet.defer import Deferred

from netsrv.interfaces import IConnection, IServedConnections, ListenerInfo
from netsrv.observers.dispatch import Observer, ObserverDispatcher


class ConnectionWaiter(Observer):
    """Fires *result* with the value of *count*, as soon as *predicate* is true of it.

    An exception of *predicate* is passed to the errback of *result*.
    """

    def __init__(
        self,
        observers: ObserverDispatcher,
        count: Callable[[], int],
        predicate: Callable[[int], bool],
    ) -> None:
        self.result: Deferred[int] = Deferred(lambda _result: observers.remove(self))
        self._observers = observers
        self._count = count
        self._predicate = predicate
        observers.add(self)
        self._check()

    def connection_made(self, listener: ListenerInfo, connection: IConnection) -> None:
        self._check()

    def connection_closed(self, listener: ListenerInfo, connection: IConnection) -> None:
        self._check()

    def connections_served(self, listener: ListenerInfo, connections: IServedConnections) -> None:
        self._check(1)  # they were served one after the other
        self._check()

    def _check(self, more: int = 0) -> None:
        if self.result.called:
            return
        count = self._count() + more
        try:
            satisfied = self._predicate(count)
        except Exception:
            self._observers.remove(self)
            self.result.errback()
            return
        if satisfied:
            self._observers.remove(self)
            self.result.callback(count)
