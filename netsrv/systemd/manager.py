"""Keeps the service manager informed: that the server is ready, how it is, that it ends.

All messages but the first come from timers of the reactor.  So the watchdog's are missing while
the reactor is blocked, and the manager restarts a server that serves no peer.
"""

import time
from collections.abc import Callable
from typing import Any

from netsrv.interfaces import ListenerInfo
from netsrv.observers.dispatch import Observer
from netsrv.sockets.opening import OpenSocket
from netsrv.systemd.notifier import Notifier
from netsrv.systemd.store import DescriptorStore

STATUS_INTERVAL = 5.0
"""Seconds from one look at the server's state to the next."""

EXTENSION = 15.0
"""Seconds by which a drain extends the manager's time limit, at each look."""


class ManagerNotifications(Observer):
    """The notifications of one server.

    *clock* provides IReactorTime.  *watchdog_timeout* is in seconds, 0 for none.  *describe*
    returns the state of the server as a line of text; True says that it drains.  *socket_of*
    returns the transport and the socket of a listener if the store may have it.
    """

    def __init__(
        self,
        clock: Any,
        notifier: Notifier,
        watchdog_timeout: float,
        store: DescriptorStore,
        describe: Callable[[bool], str],
        socket_of: Callable[[ListenerInfo], tuple[str, OpenSocket] | None],
    ) -> None:
        self._clock = clock
        self._notifier = notifier
        self._ping_interval = watchdog_timeout / 2
        self._store = store
        self._describe = describe
        self._socket_of = socket_of
        self._status = ""
        self._draining = False
        self._timers: dict[Callable[[], None], Any] = {}
        self._unsent: list[str] = []

    def ready(self) -> None:
        """Say that all listeners serve."""
        self._notify("READY=1")
        self._look()
        if self._ping_interval:
            self._ping()

    def reloading(self) -> None:
        """Say that a reload begins; `reloaded` follows."""
        if not self._draining:
            microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            self._notify("RELOADING=1", f"MONOTONIC_USEC={microseconds}")

    def reloaded(self) -> None:
        """Say that a reload has ended, whatever came of it."""
        if not self._draining:
            self._notify("READY=1")

    def stopping(self) -> None:
        """Say that the server ends, and leave its sockets in the store."""
        self._draining = True
        self._store.freeze()
        self._notify("STOPPING=1")
        self._cancel(self._look)
        self._look()

    def stop(self) -> None:
        """Stop the timers."""
        for call in list(self._timers):
            self._cancel(call)

    # Events of listeners

    def listener_started(self, listener: ListenerInfo) -> None:
        self._keep(listener)

    def listener_reopened(self, listener: ListenerInfo) -> None:
        self._keep(listener)

    def listener_failed(self, listener: ListenerInfo, error: OSError, reopening: bool) -> None:
        if entry := self._socket_of(listener):
            self._store.release(entry[1])

    def _keep(self, listener: ListenerInfo) -> None:
        if entry := self._socket_of(listener):
            self._store.keep(*entry)

    # Timers

    def _look(self) -> None:
        """Send what has changed, and what could not be sent before."""
        unsent, self._unsent = self._unsent, []
        for message in unsent:
            self._notify(message)
        status = self._describe(self._draining)
        if status != self._status and self._notifier.send(f"STATUS={status}"):
            self._status = status
        if self._draining:
            self._notifier.send(f"EXTEND_TIMEOUT_USEC={int(EXTENSION * 1_000_000)}")
        self._call_later(STATUS_INTERVAL, self._look)

    def _ping(self) -> None:
        self._notifier.send("WATCHDOG=1")
        self._call_later(self._ping_interval, self._ping)

    def _notify(self, *assignments: str) -> None:
        """Send a message that must not be lost: again at the next look if it cannot be sent."""
        if not self._notifier.send(*assignments):
            self._unsent.append("\n".join(assignments))

    def _call_later(self, delay: float, call: Callable[[], None]) -> None:
        self._timers[call] = self._clock.callLater(delay, call)

    def _cancel(self, call: Callable[[], None]) -> None:
        timer = self._timers.pop(call, None)
        if timer is not None and timer.active():
            timer.cancel()
