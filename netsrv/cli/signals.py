"""The signals of a server that has a process to itself: twistd and ``netsrv serve``.

The first SIGTERM or SIGINT begins a drain, in the way that the reactor ends; one that comes
during the drain aborts who is left.  SIGHUP reads the configuration again, and drains where
there is none to read.  SIGUSR1 opens our files again.  A server inside another program
touches no signal: nothing there calls this module.
"""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from netsrv.server.server import Server


def install_signal_handlers(
    reactor: Any, server: Server, reload: Callable[[], None] | None = None
) -> None:
    """Take the signals over as soon as the reactor has its own handlers in place.

    *reload* is called for SIGHUP, in the reactor's turn.
    """
    if reload is not None and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda number, frame: None)  # the file has just been read
    reactor.callWhenRunning(SignalHandlers(reactor, server, reload).install)


class SignalHandlers:
    """What the signals do; a handler only asks the reactor for it."""

    def __init__(self, reactor: Any, server: Server, reload: Callable[[], None] | None) -> None:
        self._reactor = reactor
        self._server = server
        self._reload = reload
        self._reload_waits = False
        self._ending = False
        self._shutdown_handlers: dict[int, Any] = {}
        self._rotate: Any = None

    def install(self) -> None:
        """Put our handlers in the place of those there are."""
        self._rotate = signal.getsignal(signal.SIGUSR1)  # twistd's, for its own log
        ends = [signal.SIGTERM, signal.SIGINT]
        self._shutdown_handlers = {number: signal.getsignal(number) for number in ends}
        self._shutdown_handlers[signal.SIGHUP] = lambda number, frame: self._ask(self._reactor.stop)
        handlers = dict.fromkeys((*ends, signal.SIGHUP), self._end)
        handlers[signal.SIGUSR1] = self._reopen
        if self._reload is not None:
            handlers[signal.SIGHUP] = self._on_hup
        for number, handler in handlers.items():
            by_us = callable(self._shutdown_handlers.get(number, handler))
            ignored = signal.getsignal(number) == signal.SIG_IGN  # by nohup, say
            if by_us and not ignored:
                signal.signal(number, handler)

    def _ask(self, call: Callable[[], Any]) -> None:
        self._reactor.callFromThread(call)

    def _end(self, number: int, frame: FrameType | None) -> None:
        if self._ending:
            self._ask(self._server.abort)
        else:
            self._ending = True
            self._shutdown_handlers[number](number, frame)

    def _reopen(self, number: int, frame: FrameType | None) -> None:
        if callable(self._rotate):
            self._rotate(number, frame)
        self._ask(self._server.reopen_files)

    def _on_hup(self, number: int, frame: FrameType | None) -> None:
        """Have the file read once, however many signals come until then."""
        if not self._reload_waits:
            self._reload_waits = True
            self._ask(self._reload_now)

    def _reload_now(self) -> None:
        self._reload_waits = False
        if self._reload is not None and not self._ending:
            self._reload()
