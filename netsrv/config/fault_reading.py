"""The reader of faults: tables of a file, and texts of the option ``--fault``.

It imports all types of faults, so it is imported only when a fault is read.
"""

import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from attrs import fields

from netsrv.config.fault import FAULT_OPTION, Errors, Fault
from netsrv.faults.fault import BOTH, MAX_SEED, Direction, FaultSettings
from netsrv.faults.kinds import DATAGRAM_KINDS, STREAM_KINDS, FaultKind, NoAttributes
from netsrv.guards.limits import NETWORKS
from netsrv.registry import FaultTypes, find_faults
from netsrv.settings import (
    SECONDS,
    InvalidValues,
    KeyPath,
    Parser,
    parse_number,
    parse_scalar,
    parse_table,
    parse_text,
    quote_value,
    unknown_key,
    whole_number,
)


def _parse_stream(value: Any) -> tuple[Direction, ...]:
    if value == BOTH:
        return tuple(Direction)
    try:
        return (Direction(value),)
    except ValueError:
        words = ", ".join(map(repr, [*map(str, Direction), BOTH]))
        raise ValueError(f"{quote_value(value)}: one of {words}") from None


SELECTORS: dict[str, tuple[str, Parser]] = {
    "stream": ("directions", _parse_stream),
    "probability": ("probability", parse_number),
    "toxicity": ("probability", parse_number),
    "skip": ("skip", whole_number(0, 10**9).parse),
    "first": ("first", whole_number(1, 10**9).parse),
    "every": ("every", whole_number(1, 10**9).parse),
    "only_from": ("only_from", NETWORKS.parse),
    "ttl": ("ttl", SECONDS.parse),
    "seed": ("seed", whole_number(0, MAX_SEED).parse),
}
"""The keys that every fault has: the fields of `FaultSettings`, and their parsers."""


def read_fault(value: Any) -> Fault:
    """Read the table of a fault.  Raises `InvalidValues`, unless some transport takes it."""
    table = parse_table(value)
    if "type" not in table:
        raise ValueError("it has no type, as in type = 'latency'")
    kind_name = parse_text(table["type"])
    of_streams, of_datagrams = (_try_kind(kind, table) for kind in find_kinds(kind_name))
    for found in (of_streams, of_datagrams):
        if isinstance(found, FaultSettings):
            return Fault(kind_name, found.name, of_streams, of_datagrams)
    errors = of_streams or of_datagrams
    if errors is None:
        raise InvalidValues([(("type",), _unknown_kind(kind_name))])
    assert isinstance(errors, tuple)
    raise InvalidValues(errors)


def find_kinds(name: str) -> tuple[FaultKind | None, FaultKind | None]:
    """Return the kinds of a name, of streams and of datagrams; None where there is none."""
    kinds = STREAM_KINDS.get(name), DATAGRAM_KINDS.get(name)
    if kinds != (None, None):
        return kinds
    types = plugin_types()
    return _kind_of(types.streams.get(name)), _kind_of(types.datagrams.get(name))


def plugin_types() -> FaultTypes:
    """Return the types that plugins add, searched for at most once a second."""
    return _search(int(time.monotonic()))


@lru_cache(1)
def _search(_second: int) -> FaultTypes:
    return find_faults()


def _kind_of(plugin: Any) -> FaultKind | None:
    if plugin is None:
        return None
    attributes = plugin.attributes or NoAttributes
    return FaultKind(plugin.name, plugin.description, attributes, plugin.stage)


def _unknown_kind(name: str) -> str:
    types = plugin_types()
    known = dict.fromkeys([*STREAM_KINDS, *DATAGRAM_KINDS, *types.streams, *types.datagrams])
    reasons = "".join(f"; {problem}" for problem in types.problems)
    return f"{quote_value(name)}: {unknown_key(name, known, 'fault')}{reasons}"


def _try_kind(kind: FaultKind | None, table: Mapping[str, Any]) -> FaultSettings | Errors | None:
    """Return a fault of a kind, or what is wrong with it; None if there is no such kind."""
    if kind is None:
        return None
    try:
        return make_fault(kind, table)
    except InvalidValues as error:
        return tuple(error.errors)


def make_fault(kind: FaultKind, table: Mapping[str, Any]) -> FaultSettings:
    """Make a fault of a *kind* from its table.  Raises `InvalidValues`."""
    errors: list[tuple[KeyPath, str]] = []
    values: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    known = [field.name for field in fields(kind.attributes)]
    for key, value in table.items():
        try:
            if key == "name":
                values["name"] = _parse_name(value)
            elif key in SELECTORS:
                name, parse = SELECTORS[key]
                values[name] = parse(value)
            elif key in known:
                attributes[key] = value
            elif key != "type":
                errors.append(((key,), unknown_key(key, ["name", *SELECTORS, *known])))
        except InvalidValues as error:
            errors += [((key, *below), text) for below, text in error.errors]
        except ValueError as error:
            errors.append(((key,), str(error)))
    made: Any = None
    try:
        from netsrv.config.structuring import structure  # cattrs takes 25 ms to import

        made = structure(attributes, kind.attributes)
    except InvalidValues as error:
        errors += error.errors
    if errors:
        raise InvalidValues(errors)
    directions = values.get("directions", (Direction.DOWNSTREAM,))
    stream = BOTH if len(directions) > 1 else directions[0]
    values.setdefault("name", f"{kind.name}_{stream}")
    return FaultSettings(kind, attributes=made, **values)


def _parse_name(value: Any) -> str:
    if not parse_text(value):
        raise ValueError(f"{quote_value(value)}: a text of one character or more")
    return str(value)


def parse_faults(value: Any) -> tuple[Fault, ...]:
    """Parse the tables of a listener's faults.  Raises ValueError."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"{quote_value(value)}: each fault begins with [[listener.fault]]")
    faults: list[Fault] = []
    errors: list[tuple[KeyPath, str]] = []
    for index, table in enumerate(value):
        try:
            faults.append(read_fault(table))
        except InvalidValues as error:
            errors += [((index, *below), text) for below, text in error.errors]
        except ValueError as error:
            errors.append(((index,), str(error)))
    names = [fault.name for fault in faults]
    for index, name in enumerate(names):
        if name in names[:index]:
            errors.append(((index, "name"), f"{quote_value(name)}: another fault has this name"))
    if errors:
        raise InvalidValues(errors)
    return tuple(faults)


def parse_texts(texts: Sequence[str]) -> tuple[Fault, ...]:
    """Parse arguments of ``--fault``: ``latency:latency=200,jitter=50``.  Raises ValueError."""
    return parse_faults([_table_of(text) for text in texts])


def _table_of(text: str) -> dict[str, Any]:
    kind, _, rest = text.partition(":")
    table: dict[str, Any] = {"type": kind}
    for pair in filter(None, rest.split(",")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"{quote_value(text)}: write {FAULT_OPTION}")
        if key == "only_from":
            table.setdefault(key, []).append(value)
        elif value in ("true", "false"):
            table[key] = value == "true"
        else:
            table[key] = value if key in ("name", "type") else parse_scalar(value)
    return table


def fault_schema() -> dict[str, Any]:
    """Return the JSON Schema of the tables; a plugin may add other types."""
    types = {"type": "string", "examples": [*dict.fromkeys([*STREAM_KINDS, *DATAGRAM_KINDS])]}
    table = {"type": "object", "required": ["type"], "properties": {"type": types}}
    return {"type": "array", "items": table}
