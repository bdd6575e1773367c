"""The help of a command, written from its options: the same under every version of Python."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from textwrap import wrap

from netsrv.cli.commands import Command, groups

HELP_COLUMN = 24
"""Where the descriptions of the options begin."""

MIN_WIDTH = 60
MAX_WIDTH = 100


def render_help(command: Command, width: int | None = None) -> str:
    """Return the help of a command, wrapped to *width* columns, by default the terminal's."""
    width = width or shutil.get_terminal_size().columns
    width = max(MIN_WIDTH, min(width, MAX_WIDTH)) - 1
    lines = [f"Usage: {command.name} {command.synopsis}", "", *wrap(command.description, width)]
    lines += _commands(command.commands, width)
    for title, options in groups(command.options).items():
        lines += ["", f"{title}:"]
        for option in options:
            lines += _entry(option.spellings, option.description, HELP_COLUMN, width)
    for note in command.notes:
        lines += ["", *wrap(note, width, break_on_hyphens=False)]
    lines += ["", "Examples:", *_examples(command.examples, width)]
    return "\n".join(lines)


def _commands(commands: Sequence[Command], width: int) -> Iterator[str]:
    if commands:
        yield from ("", "Commands:")
    for command in commands:
        words = ", ".join([command.word, *command.aliases])
        yield from _entry(words, command.help, HELP_COLUMN, width)


def _examples(examples: Iterable[tuple[str, str]], width: int) -> Iterator[str]:
    pairs = list(examples)
    column = max(len(arguments) for arguments, _ in pairs) + 4
    for arguments, text in pairs:
        yield from _entry(arguments, text, column, width)


def _entry(left: str, right: str, column: int, width: int) -> Iterator[str]:
    """Yield the lines of an entry: *right* is wrapped in its column, beside or below *left*."""
    lines = wrap(right, width - column, break_on_hyphens=False)
    left = f"  {left}"
    if len(left) + 2 <= column and lines:
        left = f"{left:<{column}}{lines.pop(0)}"
    yield left
    for line in lines:
        yield f"{'':<{column}}{line}"
