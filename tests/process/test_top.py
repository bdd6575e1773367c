"""``netsrv top`` in a terminal of its own, and what it leaves behind however it ends."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.status_answer import make_answer, serve_answers
from tests.process.running import BIN
from tests.process.starts import finish
from tests.timeouts import TIMEOUT

ENTER, LEAVE, SHOW_CURSOR = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25h"


class Terminal:
    """A terminal of 100 columns and 30 lines in which ``netsrv top`` runs."""

    def __init__(self, address: str, folder: Path, script: str = 'exec "$0" top "$1"') -> None:
        self._master, self._slave = pty.openpty()
        self.resize(30)
        self.settings = termios.tcgetattr(self._slave)
        self.output = ""
        # readline exports the size of the terminal of the tests, and programs prefer that.
        size = ("COLUMNS", "LINES")
        environ = {name: value for name, value in os.environ.items() if name not in size}
        self.process = subprocess.Popen(
            ["/bin/bash", "-c", script, str(BIN / "netsrv"), address],
            cwd=folder,
            env={**environ, "TERM": "xterm-256color", "PYTHON_COLORS": "0"},
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        )

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)
        os.close(self._slave)

    def resize(self, lines: int) -> None:
        """Set the number of lines; the kernel tells the program."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, 100, 0, 0))

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    @property
    def frame(self) -> str:
        """The newest whole screen, without control sequences."""
        frames = self.output.split("\x1b[1;1H")
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", frames[-1])

    def shows(self, pattern: str) -> str:
        """Wait until the screen matches, and return it."""
        return self._wait(lambda: re.search(pattern, self.frame) is not None, pattern)

    def enters(self, times: int) -> None:
        """Wait until the program has taken the terminal so often, and has filled the screen."""

        def entered() -> bool:
            return (
                self.output.count(ENTER) == times and "q quit" in self.output.rpartition(ENTER)[2]
            )

        self._wait(entered, "the other screen")

    def ends(self) -> int:
        """Wait for the end, and return the exit status."""
        status = self.process.wait(TIMEOUT)
        self._wait(lambda: LEAVE in self.output, "the end")
        return status

    def _wait(self, accepts: Any, reason: str) -> str:
        end = time.monotonic() + TIMEOUT
        while not accepts():
            left = max(0, end - time.monotonic())
            if not select.select([self._master], [], [], left)[0]:
                raise AssertionError(f"no {reason} in:\n{self.frame}")
            self.output += os.read(self._master, 65536).decode()
        return self.frame

    def assert_restored(self) -> None:
        """The settings are those of before, the other screen is left, and the cursor is shown."""
        assert termios.tcgetattr(self._slave) == self.settings
        assert self.output.count(ENTER) == self.output.count(LEAVE) >= 1
        assert self.output.rindex(SHOW_CURSOR) > self.output.rindex(ENTER)


@pytest.fixture
def address() -> Iterator[str]:
    """The address of a server that answers."""
    with serve_answers(make_answer) as address:
        yield address


def test_keys_sort_filter_and_end_it(tmp_path, address):
    """It shows listeners, follows keys and the size of the terminal, and leaves nothing."""
    with Terminal(address, tmp_path) as terminal:
        terminal.shows(r"Serving, with warnings +netsrv 0\.1\.0 on web1")
        terminal.shows(r"1-3 of 3")
        terminal.type("n")
        terminal.shows(r"Listener.*\s+tcp 127\.0\.0\.1:9 \(discard\)")
        terminal.type("/:7\r")
        terminal.shows(r"1-2 of 2 +filter: :7")
        terminal.resize(9)
        terminal.shows(r"1-1 of 2")
        terminal.type("q")
        assert terminal.ends() == 0
        terminal.assert_restored()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_restores_the_terminal(tmp_path, address, number):
    """The exit status is that of the signal."""
    with Terminal(address, tmp_path) as terminal:
        terminal.shows("Listener")
        terminal.process.send_signal(number)
        assert terminal.ends() == -number
        terminal.assert_restored()


def test_control_c_and_control_z_restore_the_terminal(tmp_path, address):
    """Control-Z gives it back to the shell until the program is continued; Control-C ends it."""
    script = 'set -m; "$0" top "$1"; echo "the shell again"; read; fg; echo status $?'
    with Terminal(address, tmp_path, script) as terminal:
        terminal.shows("Listener")
        terminal.type("\x1a")
        terminal.shows("the shell again")
        terminal.assert_restored()
        terminal.type("\r")
        terminal.enters(2)
        terminal.type("\x03")
        terminal.shows("status 0")
        terminal.assert_restored()


def test_an_exception_restores_the_terminal(tmp_path):
    """An answer that breaks the display ends it with a traceback on the first screen."""
    broken = make_answer(1)
    del broken["listeners"]
    with (
        serve_answers(lambda number: broken if number else make_answer()) as address,
        Terminal(address, tmp_path) as terminal,
    ):
        terminal.shows("Listener")
        assert terminal.ends() == 1
        terminal.assert_restored()
        assert "KeyError: 'listeners'" in terminal.output.rpartition(LEAVE)[2]


def test_a_server_that_ends_is_waited_for(tmp_path):
    """The last figures stay, below a line that says since when there is no answer."""
    with serve_answers(make_answer) as address:
        terminal = Terminal(address, tmp_path)
        terminal.__enter__()
        terminal.shows("Listener")
    with terminal:
        assert "web1" in terminal.shows(r"No answer since ..:..:..: Connection refused")
        terminal.type("q")
        assert terminal.ends() == 0


def test_a_pipe_gets_json_a_table_or_lines(tmp_path, address):
    """Without a terminal there is no control sequence, and a name is not cut."""
    done = finish(["netsrv", "top", "--once", "--json", address], tmp_path)
    assert json.loads(done.stdout)["listeners"][2]["id"] == "udp 127.0.0.1:7 (echo)"
    done = finish(["netsrv", "top", "--once"], tmp_path, {"NETSRV_STATUS": address})
    assert re.search(r"^tcp 127\.0\.0\.1:9 \(discard\) +serving +900 ", done.stdout, re.M)
    assert "\x1b" not in done.stdout
    lines = finish(["/bin/bash", "-c", f"{BIN}/netsrv top {address} | head -2"], tmp_path)
    assert re.fullmatch(r"time .* lag\n..:..:.. ready .* ms\n", lines.stdout)
    assert (lines.returncode, lines.stderr) == (0, "")
