"""SIGCHLD: the end of child processes.

Twisted asks Python to write signals to a descriptor of its own, which uvloop does too: so
SIGCHLD has an ordinary signal handler here.
"""

import signal
from collections.abc import Callable
from typing import Any

from twisted.internet.process import reapAllProcesses


class SigchldHandler:
    """Makes Twisted reap child processes; *from_signal* is the reactor's `callFromThread`."""

    def __init__(self, from_signal: Callable[..., Any]) -> None:
        self._from_signal = from_signal

    def install(self) -> None:
        """Install the handler, and reap the children that have already ended."""
        signal.signal(signal.SIGCHLD, self._ended)
        signal.siginterrupt(signal.SIGCHLD, False)
        reapAllProcesses()

    def uninstall(self) -> None:
        """Restore the default handler."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def _ended(self, number: int, frame: Any) -> None:
        self._from_signal(reapAllProcesses)
