"""The manual page netsrv(8), made from the tables of options.

``python -m docs.man_page`` writes it; the wheel installs it.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from textwrap import wrap

from netsrv import __version__
from netsrv.cli.clients import CLIENTS
from netsrv.cli.commands import Command, Option, groups
from netsrv.cli.options import (
    ADDRESSES,
    COMMANDS,
    COMPLETION,
    NETSRV,
    SERVE_OPTIONS,
    TWISTD,
    VARIABLES,
)
from netsrv.cli.printing import ExitStatus
from netsrv.config.command_line import OPTIONS

PATH = Path(__file__).parents[1] / "netsrv" / "cli" / "scripts" / "netsrv.8"
DATE = "2026-11-26"
NO_BREAK = "\0"
"""Stands for a space at which no line is broken."""

STATUSES = {
    ExitStatus.DRAINED: "Stopped by a signal; all connections had ended.",
    ExitStatus.ABORTED: "Stopped by a signal; connections were aborted.",
    ExitStatus.USAGE: "Usage error: an unknown option, or nothing to serve.",
    ExitStatus.UNAVAILABLE: "An address is not available.",
    ExitStatus.SOFTWARE: "A bug in netsrv.",
    ExitStatus.IO_ERROR: "A report, such as that of --check, cannot be written.",
    ExitStatus.CONFIGURATION: "A bad configuration: a value, a service, a socket option or a file.",
}
TWISTD_STATUS = "Under twistd every error at the start has the status 1."
LOG_VARIABLES = (
    "NO_COLOR, or a TERM of dumb, turns the colours of the log off. JOURNAL_STREAM, which systemd "
    "sets, makes the log one for journald."
)
SIGNALS = {
    "SIGTERM, SIGINT": "Drain: close the listening sockets, wait --shutdown-timeout for the open "
    "connections, then abort those that are left. A second signal aborts them immediately.",
    "SIGHUP": "Read the file of --config again. Without a file, drain.",
    "SIGUSR1": "Reopen the access log.",
}


def make_page() -> str:
    """Return the page in the macros of man(7)."""
    lines = [
        '.\\" Made by docs/man_page.py from the tables of options.',
        f'.TH NETSRV 8 {DATE} "netsrv {__version__}" "System Administration"',
        *_section("Name", ["netsrv \\- TCP, UDP and unix socket servers and test endpoints"]),
        *_section("Synopsis", _synopsis()),
        *_section("Description", _paragraphs(NETSRV.description, *_described())),
        ".SH OPTIONS",
    ]
    for title, options in groups((*SERVE_OPTIONS, COMPLETION)).items():
        lines += [f".SS {title}", *_options(options)]
    for client in CLIENTS:
        for command in (client, *client.commands):
            lines += [f".SS {_escape(command.name)}", *_client(command)]
    lines += _section("Addresses", _paragraphs(ADDRESSES))
    lines += _section("Environment", _paragraphs(VARIABLES, LOG_VARIABLES))
    lines += _section("Signals", _list(SIGNALS.items()))
    statuses = [(str(int(status)), text) for status, text in STATUSES.items()]
    lines += _section("Exit status", [*_list(statuses), ".PP", *_filled(TWISTD_STATUS)])
    examples = [(f"netsrv serve {line}", f"{_capital(text)}.") for line, text in TWISTD.examples]
    lines += _section("Examples", _list(examples))
    lines += _section("See also", [".BR twistd (1),", ".BR nc (1),", ".BR socket (7)"])
    return "\n".join(lines) + "\n"


def _synopsis() -> Iterator[str]:
    commands = [*(f"{command.name} {command.synopsis}" for command in COMMANDS.values())]
    commands += ["netsrv --help | --version | --completion bash|zsh|fish"]
    for number, line in enumerate([*commands, "twistd [-n] netsrv [options]"]):
        if number:
            yield ".br"
        yield f".B {_escape(line)}"


def _described() -> Iterator[str]:
    for command in (*COMMANDS.values(), TWISTD):
        yield f"``{command.name}``: {command.description}"


def _section(title: str, lines: Iterable[str]) -> list[str]:
    return [f".SH {title.upper()}", *lines]


def _paragraphs(*texts: str) -> Iterator[str]:
    for number, text in enumerate(texts):
        if number:
            yield ".PP"
        yield from _filled(text)


def _options(options: Iterable[Option]) -> Iterator[str]:
    for option in options:
        text = f"{_capital(option.description)}."
        text = re.sub(r" \[default: (.*)\]\.$", r". Default: \1.", text)
        details = OPTIONS[option.name].details if option.name in OPTIONS else ""
        yield from _list([(option.spellings, f"{text} {details}".strip())])


def _client(command: Command) -> Iterator[str]:
    if command.operand is not None:
        text = f"{_capital(command.operand.description)}."
        yield from _list([(command.operand.spellings, text)])
    yield from _options(command.options)
    yield from _paragraphs("", *command.notes)


def _capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _list(entries: Iterable[tuple[str, str]]) -> Iterator[str]:
    for term, text in entries:
        yield from (".TP", f".B {_escape(term)}", *_filled(text))


def _filled(text: str) -> Iterator[str]:
    """Yield text as lines: each sentence begins a new one, as man(7) wants it."""
    text = re.sub("``.*?``", lambda match: match[0].replace(" ", NO_BREAK), text)
    for sentence in re.split(r"(?<=[.]) (?=[A-Z0-9])", text):
        for line in wrap(sentence, 76, break_on_hyphens=False, break_long_words=False):
            yield re.sub("``(.*?)``", r"\\fB\1\\fP", _escape(line)).replace(NO_BREAK, " ")


def _escape(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


if __name__ == "__main__":
    PATH.write_text(make_page())
