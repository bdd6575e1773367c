"""Watches the descriptors of Twisted's own transports with an epoll object beside uvloop's.

uvloop stops watching a descriptor that has an error (EPOLLERR), after one last call of its reader.
But a socket that was reset may still have data to read, and a datagram socket works on after an
error.  An epoll object is a descriptor that never has an error, so uvloop watches only that.
"""

import select
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.python.log import callWithLogger

TO_READ = select.EPOLLIN | select.EPOLLERR | select.EPOLLHUP
TO_WRITE = select.EPOLLOUT | select.EPOLLERR | select.EPOLLHUP
"""A reader learns of an error by reading, a writer by writing."""

BATCH_SIZE = 256
"""Descriptors that are served before uvloop polls its own."""


class EpollWatcher:
    """Watches the descriptors of readers and writers.

    *ready* is called with a reader and True, or with a writer and False, in a copy of the
    context in which that began to be watched, as an asyncio event loop does.
    """

    def __init__(self, loop: Any, ready: Callable[[Any, bool], None]) -> None:
        self._ready = ready
        self._epoll = select.epoll()
        self.readers: dict[int, Any] = {}
        self.writers: dict[int, Any] = {}
        self._contexts: dict[tuple[int, bool], Context] = {}
        loop.add_reader(self._epoll.fileno(), self._turn)

    def add_reader(self, reader: Any) -> None:
        """Watch a reader.  Raises PermissionError for a regular file, which is always readable."""
        descriptor = reader.fileno()
        if self.readers.get(descriptor) is not reader:
            self._watch(descriptor, True, descriptor in self.writers)
            self.readers[descriptor] = reader
            self._contexts[descriptor, True] = copy_context()

    def add_writer(self, writer: Any) -> None:
        """Watch a writer.  Raises PermissionError for a regular file, which is always writable."""
        descriptor = writer.fileno()
        if self.writers.get(descriptor) is not writer:
            self._watch(descriptor, descriptor in self.readers, True)
            self.writers[descriptor] = writer
            self._contexts[descriptor, False] = copy_context()

    def remove_reader(self, reader: Any) -> None:
        """Stop watching a reader; do nothing if it is not watched."""
        descriptor = self._forget(self.readers, reader)
        if descriptor is not None:
            self._watch(descriptor, False, descriptor in self.writers)

    def remove_writer(self, writer: Any) -> None:
        """Stop watching a writer; do nothing if it is not watched."""
        descriptor = self._forget(self.writers, writer)
        if descriptor is not None:
            self._watch(descriptor, descriptor in self.readers, False)

    def set_context(self, descriptor: int, context: Context) -> None:
        """Call the reader of *descriptor*, if it has one, in *context* itself."""
        if descriptor in self.readers:
            self._contexts[descriptor, True] = context

    def _forget(self, watched: dict[int, Any], selectable: Any) -> int | None:
        """Remove *selectable* from *watched*; return its descriptor, or None if it is not there."""
        descriptor = selectable.fileno()
        if descriptor == -1:  # it is closed already
            descriptor = next((fd for fd, other in watched.items() if other is selectable), -1)
        if watched.get(descriptor) is not selectable:
            return None
        del watched[descriptor]
        del self._contexts[descriptor, watched is self.readers]
        return int(descriptor)

    def _watch(self, descriptor: int, reads: bool, writes: bool) -> None:
        events = (select.EPOLLIN if reads else 0) | (select.EPOLLOUT if writes else 0)
        if not events:
            with suppress(OSError):  # it is closed already
                self._epoll.unregister(descriptor)
            return
        try:
            self._epoll.modify(descriptor, events)
        except FileNotFoundError:
            self._epoll.register(descriptor, events)

    def _turn(self) -> None:
        for descriptor, events in self._epoll.poll(0, BATCH_SIZE):
            if events & TO_READ:
                reader = self.readers.get(descriptor)
                if reader is not None:
                    context = self._contexts[descriptor, True]
                    context.run(callWithLogger, reader, self._ready, reader, True)
            if events & TO_WRITE:
                writer = self.writers.get(descriptor)
                if writer is not None:
                    context = self._contexts[descriptor, False]
                    context.run(callWithLogger, writer, self._ready, writer, False)


class WatchingReactor(AsyncioSelectorReactor):
    """Twisted's reactor for asyncio, with another way to watch descriptors."""

    def __init__(self, loop: Any) -> None:
        self._watcher = EpollWatcher(loop, self._readOrWrite)
        super().__init__(loop)

    def addReader(self, reader: Any) -> None:
        try:
            self._watcher.add_reader(reader)
        except PermissionError:
            self._continuousPolling.addReader(reader)

    def addWriter(self, writer: Any) -> None:
        try:
            self._watcher.add_writer(writer)
        except PermissionError:
            self._continuousPolling.addWriter(writer)

    def removeReader(self, reader: Any) -> None:
        self._watcher.remove_reader(reader)
        self._continuousPolling.removeReader(reader)

    def removeWriter(self, writer: Any) -> None:
        self._watcher.remove_writer(writer)
        self._continuousPolling.removeWriter(writer)

    def removeAll(self) -> list[Any]:
        watched = self._removeAll(
            list(self._watcher.readers.values()), list(self._watcher.writers.values())
        )
        return [*watched, *self._continuousPolling.removeAll()]

    def getReaders(self) -> list[Any]:
        return [*self._watcher.readers.values(), *self._continuousPolling.getReaders()]

    def getWriters(self) -> list[Any]:
        return [*self._watcher.writers.values(), *self._continuousPolling.getWriters()]
