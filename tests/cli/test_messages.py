"""What the commands print, word for word: the help, and a message for each mistake.

The files in ``golden`` are transcripts.  ``python -m tests.cli.test_messages`` writes what the
commands print now, to be read before it is committed.
"""

import io
import os
import re
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from twisted.scripts.twistd import ServerOptions as TwistdOptions

from netsrv.cli import command, reports, tap
from netsrv.cli.start import Start

GOLDEN = Path(__file__).parent / "golden"


def transcripts() -> Iterator[tuple[str, str, str]]:
    """Yield file, command line and output of each command."""
    for path in sorted(GOLDEN.glob("*.txt")):
        for part in re.split(r"^\$ ", path.read_text(), flags=re.MULTILINE)[1:]:
            line, _, output = part.partition("\n")
            yield path.name, line, output


def unknown_host(host: str, *arguments: object, **keywords: object) -> None:
    """Fail as getaddrinfo(3) does without a name server."""
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def report(text: str, io_error: int) -> None:
    """Print a report, and leave the signals of this process alone."""
    print(text)
    raise SystemExit(0)


def printed_by(line: str) -> str:
    """Run a command line of a transcript in this process; return what it prints, and its status."""
    words = shlex.split(line)
    variables = {}
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    output = io.StringIO()
    with ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, {"COLUMNS": "80", **variables}))
        stack.enter_context(patch.object(socket, "getaddrinfo", unknown_host))
        stack.enter_context(patch.object(reports, "print_report", report))
        stack.enter_context(patch.object(command, "serve", Start.prepare))
        stack.enter_context(patch.object(tap, "hold_signals", lambda: None))
        stack.enter_context(redirect_stdout(output))
        stack.enter_context(redirect_stderr(output))
        os.chdir(GOLDEN)
        try:
            status: Any = (run_twistd if words[0] == "twistd" else command.main)(words[1:])
        except SystemExit as end:
            status = end.code
    if isinstance(status, str):  # Python prints it on standard error
        output.write(f"{status}\n")
        status = 1
    return f"{output.getvalue()}status {int(status)}\n"


def run_twistd(arguments: list[str]) -> int:
    """Read a command line as twistd does."""
    TwistdOptions().parseOptions(arguments)
    return 0


@pytest.mark.parametrize(("file", "line", "output"), [*transcripts()], ids=lambda text: text[:60])
def test_the_output_is_word_for_word(file, line, output, monkeypatch):
    """Help and messages are as in the transcripts, at 80 columns, under every Python."""
    monkeypatch.chdir(GOLDEN)
    assert printed_by(line) == output


@pytest.mark.parametrize(("file", "line", "output"), [*transcripts()], ids=lambda text: text[:60])
def test_a_wrong_command_line_gets_three_lines_at_most(file, line, output):
    """No mistake prints the usage; only a file may have more mistakes, a line each."""
    if not file.startswith("help") and ".toml" not in line:
        assert len(output.splitlines()) <= 3 + 1  # and the status


def main() -> None:
    """Write the transcripts again."""
    texts: dict[str, str] = {}
    for file, line, _ in transcripts():
        texts[file] = f"{texts.get(file, '')}$ {line}\n{printed_by(line)}"
    for file, text in texts.items():
        (GOLDEN / file).write_text(text)


if __name__ == "__main__":
    sys.exit(main())
