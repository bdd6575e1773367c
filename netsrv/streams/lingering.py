"""Watches connections that linger: they wait until their peers end too.

One epoll object (epoll(7)) has the sockets of all of them, and the reactor watches that object.
So to linger costs one system call, where a reader of the reactor costs many calls of Python.
"""

import select
from collections import defaultdict
from typing import Any, Protocol
from weakref import WeakKeyDictionary, ref

from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

from netsrv.gate import Gate, Permit
from netsrv.guards.sources import Source
from netsrv.uvreactor import socket_handle
from netsrv.uvreactor.interfaces import IReadableWatcher

BATCH_SIZE = 256
"""Connections that are served before other events get their turn."""


class Lingering(Protocol):
    """A connection that lingers."""

    permit: Permit
    source: Source | None

    def ready(self) -> bool:
        """Read, or write, what is possible; return False if the connection is over."""

    def finish(self) -> None:
        """Close the socket."""


@implementer(IReadDescriptor)
class LingerWatcher:
    """Watches the lingering connections of all listeners of one reactor.

    The uvloop reactor watches this object from the first connection on, other reactors only
    while there are any: to add and to remove a reader costs more than a connection.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = ref(reactor)
        self._native = IReadableWatcher.providedBy(reactor)
        self._epoll = select.epoll()
        self._connections: dict[int, Lingering] = {}
        if self._native:
            reactor.watchReadable(self._epoll.fileno(), self.doRead)

    def watch(self, descriptor: int, connection: Lingering, writes: bool = False) -> None:
        """Call ``connection.ready()`` while *descriptor* is readable, or writable if *writes*."""
        events = select.EPOLLOUT if writes else select.EPOLLIN
        connections = self._connections
        if descriptor in connections:
            self._epoll.modify(descriptor, events)
            return
        self._epoll.register(descriptor, events)
        if not (connections or self._native):
            self._reactor().addReader(self)  # type: ignore[union-attr]
        connections[descriptor] = connection

    def forget(self, descriptor: int) -> None:
        """Forget *descriptor*, if it is watched; the caller closes it."""
        connections = self._connections
        if connections.pop(descriptor, None) is None:
            return
        if socket_handle.forks:  # a process that has it too would keep it in the epoll object
            self._epoll.unregister(descriptor)
        if not (connections or self._native):
            self._reactor().removeReader(self)  # type: ignore[union-attr]

    def fileno(self) -> int:
        """Return the descriptor that the reactor watches."""
        return self._epoll.fileno()

    def logPrefix(self) -> str:
        """Return the name of this object in the reactor's log."""
        return type(self).__name__

    def doRead(self) -> None:
        """Serve the connections that are ready, and report those that are over."""
        over: defaultdict[Gate, list[Lingering]] = defaultdict(list)
        for descriptor, _events in self._epoll.poll(0, BATCH_SIZE):
            connection = self._connections.get(descriptor)
            if connection is not None and not connection.ready():
                connection.finish()
                over[connection.permit.gate].append(connection)
        for gate, connections in over.items():
            gate.connections_lost(connections, [connection.source for connection in connections])

    def connectionLost(self, reason: Any) -> None:
        """Do nothing: an epoll object has no error."""


_watchers: WeakKeyDictionary[Any, LingerWatcher] = WeakKeyDictionary()


def linger_watcher(reactor: Any) -> LingerWatcher:
    """Return the watcher of a reactor."""
    watcher = _watchers.get(reactor)
    if watcher is None:
        watcher = _watchers[reactor] = LingerWatcher(reactor)
    return watcher
