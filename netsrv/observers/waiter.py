"""A census: it waits until there are so many connections."""

from collections.abc import Callable

from twisted.internet.defer import Deferred

from netsrv.interfaces import IConnection
from netsrv.observers.dispatch import Observer, ObserverDispatcher


class ConnectionWaiter(Observer):
    """Fires *result* with what *count* gives, as soon as *wanted* is true of it.

    What *wanted* raises is for whoever has asked.
    """

    def __init__(
        self, audience: ObserverDispatcher, count: Callable[[], int], wanted: Callable[[int], bool]
    ) -> None:
        self.result: Deferred[int] = Deferred(lambda _result: audience.remove(self))
        self._audience = audience
        self._count = count
        self._wanted = wanted
        audience.add(self)
        self._look()

    def connection_made(self, listener: str, connection: IConnection) -> None:
        self._look()

    def connection_closed(self, listener: str, connection: IConnection) -> None:
        self._look()

    def _look(self) -> None:
        if self.result.called:
            return
        count = self._count()
        try:
            wanted = self._wanted(count)
        except Exception:
            self._audience.remove(self)
            self.result.errback()
            return
        if wanted:
            self._audience.remove(self)
            self.result.callback(count)
