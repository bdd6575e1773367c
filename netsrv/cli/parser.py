"""The parser of the command ``netsrv``, made from the tables of options.

Whatever is wrong is a `UsageMistake` with a text of our own: those of argparse differ between
versions of Python, and it prints its usage with each.
"""

import argparse
from collections.abc import Sequence

from netsrv.cli.arguments import Given, make_parser
from netsrv.cli.commands import Command
from netsrv.cli.mistakes import (
    UsageMistake,
    ambiguous_option,
    misplaced_option,
    missing_argument,
    surplus_argument,
    surplus_value,
    unknown_command,
    unknown_option,
)
from netsrv.cli.options import COMMANDS, NETSRV


def parse(arguments: Sequence[str]) -> tuple[Command, Given]:
    """Return the command that *arguments* call, and the options that they give it.

    Raises `UsageMistake`.
    """
    command, words = NETSRV.descend(arguments)
    first = words[0] if words else ""
    if command.commands and not first.startswith("-"):
        example, _ = command.examples[0]
        text = f"a command is missing, as in {command.name} {example}"
        names = [inner.word for inner in command.commands]
        raise UsageMistake(unknown_command(first, names) if first else text, command)
    try:
        namespace, extras = make_parser(command).parse_known_args(words)
    except argparse.ArgumentError as error:
        raise UsageMistake(_describe(error, arguments, command), command) from None
    if extras:
        raise UsageMistake(_describe_extra(extras[0], command), command)
    return command, getattr(namespace, "given", [])


def _describe(error: argparse.ArgumentError, arguments: Sequence[str], command: Command) -> str:
    """Return our text for an error of argparse."""
    flag = (error.argument_name or "").rpartition("/")[2]
    kind, _, rest = error.message.partition(":")
    if command is NETSRV and _owner(arguments[0]) is not NETSRV:
        return _describe_extra(arguments[0], command)
    if kind.startswith("expected"):
        return missing_argument(flag, command.options)
    if kind.startswith("ignored explicit argument"):
        return surplus_value(flag)
    return ambiguous_option(rest.split()[0], command.options)


def _describe_extra(word: str, command: Command) -> str:
    if not word.startswith("-"):
        return surplus_argument(word, command.options)
    owner = _owner(word)
    if command is NETSRV and owner is not NETSRV:
        return misplaced_option(word, owner)
    return unknown_option(word, command.options)


def _owner(word: str) -> Command:
    """Return the first command that has an option, or ``netsrv`` itself."""
    flag = word.partition("=")[0]
    for command in COMMANDS.values():
        if any(flag in option.flags for option in command.options):
            return command if flag not in _top_flags() else NETSRV
    return NETSRV


def _top_flags() -> set[str]:
    return {flag for option in NETSRV.options for flag in option.flags}
