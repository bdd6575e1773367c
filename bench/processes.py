"""The processes of a measurement: servers on one core, the load on another.

Whatever becomes of the measurement, they end with it: the kernel kills them when their
parent is gone.
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
OPTIMIZED = ["-O2", "-Wall", "-Wextra"]

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


class LoadError(Exception):
    """The load could not be put on a server: it ended a connection, or did not answer."""


def cores() -> tuple[int, int]:
    """Give the cores of the servers and of the load: the first and the last that we may use."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


def bound_to(core: int) -> Callable[[], None]:
    """Give what a child does before it becomes a program: it stays on a core, and dies with us."""

    def prepare() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.sched_setaffinity(0, {core})
        interruptible()

    return prepare


def raise_descriptors() -> int:
    """Allow ourselves, and so those we start, as many descriptors as we may; give the number."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def serving(command: list[str]) -> Running:
    """Start a server; it runs where the project's modules and those of the bench are found."""
    environ = {"PYTHONPATH": f"{PLUGINS}{os.pathsep}{TOP}"}
    return Running(command, TOP, environ, preexec_fn=bound_to(cores()[0]))


def compile_programs(folder: Path) -> str | None:
    """Compile the servers and the load generator into *folder*; else give the reason why not."""
    if shutil.which(COMPILER) is None:
        return f"there is no C compiler ({COMPILER})"
    for name in ("server", "load"):
        source = NATIVE / f"{name}.c"
        command = [COMPILER, *OPTIMIZED, "-o", str(folder / name), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"{source.name} cannot be compiled: {done.stderr.strip().splitlines()[-1]}"
    return None


class Load:
    """The load generator, connected to a server.  Use it in a ``with`` statement.

    Raises `LoadError` where it cannot go on, with what it says of that.
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

    def run(self, seconds: float) -> dict[str, Any]:
        """Have it work for so long, or send one message for each peer if 0; give its figures."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{seconds}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._give_up()
        return dict(json.loads(self._line()))

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._give_up()
        return line

    def _give_up(self) -> None:
        self._process.kill()
        _, said = self._process.communicate(timeout=TIMEOUT)
        status = self._process.returncode
        reason = "it waited in vain" if status == -signal.SIGALRM else f"status {status}"
        raise LoadError(said.strip() or f"load: {reason}")
