"""The commands that start netsrv, and the exit statuses of a failed start."""

import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.process.running import located
from tests.timeouts import TIMEOUT


@dataclass(frozen=True)
class Start:
    """A command that serves, without its options, and its exit statuses."""

    command: tuple[str, ...]
    unavailable: int = 1
    misconfigured: int = 1
    drained: int = -signal.SIGTERM
    """Twisted's commands end by the signal that they received."""

    def __str__(self) -> str:
        return self.command[0]

    @property
    def located(self) -> list[str]:
        """The command for another program to start."""
        return located(self.command)


SERVE = Start(("netsrv", "serve"), unavailable=69, misconfigured=78, drained=0)
TWISTD = Start(("twistd", "-n", "--pidfile=", "netsrv"))
TWIST = Start(("twist", "--log-format=text", "netsrv"))

EPOLL = Start(("twistd", "-n", "--pidfile=", "--reactor=epoll", "netsrv"))
"""netsrv on one of Twisted's own reactors."""

each_start = pytest.mark.parametrize("start", [SERVE, TWISTD, TWIST], ids=str)


def finish(
    command: Sequence[str],
    cwd: Path,
    env: dict[str, str] | None = None,
    timeout: float = TIMEOUT,
    **popen: Any,
) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself; raises TimeoutExpired after *timeout* seconds."""
    return subprocess.run(
        located(command),
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        **popen,
    )


def only_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return the single line that a failed start has printed, on standard error."""
    assert done.stdout == ""
    assert done.stderr.endswith("\n")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr[:-1]
