"""The picture of a terminal in the reference: what ``netsrv serve`` shows, with its colours.

``python -m docs.terminal`` runs the server on a terminal of 100 columns, lets clients come, and
writes ``docs/images/terminal.svg``, drawn by rich.
"""

import io
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
from contextlib import ExitStack
from fcntl import ioctl
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

PATH = Path(__file__).parent / "images" / "terminal.svg"
COLUMNS = 100
COMMAND = (
    "netsrv serve --tcp echo=127.0.0.1:7007 --max-connections 100 --per-source 2 --log-level debug"
)
TIMEOUT = 10.0
"""Seconds that a line may take."""

_FONTS = re.compile(r"@font-face \{.*?\}\n", re.DOTALL)
"""Fonts of another site, which no browser loads for a picture."""


class Terminal:
    """A command on a terminal, and what it has shown so far."""

    def __init__(self, command: str) -> None:
        self.shown = f"$ {command}\n"
        self._controller, inner = pty.openpty()
        ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
        environ = {**os.environ, "TERM": "xterm-256color"}
        environ.pop("NO_COLOR", None)
        self.process = subprocess.Popen(
            command.split(), stdin=inner, stdout=inner, stderr=inner, env=environ
        )
        os.close(inner)

    def wait_for(self, text: str) -> None:
        """Read until the terminal shows a text.  Raises TimeoutError."""
        while text not in self.shown:
            if not select.select([self._controller], [], [], TIMEOUT)[0]:
                raise TimeoutError(f"no {text!r} in {self.shown}")
            self.shown += os.read(self._controller, 4096).decode().replace("\r\n", "\n")


def play() -> str:
    """Return what a server shows on a terminal, from its start to its end."""
    terminal = Terminal(COMMAND)
    with ExitStack() as clients:
        terminal.wait_for("Waiting for connections")
        address = ("127.0.0.1", 7007)
        with socket.create_connection(address) as client:
            client.sendall(b"hello")
            client.recv(5)
        terminal.wait_for("Closed ")
        for _ in range(3):
            clients.enter_context(socket.create_connection(address))
        terminal.wait_for("rejected ")
        terminal.process.send_signal(signal.SIGINT)
        terminal.wait_for("Draining")
    terminal.wait_for("Drained")
    terminal.process.wait(TIMEOUT)
    return terminal.shown


def draw(shown: str) -> str:
    """Return text with escape sequences as a picture in SVG."""
    console = Console(width=COLUMNS, record=True, file=io.StringIO(), legacy_windows=False)
    console.print(Text.from_ansi(shown.rstrip("\n")))
    picture = console.export_svg(title="netsrv serve", theme=MONOKAI, unique_id="netsrv")
    return _FONTS.sub("", picture)


if __name__ == "__main__":
    PATH.write_text(draw(play()))
    sys.exit(0)
