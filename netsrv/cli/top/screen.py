"""The terminal while ``netsrv top`` has it: keys one by one, the other screen, no cursor.

It is restored however the block ends: by a key, an exception or a signal.
"""

import os
import re
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from rich.console import Console, RenderableType
from rich.screen import Screen as Whole

ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

KEYS = {
    "\x1b[A": "up",
    "\x1b[B": "down",
    "\x1bOA": "up",
    "\x1bOB": "down",
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "\x1b[H": "home",
    "\x1b[F": "end",
    "\x1b[1~": "home",
    "\x1b[4~": "end",
    "\x1b": "escape",
    "\r": "enter",
    "\n": "enter",
    "\t": "tab",
    "\x7f": "backspace",
    "\x08": "backspace",
}

ESCAPE_SEQUENCE = re.compile(r"\x1b(\[[0-9;]*[ -/]*[@-~]|O.)")


class Ended(BaseException):
    """A signal has ended the program."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Screen:
    """The terminal of standard input and output.  Use it in a ``with`` statement.

    A byte that is written to the descriptor *wakeup* ends `wait`.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._input = sys.stdin.fileno()
        self._settings: list[Any] = []
        self._handlers: dict[int, Any] = {}
        self._wake_reader, self.wakeup = os.pipe()
        os.set_blocking(self._wake_reader, False)
        os.set_blocking(self.wakeup, False)

    def __enter__(self) -> "Screen":
        for number in ENDING_SIGNALS:
            self._handle(number, self._end)
        self._handle(signal.SIGTSTP, self._suspend)
        self._handle(signal.SIGWINCH, lambda number, frame: None)
        signal.set_wakeup_fd(self.wakeup, warn_on_full_buffer=False)
        self._settings = termios.tcgetattr(self._input)
        try:
            self._take()
        except BaseException:
            self._restore()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        for ending in (*ENDING_SIGNALS, signal.SIGINT):  # nothing interrupts the next lines
            signal.signal(ending, signal.SIG_IGN)
        self._restore()
        signal.set_wakeup_fd(-1)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def show(self, content: RenderableType) -> None:
        """Show *content*, and nothing else."""
        self._console.update_screen(Whole(content))

    def wait(self, seconds: float | None = None) -> list[str]:
        """Wait for keys, or for the end of `wait` by *wakeup* or a signal; return the keys.

        Raises EOFError if the terminal has gone.
        """
        ready, _, _ = select.select([self._input, self._wake_reader], [], [], seconds)
        if self._wake_reader in ready:
            os.read(self._wake_reader, 4096)
        return split_keys(self._read()) if self._input in ready else []

    def _read(self) -> str:
        try:
            data = os.read(self._input, 4096)
        except OSError:
            data = b""
        if not data:
            raise EOFError
        return data.decode(errors="replace")

    def _handle(self, number: int, handler: Callable[[int, FrameType | None], None]) -> None:
        self._handlers[number] = signal.signal(number, handler)

    def _end(self, number: int, frame: FrameType | None) -> None:
        raise Ended(number)

    def _suspend(self, number: int, frame: FrameType | None) -> None:
        """Give the terminal back to the shell until the user continues the program (SIGCONT)."""
        self._restore()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, self._suspend)
        self._take()
        os.write(self.wakeup, b"\0")

    def _take(self) -> None:
        tty.setcbreak(self._input)
        self._console.set_alt_screen(True)
        self._console.show_cursor(False)

    def _restore(self) -> None:
        with suppress(OSError):
            self._console.show_cursor(True)
            self._console.set_alt_screen(False)
        with suppress(termios.error):
            termios.tcsetattr(self._input, termios.TCSADRAIN, self._settings)


def split_keys(text: str) -> list[str]:
    """Return the keys of what a terminal has sent: characters, and names such as ``up``."""
    keys = []
    while text:
        sequence = ESCAPE_SEQUENCE.match(text)
        key = sequence[0] if sequence else text[0]
        keys.append(KEYS.get(key, key))
        text = text[len(key) :]
    return keys
