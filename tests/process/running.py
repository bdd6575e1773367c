"""Processes started by tests: their output is watched line by line, and they end with the test."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.timeouts import TIMEOUT

BIN = Path(sys.executable).parent
"""The directory of this Python's twistd, twist, trial and netsrv."""


class Running:
    """A process whose standard output and error can be waited for.

    A command without a slash is looked up in `BIN`; *popen* are further arguments of
    `subprocess.Popen`.  Use it in a ``with`` statement, which kills a process that still runs.
    """

    def __init__(
        self,
        command: Sequence[str],
        cwd: Path,
        env: dict[str, str] | None = None,
        **popen: Any,
    ) -> None:
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self.process = subprocess.Popen(
            located(command),
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            **{"stderr": subprocess.STDOUT, "preexec_fn": interruptible, **popen},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(TIMEOUT)
        self._reader.join(TIMEOUT)

    @property
    def output(self) -> str:
        """All output so far."""
        return "\n".join(self.lines)

    def wait_for(self, pattern: str, times: int = 1) -> re.Match[str]:
        """Wait until *times* lines match, and return the last match."""
        with self._news:
            found: list[re.Match[str]] = []

            def enough() -> bool:
                found[:] = [m for m in (re.search(pattern, each) for each in self.lines) if m]
                return len(found) >= times or self._ended

            if not self._news.wait_for(enough, TIMEOUT) or len(found) < times:
                raise AssertionError(f"no {times} lines like {pattern!r} in:\n{self.output}")
            return found[times - 1]

    def port(self, transport: str, number: int = 1) -> int:
        """Wait for the *number*th listener of a transport, and return its port."""
        match = self.wait_for(rf"Waiting for \w+ on {transport} \S+:(\d+) ", number)
        return int(match[1])

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and return the exit status: negative if a signal ended the process."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the process to end, and return the exit status."""
        status = self.process.wait(TIMEOUT)
        self._reader.join(TIMEOUT)
        return status

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            for line in stream:
                with self._news:
                    self.lines.append(line.rstrip("\n"))
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()


@contextmanager
def killed_at_end(command: Sequence[str], **popen: Any) -> Iterator[subprocess.Popen[Any]]:
    """Run a command until the block ends, or for `TIMEOUT` seconds; then kill its process.

    At the end of a ``with`` statement, `subprocess.Popen` waits for its process, which may
    never end if the block has raised; and a block that reads its output may wait forever.
    """
    with subprocess.Popen(command, **popen) as process:
        deadline = threading.Timer(TIMEOUT, process.kill)
        deadline.start()
        try:
            yield process
        finally:
            deadline.cancel()
            process.kill()


def free_port() -> int:
    """Return a port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


def still_runs(process: subprocess.Popen[Any]) -> bool:
    """Return True if a process has not ended within the next hundredth of a second."""
    try:
        process.wait(0.01)
    except subprocess.TimeoutExpired:
        return True
    return False


def interruptible() -> None:
    """Restore SIGINT and SIGHUP, which a background shell or nohup ignores."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def located(command: Sequence[str]) -> list[str]:
    """Return the command with the path of its program; one without a slash is in `BIN`."""
    program = command[0] if "/" in command[0] else str(BIN / command[0])
    return [program, *command[1:]]
