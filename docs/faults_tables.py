"""The reference's tables of faults, made from the types of faults themselves.

Attributes and stages are documented in the code that has them; it is read from there.
"""

import ast
import inspect
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from textwrap import dedent
from typing import Any

from attrs import fields

from netsrv.faults.fault import Level
from netsrv.faults.kinds import DATAGRAM_KINDS, STREAM_KINDS, FaultKind
from netsrv.faults.stages import Stage, Unit

UNITS = {
    Level.ACCEPT: "a new connection",
    Level.DOWN: "the listener",
    Level.CONNECT: "a connection of ``forward``",
    Unit.CONNECTION: "a connection",
    Unit.CHUNK: "a chunk",
}

TABLES = {
    "streams": (STREAM_KINDS, {Level.TRAFFIC}),
    "listeners": (STREAM_KINDS, {Level.ACCEPT, Level.DOWN}),
    "forward": (STREAM_KINDS, {Level.CONNECT}),
    "datagrams": (DATAGRAM_KINDS, {Level.TRAFFIC, Level.DOWN}),
}
"""The tables by their names, each with its kinds of faults."""


def faults_table(name: str) -> list[str]:
    """Return a table of faults as lines of reStructuredText."""
    kinds, levels = TABLES[name]
    return _table([kind for kind in kinds.values() if kind.level in levels], kinds)


def _table(kinds: Iterable[FaultKind], known: Mapping[str, FaultKind]) -> list[str]:
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 18 12 70", ""]
    lines += _row("Type", "Unit", ["What it does"])
    for kind in kinds:
        text = [_semantics(kind), ""]
        text += _attributes(kind.attributes)
        unit = "a datagram" if known is DATAGRAM_KINDS and kind.stage else _unit(kind)
        lines += _row(f"``{kind.name}``", unit, text)
    return lines


def _row(first: str, second: str, text: list[str]) -> list[str]:
    head, *others = text
    below = [f"       {line}".rstrip() for line in others]
    return [f"   * - {first}", f"     - {second}", f"     - {head}", *below]


def _unit(kind: FaultKind) -> str:
    return UNITS[kind.level if kind.stage is None else kind.stage.unit]


def _semantics(kind: FaultKind) -> str:
    """Return how a fault behaves: the docstring of its stages, if they are its own."""
    if kind.stage not in (None, Stage):
        return _plain(kind.stage.__doc__)
    return f"{_sentence(kind.description)} {kind.details}".strip()


def _attributes(kind: type) -> Iterator[str]:
    documented = _documents(kind)
    for attribute in fields(kind):
        default, text = attribute.default, documented[attribute.name]
        if isinstance(default, Enum):
            words = _documents(type(default))
            text = " ".join([text, *_words(type(default), words)])
        yield f"- ``{attribute.name}``, {_type_name(attribute.type)} ({_show(default)}): {text}"


def _words(kind: type[Enum], documented: Mapping[str, str]) -> Iterator[str]:
    for member in kind:
        yield f"``{member.value}``: {_uncapitalised(documented[member.name])}"


def _type_name(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "word"
    names = {int: "number", float: "share", bool: "true or false"}
    return names.get(kind) or ("number" if kind == int | None else "share")


def _show(default: Any) -> str:
    if default is None:
        return "none"
    if isinstance(default, bool):
        return str(default).lower()
    return f"``{default}``" if isinstance(default, Enum) else f"{default:g}"


def _documents(kind: type) -> dict[str, str]:
    """Return the docstrings below the attributes of a class, by their names."""
    [tree] = ast.parse(dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    documented: dict[str, str] = {}
    name = ""
    for node in tree.body:
        if isinstance(node, ast.AnnAssign | ast.Assign):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            name = target.id if isinstance(target, ast.Name) else ""
        elif name and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            documented[name] = _plain(node.value.value)
            name = ""
    return documented


def _plain(text: Any) -> str:
    return " ".join(str(text).split())


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _uncapitalised(text: str) -> str:
    return f"{text[0].lower()}{text[1:]}"
