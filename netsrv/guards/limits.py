"""The settings of the gate: which peers are admitted, how many, how fast and for how long."""

from collections.abc import Sequence, Set
from enum import Enum
from typing import Any

from attrs import Factory, field, frozen

from netsrv.guards.access import Access, Network, parse_network
from netsrv.guards.ports import MAX_PORT, parse_ports, show_ports
from netsrv.guards.rates import Rate, parse_rate
from netsrv.guards.wheel import Paces
from netsrv.settings import (
    SECONDS,
    Kind,
    Section,
    choice,
    or_word,
    parse_each,
    parse_text,
    quote_value,
    setting,
    short_repr,
    whole_number,
)

DATAGRAM_RATE = Rate(1000, 1000)

SERVERS_PORTS = frozenset({*range(1024), 2049})
"""Ports on which servers listen, and from which no client sends; 2049 is NFS."""


class Overload(Enum):
    """What happens to new connections at ``max_connections`` and at ``connection_rate``."""

    PAUSE = "pause"
    """They wait in the kernel's backlog until a slot is free."""
    CLOSE = "close"
    """They are accepted and closed."""
    RESET = "reset"
    """They are accepted and reset."""


# Kinds


def _parse_rate(value: Any) -> Rate:
    if type(value) not in (int, float, str):
        raise ValueError(f"{quote_value(value)}: a rate is a number, or a text like '50:100'")
    return parse_rate(str(value))


def _parse_ports(value: Any) -> Set[int]:
    parts = value if isinstance(value, list) else [value]
    for part in parts:
        if type(part) not in (int, str):
            raise ValueError(f"{quote_value(part)}: write ports as '0-1023,2049', or 'none'")
    return parse_ports(",".join(map(str, parts)) if parts else "none")


def _parse_networks(value: Any) -> tuple[Network, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(f"{quote_value(value)}: a list of networks, as in ['10.0.0.0/8']")
    return parse_each(lambda network: parse_network(parse_text(network)), value)


def _split_networks(text: str) -> tuple[Network, ...]:
    return parse_each(parse_network, text.split(","))


COUNT = whole_number(1, 10**9)
RATE = Kind(
    _parse_rate,
    'a number, or with a burst ``"50:100"``',
    "RATE[:BURST]",
    schema={
        "anyOf": [
            {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1e9},
            {"type": "string", "pattern": r"^[0-9.]+(:[0-9.]+)?$"},
        ]
    },
)
PORT_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 0, "maximum": MAX_PORT},
        {"type": "string", "pattern": "^([0-9, -]+|none)$"},
    ]
}
PORTS = Kind(
    _parse_ports,
    '``"0-1023,2049"``, ``"none"``, or ``[7, "20-21"]``',
    "LIST|none",
    listed=True,
    plain=show_ports,
    schema={"anyOf": [PORT_SCHEMA, {"type": "array", "items": PORT_SCHEMA}]},
)
NETWORKS = Kind(
    _parse_networks,
    "a list of networks",
    "NETS",
    _split_networks,
    listed=True,
    schema={"type": "array", "items": {"type": "string"}},
)

ACCESS = Section("Access", "access")
CONNECTIONS = Section("Limits of connections", "limits")
DATAGRAMS = Section("Limits of datagrams", "limits")
TIMEOUTS = Section("Timeouts", "limits")


@frozen(repr=False)
class Limits:
    """The limits of one listener.  None means no limit."""

    max_connections: int | None = setting(
        None,
        CONNECTIONS,
        or_word(COUNT, "auto"),
        "serve at most N connections at once, per listener",
        details="``auto`` is as many as there are descriptors for (``ulimit -n``, less 64 that are "
        "kept for everything else), all listeners together.",
        default_text="auto",
    )
    overload: Overload = setting(
        Overload.PAUSE,
        CONNECTIONS,
        choice(Overload),
        "pause, close or reset new connections at a limit",
        details="The limits are ``--max-connections`` and ``--connection-rate``.",
    )
    per_source: int | None = setting(
        None,
        CONNECTIONS,
        COUNT,
        "serve at most N connections at once from one IPv4 address or IPv6 /64, per listener",
    )
    connection_rate: Rate | None = setting(
        None,
        CONNECTIONS,
        RATE,
        "accept at most RATE new connections a second, per listener",
        details="After a quiet time ``BURST`` may come at once; the default is one second's worth.",
    )
    only_from: tuple[Network, ...] | None = setting(
        None, ACCESS, NETWORKS, "allow only these networks, comma-separated", default_text="all"
    )
    no_access: tuple[Network, ...] = setting(
        (), ACCESS, NETWORKS, "deny these networks, comma-separated", default_text="none"
    )
    datagram_rate: Rate | None = setting(
        DATAGRAM_RATE,
        DATAGRAMS,
        or_word(RATE, "none"),
        "serve at most RATE datagrams a second from one IPv4 address or IPv6 /64",
        details="Sources on this machine have no rate.",
        default_text="1000",
    )
    refuse_source_ports: Set[int] = setting(
        SERVERS_PORTS,
        DATAGRAMS,
        PORTS,
        "drop datagrams from these UDP source ports",
        default_text="0-1023,2049",
    )
    idle_timeout: float | None = setting(
        None, TIMEOUTS, SECONDS, "close a connection after S seconds without traffic"
    )
    lifetime: float | None = setting(
        None, TIMEOUTS, SECONDS, "close a connection after S seconds, whatever happens on it"
    )
    write_timeout: float | None = setting(
        60.0,
        TIMEOUTS,
        or_word(SECONDS, "none"),
        "abort a connection whose output makes no progress for S seconds",
    )
    close_grace: float = setting(
        5.0,
        TIMEOUTS,
        SECONDS,
        "wait S seconds for the peer to close too, then abort the connection",
    )

    access: Access = field(
        default=Factory(lambda self: Access(self.only_from, self.no_access), takes_self=True),
        init=False,
        repr=False,
        eq=False,
    )
    """Decides by *only_from* and *no_access*; made here since long lists take their time."""

    open_paces: Paces = field(
        default=Factory(
            lambda self: Paces.of((self.idle_timeout, self.write_timeout), self.lifetime),
            takes_self=True,
        ),
        init=False,
        repr=False,
        eq=False,
    )
    """How often a connection is looked at."""

    closing_paces: Paces = field(
        default=Factory(lambda self: Paces.of((self.close_grace,), self.lifetime), takes_self=True),
        init=False,
        repr=False,
        eq=False,
    )
    """How often a connection is looked at that is being closed."""

    __repr__ = short_repr


NO_LIMITS = Limits()
