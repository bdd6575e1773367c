"""The processes of a measurement: servers on one core, the load on another.

The kernel kills them when the measurement's process ends, however it ends.
"""

import ctypes
import json
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.process.running import Running, interruptible
from tests.timeouts import TIMEOUT

TOP = Path(__file__).resolve().parent.parent
NATIVE = TOP / "bench" / "native"
PLUGINS = TOP / "bench" / "plugins"

COMPILER = "cc"
COMPILER_FLAGS = ["-O2", "-Wall", "-Wextra"]

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


class LoadError(Exception):
    """The server ended a connection or did not answer, or the load generator failed."""


def cores() -> tuple[int, int]:
    """Return the cores of the servers and of the load: the first and the last usable one."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


def bound_to(core: int) -> Callable[[], None]:
    """Return a ``preexec_fn`` that binds a child to a core and lets it die with its parent."""

    def prepare() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.sched_setaffinity(0, {core})
        interruptible()

    return prepare


def raise_descriptors() -> int:
    """Raise the limit of descriptors, which children inherit, to the hard one; return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def serving(command: list[str]) -> Running:
    """Start a server that can import the modules of the project and of the bench."""
    environ = {"PYTHONPATH": f"{PLUGINS}{os.pathsep}{TOP}"}
    return Running(command, TOP, environ, preexec_fn=bound_to(cores()[0]))


def compile_programs(folder: Path) -> str | None:
    """Compile the server and the load generator into *folder*; return the reason if that fails."""
    if shutil.which(COMPILER) is None:
        return f"there is no C compiler ({COMPILER})"
    for name in ("server", "load"):
        source = NATIVE / f"{name}.c"
        command = [COMPILER, *COMPILER_FLAGS, "-o", str(folder / name), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"{source.name} cannot be compiled: {done.stderr.strip().splitlines()[-1]}"
    return None


class Load:
    """The load generator, connected to a server; a context manager.

    Raises `LoadError` with the generator's error message if it cannot go on.
    """

    def __init__(self, program: Path, words: list[str]) -> None:
        self._process = subprocess.Popen(
            [program, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=bound_to(cores()[1]),  # noqa: PLW1509 - it takes no lock
        )
        self.pid = self._process.pid
        self._line()

    def __enter__(self) -> "Load":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.kill()
        self._process.communicate(timeout=TIMEOUT)

    def run(self, seconds: float, rate: float = 0) -> dict[str, Any]:
        """Run for some seconds, or for one message per peer if 0; return the figures.

        With a *rate*, that many messages a second are planned, and times count from the plan.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{seconds} {rate}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._fail()
        return dict(json.loads(self._line()))

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._fail()
        return line

    def _fail(self) -> None:
        self._process.kill()
        _, error = self._process.communicate(timeout=TIMEOUT)
        status = self._process.returncode
        reason = "no answer in time" if status == -signal.SIGALRM else f"status {status}"
        raise LoadError(error.strip() or f"load: {reason}")
