"""Toxics: the faults of a proxy as the API has them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import asdict, evolve, fields

from netsrv.config.fault_reading import SELECTORS, make_fault
from netsrv.control.bodies import BadRequest, as_object, field
from netsrv.faults.fault import BOTH, Direction, Fault, FaultSettings
from netsrv.faults.kinds import FaultKind
from netsrv.settings import InvalidValues

STREAMS = ("upstream", "downstream")
ALL_STREAMS = (*STREAMS, BOTH)
"""The streams of a toxic, and those of a fault that is created with its proxy."""

OWN_SELECTORS = [name for name in SELECTORS if name not in ("stream", "probability", "toxicity")]
"""Selectors that toxiproxy does not have: further keys of a toxic."""


class WrongToxic(ValueError):
    """A toxic that cannot be: the text is toxiproxy's."""


def read_toxic(
    table: Mapping[str, Any],
    find_kind: Callable[[str], FaultKind | None],
    streams: Sequence[str] = STREAMS,
) -> FaultSettings:
    """Return the fault that a toxic's object asks for; its stream is one of *streams*.

    Raises `WrongToxic` for its stream or its type, and `BadRequest` for its attributes.  Its name
    is ``TYPE_STREAM`` unless it has one.
    """
    stream = field(table, "stream", str, str(Direction.DOWNSTREAM))
    kind_name = field(table, "type", str, "")
    name = field(table, "name", str, "")
    toxicity = field(table, "toxicity", float, 1.0)
    as_object(table.get("attributes"))
    if stream.lower() not in streams:
        raise WrongToxic("stream was invalid, can be either upstream or downstream")
    kind = find_kind(kind_name)
    if kind is None:
        raise WrongToxic("invalid toxic type")
    document: dict[str, Any] = {
        "name": name or f"{kind_name}_{stream}",
        "stream": stream.lower(),
        "probability": toxicity,
    }
    document |= {key: table[key] for key in OWN_SELECTORS if table.get(key) is not None}
    return _make(kind, document, table)


def _make(kind: FaultKind, document: dict[str, Any], table: Mapping[str, Any]) -> FaultSettings:
    attributes = _attributes(kind, table)
    try:
        return make_fault(kind, document | attributes)
    except InvalidValues as error:
        [(keys, text), *_] = error.errors
        raise BadRequest(f"{'.'.join(map(str, keys))}: {text}") from None


def _attributes(kind: FaultKind, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that an object gives; a whole number may be written as 1000.0."""
    given = as_object(table.get("attributes"))
    names = [attribute.name for attribute in fields(kind.attributes)]
    return {
        name: _whole(name, value) if isinstance(value, int | float) else value
        for name in names
        if (value := given.get(name)) is not None
    }


def _whole(name: str, value: float) -> float:
    """Return a number as an int if it is whole.  Raises `BadRequest` beyond 64 bits."""
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        return value
    if not -(2**63) <= value < 2**63:
        raise BadRequest(f"{name}: {value}: a number of 64 bits")
    return int(value)


def updated(settings: FaultSettings, table: Mapping[str, Any]) -> FaultSettings:
    """Return a fault with the attributes and the toxicity that an object gives; others stay."""
    toxicity = field(table, "toxicity", float, settings.probability)
    document = {
        name: value for name, value in asdict(settings.attributes).items() if value is not None
    }
    attributes = _attributes(settings.kind, table)
    made = _make(settings.kind, {"name": settings.name} | document, {"attributes": attributes})
    return evolve(settings, attributes=made.attributes, probability=toxicity)


def show_toxic(settings: FaultSettings, fault: Fault | None, now: float) -> dict[str, Any]:
    """Return the object of a toxic; *fault* is the one in effect, None while there is none."""
    toxicity = float(settings.probability)
    shown = {
        "attributes": asdict(settings.attributes),
        "name": settings.name,
        "type": settings.kind.name,
        "stream": settings.stream,
        "toxicity": int(toxicity) if toxicity.is_integer() else toxicity,
    }
    if fault is not None:
        description = fault.describe(now)
        shown |= {"hits": description["hits"], "expires_in": description["expires_in"]}
    for key in ("skip", "first", "ttl", "seed"):
        value = getattr(settings, key)
        if value or (key == "seed" and value is not None):
            shown[key] = value
    if settings.every != 1:
        shown["every"] = settings.every
    if settings.only_from is not None:
        shown["only_from"] = list(map(str, settings.only_from))
    return shown
