"""The signals of a server that owns its process: twistd and ``netsrv serve``.

The first SIGTERM or SIGINT starts a drain, by the way in which the reactor stops; a second one
aborts the connections that are left.  SIGHUP reloads the configuration, or drains if there is no
file.  SIGUSR1 reopens our files.  Signals that come before the handlers are in place wait for
them.  An embedded server touches no signal: its program does not call this module.

The module imports little, since signals are held first of all.
"""

from __future__ import annotations

import atexit
import signal
from collections.abc import Callable, Mapping
from types import FrameType, MappingProxyType
from typing import Any, Protocol

WORKER_SIGNALS = (signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU)
"""Signals that only a master handles; to any other process they do what they do by default."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, *WORKER_SIGNALS)


def hold_signals() -> None:
    """Let the signals of this module wait until `release_signals`.

    They are ignored in the interpreter's last moments, in which it has no handlers any more.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    atexit.register(ignore_signals)


def release_signals() -> None:
    """Deliver the signals that were held."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def ignore_signals() -> None:
    """Ignore the signals of this module from now on."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class Drainable(Protocol):
    """A server, or the master of several."""

    def abort(self) -> None:
        """Abort the connections that are left."""

    def reopen_files(self) -> None:
        """Reopen the files of the server."""


def install_signal_handlers(
    reactor: Any,
    server: Drainable,
    reload: Callable[[], None] | None = None,
    others: Mapping[signal.Signals, Callable[[], None]] = MappingProxyType({}),
) -> None:
    """Install the handlers as soon as the reactor has installed its own.

    *reload* is called for SIGHUP, those of *others* for their signals, in the reactor's turn.
    """
    reactor.callWhenRunning(SignalHandlers(reactor, server, reload, others).install)


class SignalHandlers:
    """The handlers; each one only schedules a call in the reactor."""

    def __init__(
        self,
        reactor: Any,
        server: Drainable,
        reload: Callable[[], None] | None,
        others: Mapping[signal.Signals, Callable[[], None]],
    ) -> None:
        self._reactor = reactor
        self._server = server
        self._reload = reload
        self._others = others
        self._reload_scheduled = False
        self._draining = False
        self._shutdown_handlers: dict[int, Any] = {}
        self._rotate: Any = None

    def install(self) -> None:
        """Replace the present handlers, and release the signals that were held."""
        self._rotate = signal.getsignal(signal.SIGUSR1)  # that of twistd, for its own log
        shutdown = [signal.SIGTERM, signal.SIGINT]
        self._shutdown_handlers = {number: signal.getsignal(number) for number in shutdown}
        self._shutdown_handlers[signal.SIGHUP] = lambda number, frame: self._schedule(
            self._reactor.stop
        )
        handlers = dict.fromkeys((*shutdown, signal.SIGHUP), self._shutdown)
        handlers[signal.SIGUSR1] = self._reopen
        if self._reload is not None:
            handlers[signal.SIGHUP] = self._on_hup
        for number, handler in handlers.items():
            handled = callable(self._shutdown_handlers.get(number, handler))
            ignored = signal.getsignal(number) == signal.SIG_IGN  # by nohup, say
            if handled and (not ignored or handler == self._on_hup):
                signal.signal(number, handler)
        for number in self._others:
            signal.signal(number, self._on_other)
        release_signals()

    def _schedule(self, call: Callable[[], Any]) -> None:
        self._reactor.callFromThread(call)

    def _shutdown(self, number: int, frame: FrameType | None) -> None:
        if self._draining:
            self._schedule(self._server.abort)
        else:
            self._draining = True
            self._shutdown_handlers[number](number, frame)

    def _reopen(self, number: int, frame: FrameType | None) -> None:
        if callable(self._rotate):
            self._rotate(number, frame)
        self._schedule(self._server.reopen_files)

    def _on_hup(self, number: int, frame: FrameType | None) -> None:
        """Schedule one reload, however many signals arrive until then."""
        if not self._reload_scheduled:
            self._reload_scheduled = True
            self._schedule(self._reload_now)

    def _on_other(self, number: int, frame: FrameType | None) -> None:
        if not self._draining:
            self._schedule(self._others[signal.Signals(number)])

    def _reload_now(self) -> None:
        self._reload_scheduled = False
        if self._reload is not None and not self._draining:
            self._reload()
