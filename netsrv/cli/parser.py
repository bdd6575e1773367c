"""The parser of the command ``netsrv``, made from the tables of options.

Whatever is wrong is a `UsageMistake` with a text of our own: those of argparse differ between
versions of Python, and it prints its usage with each.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

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
from netsrv.cli.options import COMMANDS, NETSRV, Command, Option, groups

Given = list[tuple[str, Any]]
"""Pairs of an option's name and its argument, as they stand on a command line: a text, or True
or False of a flag."""


class _Collect(argparse.Action):
    """Adds an option and its argument to the list ``given`` of the namespace."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        pair = (self.dest, self.const if self.nargs == 0 else values)
        namespace.given = [*getattr(namespace, "given", ()), pair]


class _Parser(argparse.ArgumentParser):
    """Raises `argparse.ArgumentError` for every mistake, and prints nothing."""

    def error(self, message: str) -> NoReturn:
        raise argparse.ArgumentError(None, message)


def make_parser(
    command: Command, make: Callable[..., argparse.ArgumentParser] = _Parser
) -> argparse.ArgumentParser:
    """Return the parser of the options of *command*; *make* creates an empty one."""
    parser = make(
        description=command.description, add_help=False, exit_on_error=False, prog=command.name
    )
    for title, options in groups(command.options).items():
        group = parser.add_argument_group(title)
        for option in options:
            _add_option(group, option)
    return parser


def _add_option(group: Any, option: Option) -> None:
    described = {
        "dest": option.name,
        "action": _Collect,
        "default": argparse.SUPPRESS,
        "help": option.help.replace("%", "%%"),
    }
    if option.metavar:
        group.add_argument(*option.flags, metavar=option.metavar, **described)
        return
    group.add_argument(*option.flags, nargs=0, const=True, **described)
    if option.negation:
        described["help"] = f"do not {described['help']}"
        group.add_argument(option.negation, nargs=0, const=False, **described)


def parse(arguments: Sequence[str]) -> tuple[Command, Given]:
    """Return the command that *arguments* call, and the options that they give it.

    Raises `UsageMistake`.
    """
    first = arguments[0] if arguments else ""
    command = COMMANDS.get(first, NETSRV)
    if command is NETSRV and not first.startswith("-"):
        text = "a command is missing, as in netsrv serve --tcp 51423"
        raise UsageMistake(unknown_command(first, list(COMMANDS)) if first else text, NETSRV)
    try:
        words = arguments[command is not NETSRV :]
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
        return surplus_argument(word)
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
