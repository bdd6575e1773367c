"""TOML's tables turned into classes, with cattrs: strictly, and all mistakes at once.

A class says what may stand in a table, be it one of ours or a third party's settings.
What the tables of netsrv mean is no business of this module.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import GenericAlias
from typing import Any, get_args, get_origin

import attrs
from cattrs import (
    AttributeValidationNote,
    ClassValidationError,
    Converter,
    ForbiddenExtraKeysError,
    IterableValidationError,
)
from cattrs.cols import list_structure_factory
from cattrs.gen import make_dict_structure_fn, override

from netsrv.config.model import Reader, shown
from netsrv.config.readers import parse_bool, read_integer, read_table, read_text
from netsrv.sockets.addresses import printable

LONGEST_LINE = 500
"""Characters of a message about a mistake."""

Hook = Callable[[Any, Any], Any]
"""How cattrs calls what makes a value: with what TOML gave, and with the type."""

ELSEWHERE = "elsewhere"
"""Metadata of an attribute that is no key of its class's table: the table where it stands."""

Keys = tuple[str | int, ...]
"""What leads to a place in a file: keys of tables, and indices of lists."""

_BARE_KEY = re.compile("[A-Za-z0-9_-]{1,60}")


# Mistakes, and where they stand


class Mistakes:
    """Collects mistakes from exceptions, those that cattrs has grouped too."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []
        """Pairs of a place, ``listener[0].tcp``, and what is wrong there."""

    @contextmanager
    def of(self, *keys: str | int) -> Iterator[None]:
        """Go on after an exception; what it tells is wrong is below *keys*."""
        try:
            yield
        except Exception as error:
            self.found.extend(_told(error, keys))


def _told(error: Exception, keys: Keys) -> Iterator[tuple[str, str]]:
    if isinstance(error, ForbiddenExtraKeysError):
        for extra in sorted(error.extra_fields):
            yield _place((*keys, extra)), f"there is no such key; {_instead(extra, error.cl)}"
    elif isinstance(error, ClassValidationError | IterableValidationError):
        noted, others = error.group_exceptions()
        for each, note in noted:
            key = note.name if isinstance(note, AttributeValidationNote) else note.index
            yield from _told(each, (*keys, key))
        for each in others:
            yield from _told(each, keys)
    else:
        missing = isinstance(error, KeyError) and error.args == keys[-1:]
        yield _place(keys), "is missing" if missing else _words(error)


def mistake_line(file: str, place: str, text: str) -> str:
    """Make the line about a mistake; what came from the file is escaped, and cut."""
    line = printable(": ".join(each for each in (file, place, text) if each))
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}..."


def _instead(key: str, kind: Any) -> str:
    """Say which keys there are, in the table that is described by a class."""
    fields = attrs.fields_dict(kind)
    if key in fields:
        return f"it stands in the table {fields[key].metadata[ELSEWHERE]}"
    known = [each.name for each in fields.values() if ELSEWHERE not in each.metadata]
    near = get_close_matches(key[:LONGEST_LINE], known, 1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(known) or 'none'}"


def _words(error: Exception) -> str:
    """Put an exception into words; those of attrs' own validators have more than words."""
    words = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
    return words if isinstance(error, ValueError) and words else f"{type(error).__name__}: {words}"


def _place(keys: Keys) -> str:
    """Show keys as TOML's users write them: ``listener[0].limits.lifetime``."""
    place = ""
    for key in keys:
        if isinstance(key, int):
            place += f"[{key}]"
        else:
            place += f".{key if _BARE_KEY.fullmatch(key) else shown(key)}"
    return place.removeprefix(".")


def at_key(error: Exception, key: str) -> Exception:
    """Tell cattrs' way which key of a table an exception is about."""
    error.add_note(AttributeValidationNote(f"at {key}", key, Any))
    return error


# Values as TOML has them


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise ValueError(f"{shown(value)}: a number, without quotes")
    return float(value)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{shown(value)}: a list, as in [1, 2]")
    return value


# Classes


def make_converter() -> Converter:
    """Make a converter that takes TOML's types for what they are: ``"1"`` is no number."""
    converter = Converter(forbid_extra_keys=True)
    strict: dict[Any, Reader] = {
        str: read_text,
        bool: parse_bool,
        int: read_integer,
        float: _number,
        Path: lambda value: Path(read_text(value)),
    }
    for kind, reader in strict.items():
        converter.register_structure_hook(kind, hook(reader))
    converter.register_structure_hook_factory(_is_list, _list_hook)
    converter.register_structure_hook_factory(attrs.has, class_hook)
    return converter


def hook(reader: Reader) -> Hook:
    """Make of a reader what cattrs calls a hook."""
    return lambda value, _kind: reader(value)


def class_hook(
    kind: Any,
    converter: Converter,
    readers: Mapping[str, Reader] | None = None,
) -> Hook:
    """Make the hook of an attrs class.

    *readers* are those of its attributes for which the type alone does not say it.
    """
    overrides = {name: override(struct_hook=hook(each)) for name, each in (readers or {}).items()}
    elsewhere = [each.name for each in attrs.fields(kind) if ELSEWHERE in each.metadata]
    overrides.update((name, override(omit=True)) for name in elsewhere)
    options: dict[str, Any] = {"_cattrs_forbid_extra_keys": True, **overrides}
    structure = make_dict_structure_fn(kind, converter, **options)

    def read(value: Any, _kind: Any) -> Any:
        table = read_table(value)
        try:
            return structure(table, kind)
        except ClassValidationError as error:
            raise _located(error, table, structure) from error

    return read


def _located(error: ClassValidationError, table: dict[str, Any], structure: Hook) -> Exception:
    """Find out which attributes' validators have refused, which cattrs does not tell.

    Only where a class is given all that it needs are there validators to ask.
    """
    noted, others = error.group_exceptions()
    if noted:
        return error
    problems: list[Exception] = [
        each for each in others if isinstance(each, ForbiddenExtraKeysError)
    ]
    fields = attrs.fields(error.cl)
    known = {each.name: table[each.name] for each in fields if each.name in table}
    try:
        with attrs.validators.disabled():
            made = structure(known, error.cl)
    except Exception:
        return error
    for each in fields:
        try:
            if each.validator is not None:
                each.validator(made, each, getattr(made, each.name))
        except Exception as problem:
            problems.append(at_key(problem, each.name))
    return ClassValidationError("", problems, error.cl) if problems else error


def _is_list(kind: Any) -> bool:
    arguments = get_args(kind)
    return get_origin(kind) is list or (get_origin(kind) is tuple and arguments[1:] == (Ellipsis,))


def _list_hook(kind: Any, converter: Converter) -> Hook:
    """Make the hook of a list or a tuple: a text is none, although it can be gone through."""
    items: Any = GenericAlias(list, get_args(kind)[:1])
    structure = list_structure_factory(items, converter)
    return lambda value, _kind: get_origin(kind)(structure(_list(value), items))
