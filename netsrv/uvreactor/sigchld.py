"""The end of child processes.

Twisted asks Python to write signals to a descriptor of its own, which uvloop does too: so
SIGCHLD has an ordinary signal handler here.  libuv replaces that handler once a program starts
a child with asyncio; so the end of each child is noticed by its pidfd too, where there is one.
"""

import os
import signal
from collections.abc import Callable
from typing import Any

from twisted.internet.process import (
    reapAllProcesses,
    reapProcessHandlers,
    unregisterReapProcessHandler,
)

UNKNOWN_STATUS = 255 << 8
"""The wait status of a child whose own is lost: exit status 255, as asyncio has it."""


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


def watch_child(loop: Any, process: Any) -> None:
    """Reap *process*, a transport of ``spawnProcess``, in *loop* when its pidfd says it has ended.

    Do nothing if the system has no pidfd, or no descriptor for it: SIGCHLD remains.
    """
    pid = process.pid
    if pid is None or not hasattr(os, "pidfd_open"):
        return
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return
    loop.add_reader(descriptor, _child_ended, loop, descriptor, pid, process)


def _child_ended(loop: Any, descriptor: int, pid: int, process: Any) -> None:
    loop.remove_reader(descriptor)
    try:
        if reapProcessHandlers.get(pid) is process:
            _reap(descriptor, pid, process)
    finally:
        os.close(descriptor)


def _reap(descriptor: int, pid: int, process: Any) -> None:
    """Reap an ended child; report it even if the kernel has done so, as SIGCHLD was ignored."""
    try:
        os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        unregisterReapProcessHandler(pid, process)
        process.processEnded(UNKNOWN_STATUS)
    else:
        process.reapProcess()
