"""The first process of a container: it passes signals on, and ends the zombies of others.

Every process of the container whose parent ends becomes a child of process 1, and stays a zombie
until process 1 waits for it.  A server must not wait for children that it does not know: their exit
status may belong to other code of its process, such as `subprocess`.  So the server is a child, and
process 1 is this loop.
"""

import os
import signal
from collections.abc import MutableMapping
from contextlib import suppress

PID_VARIABLES = ("LISTEN_PID", "WATCHDOG_PID")
"""What systemd and podman set to the number of the process that they have started."""


def continue_in_child(environ: MutableMapping[str, str]) -> None:
    """Return in a child process; this process ends when the child does, with its exit status.

    Signals that the caller blocks stay blocked in the child.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    number = str(os.getpid())
    child = os.fork()
    if child:
        os._exit(_supervise(child))
    os.setsid()  # Control-C in a terminal comes to process 1 only, which passes it on
    for name in PID_VARIABLES:
        if environ.get(name) == number:
            environ[name] = str(os.getpid())
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _supervise(child: int) -> int:
    """Pass signals to *child* until it ends, and return its exit status."""
    while True:
        number = signal.sigwait(signal.valid_signals())
        if number != signal.SIGCHLD:
            with suppress(ProcessLookupError):
                os.kill(child, number)
        elif (status := _reap(child)) is not None:
            return status


def _reap(child: int) -> int | None:
    """Wait for all that has ended; return the exit status of *child*, as a shell has it."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                status = os.waitstatus_to_exitcode(ended[1])
                return status if status >= 0 else 128 - status
    return None
