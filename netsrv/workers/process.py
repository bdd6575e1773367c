"""A process of the master: started by exec, watched, and reaped when it has ended.

Only the processes that were started here are waited for: the master may be process 1, which has
children that others have started.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

REAP_INTERVAL = 0.05
"""Seconds between attempts to reap a process where there is no pidfd."""

CHUNK_SIZE = 65_536
"""Bytes that are read from a pipe at once."""

MAX_LINE = 1 << 20
"""Bytes of a line that is passed on whole."""

MANAGER_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "FDSTORE")
"""Variables that are for the master alone."""

SIGNALS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
)
"""Signals that are for the master, though a terminal or a service manager sends them to all."""

_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[2:]; from {} import main; sys.exit(main(int(sys.argv[1])))"
)
"""The worker's program: its modules are those of the master, wherever it has found them."""


def spawn(program: str, order: int, output: int, inherited: Sequence[int]) -> int:
    """Start a worker and return its process id.

    *program* is the module with its ``main``, *order* the descriptor of its order, *output* that
    of its standard output and error.  A fork of a process with a reactor would share its
    descriptors and threads, so this is posix_spawn(3).  `SIGNALS` wait until the worker ignores
    them.  Raises OSError.
    """
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    command = [sys.executable, *flags, "-c", _PROGRAM.format(program), str(order), *sys.path]
    variables = {key: value for key, value in os.environ.items() if key not in MANAGER_VARIABLES}
    copies = [(os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
    copies += [(os.POSIX_SPAWN_DUP2, number, number) for number in (order, *inherited)]
    return os.posix_spawn(
        sys.executable,
        command,
        variables,
        file_actions=copies,  # a copy to itself is inherited
        setsigmask=SIGNALS,
        setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
    )


@implementer(IReadDescriptor)
class _Reader:
    """Reads from a descriptor in the reactor."""

    def __init__(self, reactor: Any, descriptor: int) -> None:
        self._reactor = reactor
        self._descriptor = descriptor
        reactor.addReader(self)

    def fileno(self) -> int:
        return self._descriptor

    def logPrefix(self) -> str:
        return type(self).__name__

    def doRead(self) -> None:
        """Read; overridden."""

    def connectionLost(self, reason: Any) -> None:
        """Close the descriptor."""
        self.close()

    def close(self) -> None:
        """Close the descriptor."""
        if self._descriptor != -1:
            self._reactor.removeReader(self)
            os.close(self._descriptor)
            self._descriptor = -1


class LinePipe(_Reader):
    """The read end of a pipe: calls *on_lines* with whole lines, in their order.

    *rest* is the begin of a line that was read before.
    """

    writer = -1
    """The other end, as long as this process has it."""

    def __init__(
        self,
        reactor: Any,
        descriptor: int,
        on_lines: Callable[[bytes], None],
        rest: bytes = b"",
    ) -> None:
        os.set_blocking(descriptor, False)
        self.rest = rest
        """What was read of a line that is not whole."""
        self._on_lines = on_lines
        super().__init__(reactor, descriptor)

    @classmethod
    def open(cls, reactor: Any, on_lines: Callable[[bytes], None]) -> "LinePipe":
        """Return a new pipe.  Raises OSError."""
        descriptor, writer = os.pipe()
        pipe = cls(reactor, descriptor, on_lines)
        pipe.writer = writer
        return pipe

    def doRead(self) -> None:
        """Read once."""
        self._read()

    def read_all(self) -> None:
        """Read what is there."""
        while self._descriptor != -1 and self._read():
            pass

    def finish(self) -> None:
        """Read what is left, with an end that is no whole line, and close."""
        self.read_all()
        if self.rest:
            self._on_lines(self.rest + b"\n")
            self.rest = b""
        self.close()

    def close_writer(self) -> None:
        """Close the other end in this process."""
        if self.writer != -1:
            os.close(self.writer)
            self.writer = -1

    def _read(self) -> bool:
        """Read once; return True if there may be more."""
        try:
            data = os.read(self._descriptor, CHUNK_SIZE)
        except BlockingIOError:
            return False
        if not data:
            self.close()
            return False
        lines, newline, rest = data.rpartition(b"\n")
        if newline:
            self._on_lines(self.rest + lines + newline)
            self.rest = rest
        else:
            self.rest += rest
        if len(self.rest) > MAX_LINE:
            self._on_lines(self.rest + b"\n")
            self.rest = b""
        return True


class _Pidfd(_Reader):
    """Becomes readable when a process has ended."""

    def __init__(self, reactor: Any, descriptor: int, on_exit: Callable[[], None]) -> None:
        self._on_exit = on_exit
        super().__init__(reactor, descriptor)

    def doRead(self) -> None:
        self.close()
        self._on_exit()


def watch(reactor: Any, pid: int, on_exit: Callable[[int], None]) -> None:
    """Call *on_exit* with the wait status of a child once it has ended."""

    def look() -> None:
        try:
            ended, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:  # other code has reaped it
            ended, status = pid, 0
        if ended:
            on_exit(status)
        else:
            reactor.callLater(REAP_INTERVAL, look)

    with suppress(OSError, AttributeError):
        _Pidfd(reactor, os.pidfd_open(pid), look)
        return
    look()


def reason_of(status: int) -> str:
    """Return the reason of an end as a label has it: ``exit 1``, ``SIGKILL``."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            return signal.Signals(number).name
        except ValueError:
            return f"signal {number}"
    return f"exit {os.waitstatus_to_exitcode(status)}"
