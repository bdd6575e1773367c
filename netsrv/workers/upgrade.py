"""An upgrade: the master executes its program again, in the same process.

Sockets and workers are kept: a *handover* has their descriptors and process ids, in a file without
a name.  The program that takes it over supervises the same workers, then replaces them by its own.
"""

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any

from attrs import asdict, frozen

from netsrv.config.model import ConfigurationError
from netsrv.sockets.inherited import VARIABLES, inherited_sockets
from netsrv.sockets.opening import OpenSocket
from netsrv.workers.orders import read_object, write_object
from netsrv.workers.process import LinePipe, reason_of, watch

CHECK_TIMEOUT = 30.0
"""Seconds that the next program may take for ``--check``."""

MAX_LINES = 20
"""Lines of a failed check that are logged."""

VERSION = 1
"""The version of the form of a handover."""

_CHECKED = "version "
"""Stands before the version in the variable of a program that only checks whether it takes it."""


@frozen
class HandedSocket:
    """A socket that is handed over."""

    descriptor: int
    label: str
    unix_identity: Sequence[Any] | None


@frozen
class HandedListener:
    """A listener with its sockets."""

    index: int
    sockets: list[HandedSocket]


@frozen
class HandedPipe:
    """The read end of a pipe, and what was read of a line that is not whole."""

    descriptor: int
    rest: str


@frozen
class HandedWorker:
    """The process of a worker."""

    number: int
    index: int
    slots: list[int]
    phase: str
    since: float
    pid: int
    control: HandedPipe
    pipes: list[HandedPipe]
    counts: dict[str, Any]
    state: dict[str, Any] | None


@frozen
class Handover:
    """All that the next program needs."""

    target: tuple[int, int]
    """How many workers and slots there are."""
    file_text: str | None
    listeners: list[HandedListener]
    status_sockets: list[HandedSocket]
    workers: list[HandedWorker]
    limits: dict[str, Any]
    """Where limits are counted: see `netsrv.workers.memory.ColumnAllocator`."""
    status: dict[str, Any]
    """What workers have counted that have ended: see `netsrv.workers.status.WorkersStatus`."""

    @property
    def descriptors(self) -> Iterable[int]:
        """The descriptors that stay open."""
        for listener in self.listeners:
            yield from (entry.descriptor for entry in listener.sockets)
        yield from (entry.descriptor for entry in self.status_sockets)
        yield from self.limits["descriptors"]
        for worker in self.workers:
            yield from (pipe.descriptor for pipe in (worker.control, *worker.pipes))


def hand_socket(opened: OpenSocket) -> HandedSocket:
    """Return a socket as it is handed over."""
    return HandedSocket(opened.sock.fileno(), opened.label, opened.unix_identity)


def execute(
    handover: Handover,
    environ: Mapping[str, str],
    variable: str,
    held: Sequence[signal.Signals],
) -> None:
    """Execute the program of this process again; *environ* is the environment of its start.

    The program finds the handover by the environment *variable*.  The signals *held* wait until it
    handles them.  Raises OSError, and then nothing has changed.
    """
    inherited = inherited_sockets()
    passed = [entry.sock.fileno() for entry in inherited.sockets if entry.sock]
    if inherited.stored:  # some of the descriptors that the variables count are closed
        environ = without_sockets(environ)
    file = write_object(asdict(handover))
    kept = [file, *passed, *handover.descriptors]
    for descriptor in kept:
        os.set_inheritable(descriptor, True)
    signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        os.execve(sys.executable, own_command(), {**environ, variable: str(file)})
    except OSError:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, held)
        for descriptor in kept:
            os.set_inheritable(descriptor, False)
        os.close(file)
        raise


def without_sockets(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process to which the service manager passes no sockets."""
    return {name: value for name, value in environ.items() if name not in VARIABLES}


def own_command() -> list[str]:
    """Return the command of this process, as it was started."""
    return [sys.executable, *sys.orig_argv[1:]]


def check_program(
    reactor: Any,
    environ: Mapping[str, str],
    variable: str,
    done: Callable[[Sequence[str] | None], None],
) -> None:
    """Execute the program in another process with ``--check``.

    *variable* is that of `execute`.  Calls *done* with None if all is well, or with the lines that
    it has printed.  Raises OSError.
    """
    output: list[bytes] = []
    pipe = LinePipe.open(reactor, output.append)
    try:
        pid = os.posix_spawn(
            sys.executable,
            [*own_command(), "--check"],
            {**without_sockets(environ), variable: f"{_CHECKED}{VERSION}"},
            file_actions=[(os.POSIX_SPAWN_DUP2, pipe.writer, number) for number in (1, 2)],
            setsigmask=(),
        )
    except OSError:
        pipe.close()
        raise
    finally:
        pipe.close_writer()
    timeout = reactor.callLater(CHECK_TIMEOUT, os.kill, pid, signal.SIGKILL)

    def ended(status: int) -> None:
        if timeout.active():
            timeout.cancel()
        pipe.finish()
        lines = b"".join(output).decode(errors="backslashreplace").splitlines()
        done(None if status == 0 else [*lines[-MAX_LINES:], f"--check: {reason_of(status)}"])

    watch(reactor, pid, ended)


def take_handover(environ: MutableMapping[str, str], variable: str) -> Handover | None:
    """Return what an earlier program of this process has left, as *variable* says, once.

    Returns None in the check of `check_program`.  Raises `ConfigurationError` if the program that
    runs hands over in another form than this one takes.
    """
    left = environ.pop(variable)
    if left == f"{_CHECKED}{VERSION}":
        return None
    if left.startswith(_CHECKED):
        text = "the program that runs cannot hand over to this one: restart it"
        raise ConfigurationError(text)
    value = read_object(int(left))
    handover = Handover(
        **{
            **value,
            "listeners": [_listener(entry) for entry in value["listeners"]],
            "status_sockets": [HandedSocket(**entry) for entry in value["status_sockets"]],
            "workers": [_worker(entry) for entry in value["workers"]],
        }
    )
    for descriptor in handover.descriptors:
        os.set_inheritable(descriptor, False)
    return handover


def _listener(value: dict[str, Any]) -> HandedListener:
    return HandedListener(value["index"], [HandedSocket(**entry) for entry in value["sockets"]])


def _worker(value: dict[str, Any]) -> HandedWorker:
    pipes = [HandedPipe(**entry) for entry in value["pipes"]]
    return HandedWorker(**{**value, "control": HandedPipe(**value["control"]), "pipes": pipes})


def take_socket(handed: HandedSocket) -> OpenSocket:
    """Return a socket that was handed over."""
    sock = socket.socket(fileno=handed.descriptor)
    sock.setblocking(False)
    identity = None if handed.unix_identity is None else tuple(handed.unix_identity)
    return OpenSocket(sock, handed.label, (), identity)
