"""Calls in a thread of their own, which ends with the call.

The threads of a reactor's pool stay, and a second thread makes what the server does slower: each
system call with a descriptor then has the kernel count the descriptor's users.
"""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorThreads
from twisted.python.failure import Failure

Result = TypeVar("Result")


def call_in_thread(reactor: Any, function: Callable[..., Result], *args: Any) -> Deferred[Result]:
    """Call *function* in a thread, and return its result or failure.

    It is called at once if *reactor* has no threads, as a clock of a test, or if none can be
    started.
    """
    if not IReactorThreads.providedBy(reactor):
        return maybeDeferred(function, *args)
    called: Deferred[Result] = Deferred()

    def run() -> None:
        try:
            result = function(*args)
        except BaseException:  # as Twisted: not even SystemExit ends the server
            reactor.callFromThread(called.errback, Failure())
        else:
            reactor.callFromThread(called.callback, result)

    try:
        threading.Thread(target=run, name="netsrv", daemon=True).start()
    except RuntimeError:
        return maybeDeferred(function, *args)
    return called
