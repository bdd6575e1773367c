"""Bodies of requests: JSON as Go reads it, since clients know toxiproxy's answers.

Keys match in any case, a key that stands twice has its last value, null is as absent, unknown keys
are ignored, and so is what follows the first value.
"""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

KINDS = {
    str: "string",
    bool: "bool",
    int: "number",
    float: "number",
    list: "array",
    dict: "object",
}
GO_TYPES = {str: "string", bool: "bool", float: "float32", dict: "object"}


class BadRequest(ValueError):
    """The body of a request cannot be used; the text says why."""


def decode(body: bytes) -> Any:
    """Return the first JSON value of a body, with the keys of objects in lower case."""
    text = body.decode("utf-8", "replace").lstrip(" \t\r\n")
    if not text:
        raise BadRequest("EOF")
    decoder = json.JSONDecoder(object_pairs_hook=_fold, parse_constant=_refuse_constant)
    try:
        return decoder.raw_decode(text)[0]
    except json.JSONDecodeError as error:
        if error.pos >= len(text):
            raise BadRequest("unexpected EOF") from None
        raise BadRequest(
            f"invalid character {text[error.pos]!r} looking for beginning of value"
        ) from None
    except ValueError:  # a number of thousands of digits
        raise BadRequest("a number is too long") from None
    except RecursionError:
        raise BadRequest("exceeded max depth") from None


def decode_object(body: bytes) -> dict[str, Any]:
    """Return the object that a body holds; null is an empty one."""
    return as_object(decode(body))


def as_object(value: Any) -> dict[str, Any]:
    """Return a value that has to be an object; null is an empty one."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadRequest(f"json: cannot unmarshal {KINDS[type(value)]} into an object")
    return value


def field(table: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    """Return a field of an object; absent and null are the default."""
    value = table.get(name)
    if value is None:
        return default
    if kind is float and type(value) in (int, float):
        if abs(value) > 3.4e38:
            _mismatch(f"number {value}", name, kind)
        return value
    if type(value) is not kind:
        _mismatch(KINDS[type(value)], name, kind)
    return value


def _mismatch(kind: str, name: str, wanted: type) -> NoReturn:
    raise BadRequest(
        f"json: cannot unmarshal {kind} into Go struct field .{name} of type {GO_TYPES[wanted]}"
    )


def _fold(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key.lower(): value for key, value in pairs}


def _refuse_constant(name: str) -> NoReturn:
    raise BadRequest(f"invalid character {name[0]!r} looking for beginning of value")
