"""Settings that describe themselves.

A settings class is a frozen attrs class whose fields are made with `setting`.  A field names the
kind of its values and carries its help text.  Command-line options, keys of a file, keyword
arguments and the tables of the reference are all made from these fields.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from enum import Enum
from keyword import iskeyword
from math import isfinite
from typing import Any

from attrs import NOTHING, field, fields, frozen

MAX_SECONDS = 10**9
MAX_QUOTED_LENGTH = 60
"""Characters of a value that a message shows."""

MAX_SHOWN_PATH = 255
"""Characters of a path that a message shows: a name of a file has no more."""

MAX_TEXT_LENGTH = 500
"""Characters of a message about an error."""

MAX_ERRORS = 100
"""Errors that are listed one by one; the others are counted."""

MAX_KEY_LENGTH = 500
"""Characters of an unknown key that are compared with those known."""

Parser = Callable[[Any], Any]
"""Turns a value of TOML's types into the value of a setting.

Raises ValueError with the value and the form that it should have.
"""

KeyPath = tuple[str | int, ...]
"""The keys of tables and the indices of lists that lead to a value."""

_METADATA = "netsrv.setting"


class InvalidValues(ValueError):
    """Several errors within one value: pairs of a key path below the value, and a message."""

    def __init__(self, errors: Sequence[tuple[KeyPath, str]]) -> None:
        super().__init__("; ".join(text for _, text in errors))
        self.errors = errors


def unknown_key(key: str, known: Iterable[str], noun: str = "key") -> str:
    """Return the message about a key that is not among those *known*."""
    known = list(known)
    instead = did_you_mean(key, known) or f"; there are {', '.join(known) or 'none'}"
    return f"there is no such {noun}{instead}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the end of a message that suggests the name that is nearest to *word*, or ``""``."""
    near = nearest(word, known)
    return f"; did you mean {near}?" if near else ""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the name that is most like *word*, in upper or lower case; None if none is like it."""
    names = {name.lower(): name for name in known}
    near = get_close_matches(word[:MAX_KEY_LENGTH].lower(), names, 1)
    return names[near[0]] if near else None


# Parsers


def quote_value(value: Any) -> str:
    """Return a value as a message shows it, shortened if it is long."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping | list | tuple):
        return "a table" if isinstance(value, Mapping) else "a list"
    text = repr(value) if isinstance(value, str | int | float) else str(value)
    return shorten(text, MAX_QUOTED_LENGTH)


def exception_text(error: BaseException) -> str:
    """Return an exception's class and message, even if the message raises."""
    try:
        message = str(error)
    except BaseException as other:  # a third party's exception may do anything
        message = f"its message raises {type(other).__name__}"
    return shorten(f"{type(error).__name__}: {message}", MAX_TEXT_LENGTH)


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 connection``, ``2 connections``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def shorten(text: str, length: int) -> str:
    """Return a text, cut if it is longer than *length* characters."""
    return text if len(text) <= length else f"{text[:length]}..."


def parse_scalar(text: str) -> int | float | str:
    """Return the number that an option's text is, or the text: the value as TOML would have it."""
    if re.fullmatch("-?[0-9]{1,400}", text):
        return int(text)
    with suppress(ValueError):
        if isfinite(number := float(text)):
            return number
    return text


def parse_bool(value: Any) -> bool:
    """Parse a boolean."""
    if not isinstance(value, bool):
        raise ValueError(f"{quote_value(value)}: true or false, without quotes")
    return value


def parse_integer(value: Any) -> int:
    """Parse a whole number; ``true`` is none."""
    if type(value) is not int:
        raise ValueError(f"{quote_value(value)}: a whole number, without quotes")
    return value


def parse_number(value: Any) -> float:
    """Parse a number; ``true`` is none."""
    if type(value) not in (int, float):
        raise ValueError(f"{quote_value(value)}: a number, without quotes")
    return float(value)


def parse_text(value: Any) -> str:
    """Parse a text."""
    if not isinstance(value, str):
        raise ValueError(f"{quote_value(value)}: a text, in quotes")
    return value


def parse_list(value: Any) -> list[Any]:
    """Parse a list."""
    if not isinstance(value, list):
        raise ValueError(f"{quote_value(value)}: a list, as in [1, 2]")
    return value


def parse_table(value: Any) -> dict[str, Any]:
    """Parse a table."""
    if not isinstance(value, dict):
        raise ValueError(f"{quote_value(value)}: a table, as in {{ key = value }}")
    return value


def parse_each(parse: Parser, items: Mapping[Any, Any] | Sequence[Any]) -> tuple[Any, ...]:
    """Parse the items of a list, or a table's pairs of a key and a value.

    Raises `InvalidValues` with the key or index of each item that is wrong.
    """
    pairs = items.items() if isinstance(items, Mapping) else enumerate(items)
    values, errors = [], []
    for key, item in pairs:
        try:
            values.append(parse((key, item) if isinstance(items, Mapping) else item))
        except ValueError as error:
            errors.append(((key,), str(error)))
    if errors:
        raise InvalidValues(errors)
    return tuple(values)


# Kinds


@frozen
class Kind:
    """A kind of values: how they are parsed, and how they are described to users."""

    parse: Parser
    """Parses a value as a file or a program has it."""
    value: str = ""
    """What a file takes, for the reference: ``a whole number``."""
    metavar: str = ""
    """The placeholder of the value on the command line; a flag has none."""
    parse_option: Parser | None = None
    """Parses the text of an option; None for that of `parse_scalar`, parsed by `parse`."""
    choices: tuple[str, ...] = ()
    """The only values there are."""
    repeatable: bool = False
    """True if the option may be given many times; `parse_option` gets the list of texts."""
    listed: bool = False
    """True if the option's argument, or each one, is a list with commas."""
    plain: Callable[[Any], Any] = lambda value: value
    """Returns a value as a file has it, if it is of no type of TOML's."""
    resolve: Callable[[str, str], str] | None = None
    """Returns a path as a file in a folder means it, from the folder and the path as written;
    None if the values are no paths."""
    schema: Mapping[str, Any] | Callable[[], Mapping[str, Any]] = field(factory=dict, eq=False)
    """What a file takes, as JSON Schema says it (draft 2020-12)."""

    def parse_argument(self, argument: Any) -> Any:
        """Parse an option's argument: a text, a list of texts, or True or False of a flag."""
        if self.parse_option is not None:
            return self.parse_option(argument)
        return self.parse(parse_scalar(argument) if isinstance(argument, str) else argument)


def resolve_paths(resolve: Callable[[str, str], str], folder: str, value: Any) -> Any:
    """Return a path, or the paths of a list, as a file in *folder* means them."""
    if isinstance(value, list):
        return [resolve_paths(resolve, folder, item) for item in value]
    return resolve(folder, value) if isinstance(value, str) else value


BOOLEAN = Kind(parse_bool, "``true`` or ``false``", schema={"type": "boolean"})
TEXT = Kind(parse_text, "a text", "TEXT", parse_text, schema={"type": "string"})
ANYTHING = Kind(lambda value: value)


def whole_number(least: int, most: int) -> Kind:
    """Return the kind of the whole numbers within bounds."""

    def parse(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"{quote_value(value)}: a whole number from {least} to {most}")
        return value

    schema = {"type": "integer", "minimum": least, "maximum": most}
    return Kind(parse, f"a whole number from {least} to {most}", "N", schema=schema)


def _parse_seconds(value: Any) -> float:
    if type(value) not in (int, float) or not 0 < value <= MAX_SECONDS:
        raise ValueError(
            f"{quote_value(value)}: a number of seconds, more than 0 and at most {MAX_SECONDS}"
        )
    return float(value)


SECONDS = Kind(
    _parse_seconds,
    "a number of seconds",
    "S",
    schema={"type": "number", "exclusiveMinimum": 0, "maximum": MAX_SECONDS},
)


def _parse_delay(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value <= MAX_SECONDS:
        raise ValueError(f"{quote_value(value)}: a number of seconds from 0 to {MAX_SECONDS}")
    return float(value)


DELAY = Kind(
    _parse_delay,
    "a number of seconds, or 0",
    "S",
    schema={"type": "number", "minimum": 0, "maximum": MAX_SECONDS},
)


def choice(members: type[Enum]) -> Kind:
    """Return the kind of the values of an enumeration."""
    choices = tuple(str(member.value) for member in members)

    def parse(value: Any) -> Enum:
        try:
            return members(value)
        except ValueError:
            words = ", ".join(map(repr, choices))
            raise ValueError(f"{quote_value(value)}: one of {words}") from None

    value = ", ".join(f'``"{word}"``' for word in choices)
    schema = {"enum": list(choices)}
    return Kind(parse, f"one of {value}", "|".join(choices), choices=choices, schema=schema)


def or_word(kind: Kind, word: str) -> Kind:
    """Return a kind to which *word* means None, and which is otherwise *kind*."""

    def parse(value: Any) -> Any:
        try:
            return None if value == word else kind.parse(value)
        except ValueError as error:
            raise ValueError(f"{error}, or {word!r}") from None

    schema = {"anyOf": [kind.schema, {"const": word}]}
    value = f'{kind.value}, or ``"{word}"``'
    return Kind(parse, value, f"{kind.metavar}|{word}", schema=schema)


# Fields


@frozen
class Section:
    """Settings that belong together."""

    title: str
    """The heading below which they are listed."""
    table: str = ""
    """Their table in a file, below that of their class; empty if they have none of their own."""
    prefix: str = ""
    """What options and keywords have before their names, where the names alone say too little."""


def setting(
    default: Any,
    section: Section,
    kind: Kind,
    help: str = "",  # noqa: A002 - as argparse has it
    **attributes: Any,
) -> Any:
    """Make a field of a settings class; *attributes* are others of its `Setting`."""
    description = {"section": section, "kind": kind, "help": help, **attributes}
    return field(default=default, metadata={_METADATA: description})


@frozen
class Setting:
    """A field of a settings class, as users see it."""

    name: str
    """The field's name, which is also the key in a file."""
    default: Any
    section: Section
    kind: Kind
    help: str
    """What the option does: a verb first, no full stop."""
    details: str = ""
    """More sentences, for the reference."""
    default_text: str = field()
    """The default as users read it."""
    option: str | None = field()
    """The option's name, as in ``--max-connections``; None if there is no option."""
    key: bool = True
    """True if files have the key."""

    @default_text.default
    def _show_default(self) -> str:
        if self.default is None:
            return "none"
        if isinstance(self.default, bool):
            return "on" if self.default else "off"
        value = self.default.value if isinstance(self.default, Enum) else self.default
        return f"{value:g}" if isinstance(value, float) else str(value)

    @option.default
    def _name_option(self) -> str:
        return f"--{self.keyword.replace('_', '-')}"

    @property
    def attribute(self) -> str:
        """The name of the field, which has an underscore at its end if Python needs the word."""
        return f"{self.name}_" if iskeyword(self.name) else self.name

    @property
    def keyword(self) -> str:
        """The name among those of all tables: that of the field, with the section's prefix."""
        return f"{self.section.prefix}{self.name}"

    @property
    def negation(self) -> str | None:
        """The option that turns a flag off, where the default is neither on nor off."""
        tristate = self.option and not self.kind.metavar and self.default is None
        return f"--no-{self.keyword.replace('_', '-')}" if tristate else None


def short_repr(instance: Any) -> str:
    """Return the repr of a settings object, with the fields that differ from their defaults."""
    shown = []
    for attribute in fields(type(instance)):
        value = getattr(instance, attribute.name)
        if attribute.repr and (attribute.default is NOTHING or value != attribute.default):
            description = attribute.metadata.get(_METADATA, {})
            value = description["kind"].plain(value) if description else value
            shown.append(f"{attribute.name}={value!r}")
    return f"{type(instance).__name__}({', '.join(shown)})"


def settings_of(*classes: type) -> dict[str, Setting]:
    """Return the settings of settings classes by their keywords, in the order of the fields."""
    described = [
        Setting(attribute.name.rstrip("_"), attribute.default, **attribute.metadata[_METADATA])
        for settings_class in classes
        for attribute in fields(settings_class)
        if _METADATA in attribute.metadata
    ]
    return {setting.keyword: setting for setting in described}
