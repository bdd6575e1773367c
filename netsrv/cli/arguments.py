"""The parser of a command's arguments, made from its table of options."""

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

from netsrv.cli.commands import Command, Option, groups

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
    if command.operand is not None:
        name, metavar = command.operand.name, command.operand.metavar
        parser.add_argument(
            name,
            nargs="?",
            metavar=metavar,
            action=_Collect,
            default=argparse.SUPPRESS,
            help=command.operand.help,
        )
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
