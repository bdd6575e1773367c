"""A fault of a listener: what it does, and which connections it hits.

A decision depends only on the seed, the fault's name, the direction and the number of the
connection.  So the same clients in the same order get the same faults, whatever the scheduling.
"""

import math
from collections.abc import Callable, Iterable
from enum import StrEnum
from random import Random, randrange
from typing import Any

from attrs import asdict, evolve, field, fields, frozen

from netsrv.guards.access import Access, Network
from netsrv.guards.sources import Source

MAX_SEED = 2**63 - 1
MAX_PICKED_SEED = 2**31

BOTH = "both"
"""Stands for both directions."""


class Direction(StrEnum):
    """A direction of a connection, in toxiproxy's words."""

    UPSTREAM = "upstream"
    """From the peer to the service."""
    DOWNSTREAM = "downstream"
    """From the service to the peer."""


class Level(StrEnum):
    """What a kind of fault stands on the way of."""

    TRAFFIC = "traffic"
    """The data of a connection, or datagrams."""
    ACCEPT = "accept"
    """New connections."""
    DOWN = "down"
    """The listening socket."""
    CONNECT = "connect"
    """The connecting of the service forward to its upstream."""


@frozen
class FaultSettings:
    """What a user asks for."""

    kind: Any
    """The kind of fault: an `IStreamFault`."""
    name: str
    attributes: Any
    """An instance of the attributes class of the kind of fault."""
    directions: tuple[Direction, ...] = (Direction.DOWNSTREAM,)
    probability: float = 1.0
    """The share of the units that are hit: none at 0 or less, all at 1 or more."""
    skip: int = 0
    """Units that are passed over first."""
    first: int | None = None
    """Hits after which the fault hits no more; None for no limit."""
    every: int = 1
    """Of the units that are not skipped, only each N-th is hit."""
    only_from: tuple[Network, ...] | None = None
    """Networks of the peers that may be hit; None for all."""
    ttl: float | None = None
    """Seconds after which the fault is removed; None for never."""
    seed: int | None = None
    """The beginning of its random numbers; None for one that the fault picks."""

    @property
    def stream(self) -> str:
        """The directions in a word: ``upstream``, ``downstream`` or ``both``."""
        return BOTH if len(self.directions) > 1 else self.directions[0]

    access: Access = field(init=False, repr=False, eq=False)

    @access.default
    def _access(self) -> Access:
        return Access(self.only_from)

    def table(self) -> dict[str, Any]:
        """Return the keys of the fault in a file: its type, its name, and all that is not default.

        It has them in the order in which the log shows them.
        """
        chosen = {
            **_changed(self.attributes, fields(type(self.attributes))),
            **_changed(self, _SELECTORS),
        }
        stream = {} if self.stream == Direction.DOWNSTREAM else {"stream": self.stream}
        return {"type": self.kind.name, "name": self.name, **stream, **chosen}

    def __str__(self) -> str:
        """Return the fault as ``--fault`` takes it."""
        table = self.table()
        kind, networks = table.pop("type"), table.pop("only_from", ())
        pairs = [f"{key}={_shown(value)}" for key, value in table.items()]
        pairs += [f"only_from={network}" for network in networks]
        return f"{kind}:{','.join(pairs)}"


_SELECTORS = [
    getattr(fields(FaultSettings), name)
    for name in ("probability", "skip", "first", "every", "ttl", "seed", "only_from")
]


def _changed(instance: Any, attributes: Iterable[Any]) -> dict[str, Any]:
    """Return the values of *attributes* that are not the defaults."""
    values = {each.name: getattr(instance, each.name) for each in attributes}
    defaults = {each.name: each.default for each in attributes}
    return {name: value for name, value in values.items() if value != defaults[name]}


class Fault:
    """A fault in effect, with its counts.

    *now* returns seconds of a monotonic clock.  *connections* is the number of connections that
    came before the fault; their numbers do not count for its random numbers.
    """

    def __init__(
        self, settings: FaultSettings, now: Callable[[], float], connections: int = 0
    ) -> None:
        self.settings = settings
        self._connections = connections
        self.seed = randrange(MAX_PICKED_SEED) if settings.seed is None else settings.seed
        self.hits = 0
        """Units that were hit."""
        self.expires = math.inf if settings.ttl is None else now() + settings.ttl
        """When the fault is removed, in seconds of the clock."""
        self.free_at = 0.0
        """When a bandwidth that all connections share is free again."""
        self._counters = {direction: Counter() for direction in Direction}

    def update(self, attributes: Any, probability: float) -> bool:
        """Take other attributes and another probability; return True if that has changed."""
        changed = probability != self.settings.probability
        self.settings = evolve(self.settings, attributes=attributes, probability=probability)
        return changed

    def describe(self, now: float) -> dict[str, Any]:
        """Describe the fault in plain values; *now* is the time of the clock."""
        settings = self.settings
        left = None if self.expires == math.inf else max(self.expires - now, 0.0)
        return {
            "name": settings.name,
            "type": settings.kind.name,
            "stream": settings.stream,
            "probability": settings.probability,
            "attributes": asdict(settings.attributes),
            "seed": self.seed,
            "hits": self.hits,
            "expires_in": left,
        }

    def __str__(self) -> str:
        """Return the fault as ``--fault`` takes it, with its seed."""
        return str(evolve(self.settings, seed=self.seed))

    def matches(self, source: Source | None) -> bool:
        """Return True if a peer may be hit; a peer without an address only without only_from."""
        if self.settings.only_from is None:
            return True
        return source is not None and self.settings.access.allows(source)

    def count(self, direction: Direction) -> bool:
        """Count a unit of a peer that matches; return True if the counters let it be hit."""
        return self._counters[direction].count(self.settings)

    def generator(self, direction: Direction, number: int) -> Random:
        """Return the generator of random numbers for a connection or flow by its number.

        Connections that were live before their listener had faults have negative numbers.
        """
        if number > 0:
            number -= self._connections
        return Random(f"{self.seed}/{self.settings.name}/{direction}/{number}")

    def draw(self, generator: Random) -> bool:
        """Draw whether a unit is hit that the counters let be hit."""
        return generator.random() < self.settings.probability

    def hit(self, direction: Direction) -> None:
        """Count a hit."""
        self.hits += 1
        self._counters[direction].hits += 1


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class Counter:
    """Counts the units of a fault that match, and those that were hit."""

    __slots__ = ("hits", "matched")

    def __init__(self) -> None:
        self.matched = 0
        self.hits = 0

    def count(self, settings: FaultSettings) -> bool:
        """Count a unit, and apply ``skip``, ``every`` and ``first``, in this order."""
        self.matched += 1
        past_skip = self.matched - settings.skip
        if past_skip <= 0 or past_skip % settings.every:
            return False
        return settings.first is None or self.hits < settings.first
