"""The texts about a wrong command line: what is wrong, and what is near to it."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from netsrv.cli.commands import Command, Option
from netsrv.settings import (
    MAX_QUOTED_LENGTH,
    MAX_TEXT_LENGTH,
    did_you_mean,
    nearest,
    quote_value,
    shorten,
)
from netsrv.sockets.addresses import parse_internet, printable, split_service


class UsageMistake(Exception):
    """A command line is wrong; the text is one line for the user.

    The help of *command* shows what is right; None stands for the command that was called.
    """

    def __init__(self, text: str, command: Command | None = None) -> None:
        super().__init__(text)
        self.command = command


NOTHING_TO_SERVE = (
    "nothing to serve: give at least one of --tcp, --udp and --unix, as in --tcp 51423"
)
TWISTD_FLAGS = ("-n", "--nodaemon", "-l", "--logfile", "--pidfile", "--reactor", "--uid", "--gid")
"""Options of twistd that its users expect of ``netsrv serve`` too."""

NO_CONFIG = "--config needs the path of a file"
INETD_ALONE = "--inetd serves one socket: leave out --tcp, --udp, --unix and --config"
JSON_OF_NOTHING = "--json goes with --check"


def mistake_lines(text: object, command: str) -> str:
    """Return the lines that are printed about a mistake in a call of *command*."""
    line = shorten(printable(str(text)), MAX_TEXT_LENGTH)
    return f"netsrv: {line}\n{command} --help shows all options"


def unknown_option(word: str, options: Iterable[Option]) -> str:
    """Return the text about an option that is not among *options*."""
    word = word.partition("=")[0]
    if word in TWISTD_FLAGS:
        return launchers_option(word, "twistd")
    names = [flag[2:] for flag in _flags(options) if flag.startswith("--")]
    near = nearest(word.lstrip("-"), names)
    return f"there is no option {_shown(word)}{f'; did you mean --{near}?' if near else ''}"


def launchers_option(word: str, launcher: str) -> str:
    """Return the text about an option of twistd or twist that stands after our command's name."""
    right = f"{launcher} {word} netsrv"
    return f"{word} is an option of {launcher}, and goes before the word netsrv: {right}"


def unknown_command(word: str, names: Sequence[str]) -> str:
    """Return the text about a command that is not among those *names*."""
    near = did_you_mean(word, names) or f"; the commands are: {', '.join(names)}"
    return f"there is no command {quote_value(word)}{near}"


def misplaced_option(word: str, command: Command) -> str:
    """Return the text about an option of *command* that stands before its name."""
    return f"{_shown(word)} is an option of {command.name}, and goes after the word {command.word}"


def surplus_argument(word: str, options: Iterable[Option]) -> str:
    """Return the text about a word that belongs to none of *options*."""
    text = f"{quote_value(word)} belongs to no option"
    if "--tcp" not in _flags(options):
        return text
    with suppress(ValueError):
        parse_internet(split_service(word, "")[1])
        text = f"{text}; did you mean --tcp {_shown(word)}?"
    return text


def missing_argument(flag: str, options: Iterable[Option]) -> str:
    """Return the text about an option without its argument."""
    metavar = next((option.metavar for option in options if flag in option.flags), "")
    return f"{flag} needs an argument: {metavar}"


def surplus_value(flag: str) -> str:
    """Return the text about a flag with an argument."""
    return f"{flag} takes no argument"


def wrong_choice(option: Option, value: str) -> str:
    """Return the text about an argument that is not among the choices of an option."""
    return f"{option.long} {quote_value(value)}: one of {', '.join(map(repr, option.choices))}"


def ambiguous_option(word: str, options: Iterable[Option]) -> str:
    """Return the text about an abbreviation of several options."""
    word = word.partition("=")[0]
    matches = [flag for flag in _flags(options) if flag.startswith(word)]
    return f"{_shown(word)} is ambiguous: {', '.join(matches)}"


def _flags(options: Iterable[Option]) -> Iterator[str]:
    for option in options:
        yield from (*option.flags, *filter(None, [option.negation]))


def _shown(word: str) -> str:
    return shorten(word, MAX_QUOTED_LENGTH)
