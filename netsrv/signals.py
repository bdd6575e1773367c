"""The signals of a server that has a process to itself: twistd and ``netsrv serve``.

The first SIGTERM, SIGINT or SIGHUP begins a drain, in the way that the reactor ends; one
that comes during the drain aborts who is left.  A server inside another program
touches no signal: nothing there calls this module.
"""

import signal
from types import FrameType
from typing import Any

from netsrv.server import Server


def handle_signals(reactor: Any, server: Server) -> None:
    """Take the signals over as soon as the reactor has its own handlers in place."""
    reactor.callWhenRunning(_take_over, reactor, server)


def _take_over(reactor: Any, server: Server) -> None:
    told = False
    handlers: dict[int, Any] = {
        signal.SIGTERM: signal.getsignal(signal.SIGTERM),
        signal.SIGINT: signal.getsignal(signal.SIGINT),
        signal.SIGHUP: lambda number, frame: reactor.callFromThread(reactor.stop),
    }

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal told
        if told:
            reactor.callFromThread(server.abort)
        else:
            told = True
            handlers[number](number, frame)

    if signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # there is no log to rotate
    for number, handler in handlers.items():
        ignored = signal.getsignal(number) == signal.SIG_IGN  # by nohup, say
        if callable(handler) and not ignored:
            signal.signal(number, handle)
