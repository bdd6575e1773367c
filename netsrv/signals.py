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

from netsrv.server import Server


def handle_signals(reactor: Any, server: Server, reload: Callable[[], None] | None = None) -> None:
    """Take the signals over as soon as the reactor has its own handlers in place.

    *reload* is called for SIGHUP, in the reactor's turn.
    """
    reactor.callWhenRunning(_take_over, reactor, server, reload)


def _take_over(reactor: Any, server: Server, reload: Callable[[], None] | None) -> None:
    told = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal told
        if told:
            reactor.callFromThread(server.abort)
        else:
            told = True
            enders[number](number, frame)

    def read_again(number: int, frame: FrameType | None) -> None:
        if not told:
            reactor.callFromThread(reload)

    def reopen(number: int, frame: FrameType | None) -> None:
        if callable(rotate):
            rotate(number, frame)
        reactor.callFromThread(server.reopen_files)

    rotate = signal.getsignal(signal.SIGUSR1)  # twistd's, for its own log
    enders: dict[int, Any] = {
        signal.SIGTERM: signal.getsignal(signal.SIGTERM),
        signal.SIGINT: signal.getsignal(signal.SIGINT),
    }
    handlers: dict[int, Any] = {signal.SIGUSR1: reopen}
    if reload is None:
        enders[signal.SIGHUP] = lambda number, frame: reactor.callFromThread(reactor.stop)
    else:
        handlers[signal.SIGHUP] = read_again
    handlers.update((number, end) for number, handler in enders.items() if callable(handler))
    for number, handler in handlers.items():
        ignored = signal.getsignal(number) == signal.SIG_IGN  # by nohup, say
        if not ignored:
            signal.signal(number, handler)
