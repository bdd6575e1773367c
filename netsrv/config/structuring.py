"""Tables turned into a service's own settings, with cattrs: strictly, and all errors at once.

The settings class may be a third party's: its types and its validators decide what a table may
hold.  cattrs takes 25 ms to import, so this module is imported only when a service has settings.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
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
from cattrs.gen import make_dict_structure_fn

from netsrv.settings import (
    MAX_ERRORS,
    InvalidValues,
    KeyPath,
    Parser,
    exception_text,
    parse_bool,
    parse_integer,
    parse_list,
    parse_number,
    parse_table,
    parse_text,
    unknown_key,
)

StructureHook = Callable[[Any, Any], Any]
"""A function that cattrs calls with a value and its type."""


def structure(table: dict[str, Any], settings_class: Any, folder: str = "") -> Any:
    """Make an instance of a settings class from a table; relative paths begin in *folder*.

    Raises `InvalidValues` with all errors, whatever the class itself raises.
    """
    try:
        return _make_converter(folder).structure(table, settings_class)
    except BaseException as error:  # a third party's class may raise anything at all
        raise InvalidValues(list(_flatten(error, ()))) from error


def _flatten(error: BaseException, keys: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """Yield the key paths and the messages of an exception of cattrs, and of those within it."""
    if isinstance(error, ForbiddenExtraKeysError):
        known = [field.name for field in attrs.fields(error.cl)]
        for number, extra in enumerate(sorted(error.extra_fields)):
            text = unknown_key(extra, known) if number < MAX_ERRORS else "there is no such key"
            yield (*keys, extra), text
    elif isinstance(error, ClassValidationError | IterableValidationError):
        noted, others = error.group_exceptions()
        for inner, note in noted:
            key = note.name if isinstance(note, AttributeValidationNote) else note.index
            yield from _flatten(inner, (*keys, key))
        for inner in others:
            yield from _flatten(inner, keys)
    else:
        missing = isinstance(error, KeyError) and error.args == keys[-1:]
        yield keys, "is missing" if missing else _message(error)


def _message(error: BaseException) -> str:
    """Return an exception's message; those of attrs' own validators have more arguments."""
    name = type(error).__name__
    text = exception_text(error).removeprefix(f"{name}: ")
    if error.args and isinstance(error.args[0], str):
        text = error.args[0]
    return text if isinstance(error, ValueError) and text else f"{name}: {text}"


def with_key(error: Exception, key: str) -> Exception:
    """Note on an exception, as cattrs does, which key of a table it is about."""
    error.add_note(AttributeValidationNote(f"at {key}", key, Any))
    return error


@lru_cache(maxsize=8)
def _make_converter(folder: str) -> Converter:
    """Make a converter that takes TOML's types for what they are: ``"1"`` is no number.

    Relative paths begin in *folder*.
    """
    converter = Converter(forbid_extra_keys=True)
    strict: dict[Any, Parser] = {
        str: parse_text,
        bool: parse_bool,
        int: parse_integer,
        float: parse_number,
        Path: lambda value: Path(folder, parse_text(value)),
    }
    for kind, parser in strict.items():
        converter.register_structure_hook(kind, _structure_hook(parser))
    converter.register_structure_hook_factory(_is_list, _list_hook)
    converter.register_structure_hook_factory(attrs.has, _class_hook)
    return converter


def _structure_hook(parser: Parser) -> StructureHook:
    return lambda value, _kind: parser(value)


def _class_hook(kind: Any, converter: Converter) -> StructureHook:
    structure_class = make_dict_structure_fn(kind, converter, _cattrs_forbid_extra_keys=True)

    def read(value: Any, _kind: Any) -> Any:
        table = parse_table(value)
        try:
            return structure_class(table, kind)
        except ClassValidationError as error:
            raise _validator_errors(error, table, structure_class) from error

    return read


def _validator_errors(
    error: ClassValidationError, table: dict[str, Any], structure_class: StructureHook
) -> Exception:
    """Find the attributes whose validators have raised, which cattrs does not name.

    The validators can be called only if the class gets all the values that it needs.
    """
    noted, others = error.group_exceptions()
    if noted:
        return error
    errors: list[Exception] = [
        inner for inner in others if isinstance(inner, ForbiddenExtraKeysError)
    ]
    fields = attrs.fields(error.cl)
    known = {field.name: table[field.name] for field in fields if field.name in table}
    try:
        with attrs.validators.disabled():
            instance = structure_class(known, error.cl)
    except Exception:
        return error
    for field in fields:
        try:
            if field.validator is not None:
                field.validator(instance, field, getattr(instance, field.name))
        except Exception as invalid:
            errors.append(with_key(invalid, field.name))
    return ClassValidationError("", errors, error.cl) if errors else error


def _is_list(kind: Any) -> bool:
    arguments = get_args(kind)
    return get_origin(kind) is list or (get_origin(kind) is tuple and arguments[1:] == (Ellipsis,))


def _list_hook(kind: Any, converter: Converter) -> StructureHook:
    """Make the hook of a list or a tuple; a text is none, although it is iterable."""
    items: Any = GenericAlias(list, get_args(kind)[:1])
    structure_list = list_structure_factory(items, converter)
    return lambda value, _kind: get_origin(kind)(structure_list(parse_list(value), items))
