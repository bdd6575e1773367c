"""The completion in the shells themselves, on a terminal where there has to be one."""

import os
import pty
import re
import select
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.process import needs
from tests.process.running import BIN
from tests.timeouts import TIMEOUT

pytestmark = pytest.mark.version_independent

SHELLS = {
    "bash": (
        ["bash", "--norc", "--noprofile", "-i"],
        "bind 'set bell-style none'; eval \"$(netsrv --completion bash)\"; PS1='READY'' '",
    ),
    "zsh": (
        ["zsh", "-f", "-i"],
        "autoload -U compinit; compinit -u -D; eval \"$(netsrv --completion zsh)\"; PS1='READY'' '",
    ),
}
"""The command of each shell on a terminal, and what loads the completion and shows a prompt."""

START_OF_LINE = "\x01"

CASES = [
    ("netsrv ser", "netsrv serve"),
    ("netsrv --completion zs", "netsrv --completion zsh"),
    ("netsrv serve --max-", "netsrv serve --max-connections"),
    ("netsrv serve --overload pa", "netsrv serve --overload pause"),
    ("netsrv serve --tcp ech", "netsrv serve --tcp echo="),
    ("netsrv serve --tcp 7 --udp cha", "netsrv serve --tcp 7 --udp chargen="),
    ("netsrv serve -c serv", "netsrv serve -c server.toml"),
]
"""Lines before and after the key Tab."""

EQUALS = {
    "bash": [
        ("netsrv serve --overload=pa", "netsrv serve --overload=pause"),
        ("netsrv serve --tcp=ech", "netsrv serve --tcp=echo="),
        ("netsrv serve --unix echo=serv", "netsrv serve --unix echo=server.toml"),
    ],
    "zsh": [("netsrv serve --unix echo=serv", "netsrv serve --unix echo=server.toml")],
}
"""Lines with equals signs, at which bash divides words."""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A folder with a file to complete, and the environment of a shell in it."""
    (tmp_path / "server.toml").write_text("")
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "HOME": str(tmp_path), "TERM": "dumb", "COLUMNS": "80"}


class Terminal:
    """A shell on a terminal of its own."""

    def __init__(self, shell: str, descriptor: int) -> None:
        self._descriptor = descriptor
        self.type(f"{SHELLS[shell][1]}\r")
        self.read_until("READY ")

    def type(self, text: str) -> None:
        """Press the keys of a text."""
        os.write(self._descriptor, text.encode())

    def read_until(self, pattern: str) -> str:
        """Return what the shell prints, as far as a pattern."""
        shown = ""
        while not re.search(pattern, shown):
            ready, _, _ = select.select([self._descriptor], [], [], TIMEOUT)
            assert ready, f"no {pattern!r} in {shown!r}"
            shown += os.read(self._descriptor, 4096).decode(errors="replace")
        return shown

    def complete(self, line: str) -> str:
        """Return a line as the key Tab completes it: it becomes the arguments of echo."""
        self.type(f"{line}\t{START_OF_LINE}echo DONE \r")
        shown = self.read_until(r"\nDONE [^\n]*\n[^\n]*READY ")
        match = re.search(r"\nDONE ([^\r\n]*?) *\r", shown)
        assert match is not None
        return match[1]


@contextmanager
def terminal(shell: str, cwd: Path, environ: dict[str, str]) -> Iterator[Terminal]:
    """Run a shell on a terminal until the block ends."""
    controller, inner = pty.openpty()
    process = subprocess.Popen(
        SHELLS[shell][0],
        cwd=cwd,
        env=environ,
        stdin=inner,
        stdout=inner,
        stderr=inner,
        start_new_session=True,
    )
    os.close(inner)
    try:
        yield Terminal(shell, controller)
    finally:
        process.kill()
        process.wait(TIMEOUT)
        os.close(controller)


@pytest.mark.parametrize("shell", SHELLS)
def test_tab_completes_commands_options_and_values(shell, tmp_path, environ):
    """Commands, options, choices, services and files are completed."""
    needs.tool(shell)
    cases = [*CASES, *EQUALS.get(shell, [])]
    with terminal(shell, tmp_path, environ) as keyboard:
        assert [keyboard.complete(line) for line, _ in cases] == [after for _, after in cases]


def test_fish_completes_commands_options_and_values(tmp_path, environ):
    """fish prints what it would offer for a line."""
    needs.tool("fish")
    lines = "; ".join(f"complete -C {line!r}; echo" for line, _ in CASES)
    script = f"netsrv --completion fish | source; {lines}"
    shown = subprocess.run(
        ["fish", "--no-config", "-c", script],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    ).stdout
    words = [
        part.split("\t")[0].split("\n")[0] for part in shown.removesuffix("\n\n").split("\n\n")
    ]
    assert words == [after.rpartition(" ")[2] for _, after in CASES]
