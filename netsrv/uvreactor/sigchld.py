"""The end of child processes.

Twisted asks Python to write signals to a descriptor of its own, which uvloop does too: so
SIGCHLD comes as an ordinary signal handler here.
"""

import signal
from collections.abc import Callable
from typing import Any

from twisted.internet.process import reapAllProcesses


class SigchldHandler:
    """Has children that have ended noticed, by means of *from_signal*, a `callFromThread`."""

    def __init__(self, from_signal: Callable[..., Any]) -> None:
        self._from_signal = from_signal

    def install(self) -> None:
        """Notice from now on, first those who have ended before."""
        signal.signal(signal.SIGCHLD, self._ended)
        signal.siginterrupt(signal.SIGCHLD, False)
        reapAllProcesses()

    def uninstall(self) -> None:
        """Notice no more."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def _ended(self, number: int, frame: Any) -> None:
        self._from_signal(reapAllProcesses)
