"""Watches connections that linger: they wait until their peers end too.

One epoll object (epoll(7)) has the sockets of all of them, and the reactor watches that object.
So to linger costs one system call, where a reader of the reactor costs many calls of Python.
"""

import select
from contextlib import suppress
from typing import Any, Protocol
from weakref import WeakKeyDictionary, ref

from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

BATCH_SIZE = 256
"""Connections that are served before other events get their turn."""


class Lingering(Protocol):
    """A connection that lingers."""

    def ready(self) -> None:
        """Read or write what is possible."""


@implementer(IReadDescriptor)
class LingerWatcher:
    """Watches the lingering connections of all listeners of one reactor.

    The reactor watches this object only while there are any.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = ref(reactor)
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[Lingering, int]] = {}

    def watch(self, descriptor: int, connection: Lingering, writes: bool = False) -> None:
        """Call ``connection.ready()`` while *descriptor* is readable, or writable if *writes*."""
        events = select.EPOLLOUT if writes else select.EPOLLIN
        if descriptor in self._watched:
            self._epoll.modify(descriptor, events)
        else:
            self._epoll.register(descriptor, events)
        if not self._watched:
            self._resume()
        self._watched[descriptor] = connection, events

    def forget(self, descriptor: int) -> None:
        """Forget *descriptor*, if it is watched; the caller closes it."""
        if self._watched.pop(descriptor, None) is not None and not self._watched:
            self._suspend()

    def fileno(self) -> int:
        """Return the descriptor that the reactor watches."""
        return self._epoll.fileno()

    def logPrefix(self) -> str:
        """Return the name of this object in the reactor's log."""
        return type(self).__name__

    def doRead(self) -> None:
        """Serve the connections that are ready."""
        for descriptor, _events in self._epoll.poll(0, BATCH_SIZE):
            watched = self._watched.get(descriptor)
            if watched is None:
                self._start_over()
                return
            watched[0].ready()

    def connectionLost(self, reason: Any) -> None:
        """Do nothing: the reactor forgets its readers only at its end."""

    def _resume(self) -> None:
        reactor = self._reactor()
        if reactor is not None:
            reactor.addReader(self)

    def _suspend(self) -> None:
        reactor = self._reactor()
        if reactor is not None:
            reactor.removeReader(self)

    def _start_over(self) -> None:
        """Use another epoll object: a forked process may keep a closed socket in the old one.

        (epoll(7), questions and answers.)
        """
        self._suspend()
        self._epoll.close()
        self._epoll = select.epoll()
        for descriptor, (_connection, events) in self._watched.items():
            with suppress(OSError):
                self._epoll.register(descriptor, events)
        if self._watched:
            self._resume()


_watchers: WeakKeyDictionary[Any, LingerWatcher] = WeakKeyDictionary()


def linger_watcher(reactor: Any) -> LingerWatcher:
    """Return the watcher of a reactor."""
    watcher = _watchers.get(reactor)
    if watcher is None:
        watcher = _watchers[reactor] = LingerWatcher(reactor)
    return watcher
