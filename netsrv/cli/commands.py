"""What an option and a command are.

The module imports little, since commands that ask a running server start fast.
"""

from collections.abc import Sequence

from attrs import frozen

REPORTS = "Reports"


@frozen
class Option:
    """An option of a command."""

    name: str
    """The name of its value: that of a setting, a transport, or a report."""
    flags: tuple[str, ...]
    """How it is written: ``-t`` and ``--tcp``; the long form is the last."""
    group: str
    """The heading below which the help lists it."""
    help: str
    """What it does: a verb first, no full stop."""
    metavar: str = ""
    """The placeholder of its argument; a flag has none."""
    default: str = ""
    """The default as users read it."""
    negation: str = ""
    """The option that turns a flag off, where there is one."""
    choices: tuple[str, ...] = ()
    """The only arguments there are."""
    repeatable: bool = False
    listed: bool = False
    """True if the argument, or each one, is a list with commas."""
    is_setting: bool = True
    """True if the environment may give it too; a report is asked for on the command line only."""

    @property
    def long(self) -> str:
        """The long form: ``--max-connections``."""
        return self.flags[-1]

    @property
    def variable(self) -> str:
        """The environment variable: ``NETSRV_MAX_CONNECTIONS``."""
        return f"NETSRV_{self.long.removeprefix('--').replace('-', '_').upper()}"

    @property
    def spellings(self) -> str:
        """All forms, with the placeholder, as the help has them."""
        forms = [*self.flags, *filter(None, [self.negation])]
        return f"{', '.join(forms)} {self.metavar}".rstrip()

    @property
    def description(self) -> str:
        """The help text with the default."""
        return f"{self.help} [default: {self.default}]" if self.default else self.help

    @property
    def takes_file(self) -> bool:
        """True if the argument is the path of a file."""
        return self.metavar.startswith("FILE") or self.name == "unix"


@frozen
class Command:
    """A command of ``netsrv``, or ``netsrv`` itself."""

    name: str
    """As the user writes it: ``netsrv serve``."""
    help: str
    """What it does, in a few words: a verb first, no full stop."""
    description: str
    """What it does, in sentences, for its own help."""
    options: tuple[Option, ...]
    examples: tuple[tuple[str, str], ...] = ()
    """Pairs of a command line without the name, and what it does."""
    notes: tuple[str, ...] = ()
    """Paragraphs after the options."""
    synopsis: str = "[options]"
    operand: Option | None = None
    """An argument without an option, which may be left out."""
    commands: "tuple[Command, ...]" = ()
    """The commands below it."""
    aliases: tuple[str, ...] = ()
    """Other words for its own."""
    module: str = ""
    """The name of the module that runs it, where that is not its word: ``faults``."""
    leading: tuple[str, ...] = ()
    """Options of the commands below it that may stand before their words, with an argument."""

    @property
    def word(self) -> str:
        """The last word of the name: ``serve``."""
        return self.name.rpartition(" ")[2]

    def find(self, word: str) -> "Command | None":
        """Return the command below it that a word stands for; None if there is none."""
        for command in self.commands:
            if word == command.word or word in command.aliases:
                return command
        return None

    def descend(self, words: Sequence[str]) -> "tuple[Command, Sequence[str]]":
        """Return the command that the first words stand for, and the other words."""
        size = 0  # of the options before the word
        while words[size : size + 1] and words[size] in self.leading:
            size += 2
        inner = self.find(words[size]) if words[size:] else None
        if inner is None:
            return self, words
        return inner.descend([*words[size + 1 :], *words[:size]])


def report_option(name: str, help_text: str, *short: str) -> Option:
    """Return an option that asks for a report."""
    flags = (*short, f"--{name.replace('_', '-')}")
    return Option(name, flags, REPORTS, help_text, is_setting=False)


HELP = report_option("help", "print this help, and exit", "-h")


def groups(options: Sequence[Option]) -> dict[str, list[Option]]:
    """Return options by their headings, in the order of the table."""
    grouped: dict[str, list[Option]] = {}
    for option in options:
        grouped.setdefault(option.group, []).append(option)
    return grouped
