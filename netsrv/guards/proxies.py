"""The settings of the PROXY protocol: which proxies are trusted, and what their headers may be.

``[listener.proxy_protocol]``, and the option ``--proxy-protocol``.
"""

from collections.abc import Iterator
from enum import Enum
from typing import Any

from attrs import Factory, field, frozen

from netsrv.guards.access import Access, Network
from netsrv.guards.limits import COUNT, NETWORKS
from netsrv.proxy_protocol.header import DEFAULT_MAX_LENGTH, MAX_LENGTH, Rules, Transport
from netsrv.settings import (
    MAX_SECONDS,
    Kind,
    Section,
    choice,
    quote_value,
    setting,
    short_repr,
    whole_number,
)

MIN_HEADER_TIMEOUT = 3
"""Seconds that a receiver waits for a header, at least: a lost segment comes again within 3."""

MIN_MAX_LENGTH = 520
"""Bytes after the first 16 that every receiver accepts, by the specification."""


class Choice(Enum):
    """What becomes of a header that the specification leaves to the receiver."""

    ACCEPT = "accept"
    REJECT = "reject"


def _parse_timeout(value: Any) -> float:
    if type(value) not in (int, float) or not MIN_HEADER_TIMEOUT <= value <= MAX_SECONDS:
        raise ValueError(
            f"{quote_value(value)}: a number of seconds, from {MIN_HEADER_TIMEOUT} to {MAX_SECONDS}"
        )
    return float(value)


TIMEOUT = Kind(
    _parse_timeout,
    f"a number of seconds, at least {MIN_HEADER_TIMEOUT}",
    "S",
    schema={"type": "number", "minimum": MIN_HEADER_TIMEOUT, "maximum": MAX_SECONDS},
)

PROXY_PROTOCOL = Section("PROXY protocol", "proxy_protocol", "proxy_protocol_")


@frozen(repr=False)
class ProxyProtocolSettings:
    """The settings of one listener; without *from_* there is no PROXY protocol."""

    from_: tuple[Network, ...] | None = setting(
        None,
        PROXY_PROTOCOL,
        NETWORKS,
        "require a PROXY header of every peer, and close peers outside these networks",
        details="See :doc:`behind-a-load-balancer`. On a unix socket every peer is trusted "
        "that the permissions of its file let connect.",
        default_text="off",
        option="--proxy-protocol",
    )
    header_timeout: float = setting(
        5.0,
        PROXY_PROTOCOL,
        TIMEOUT,
        "close a connection whose header is not complete after S seconds",
        option=None,
    )
    max_length: int = setting(
        DEFAULT_MAX_LENGTH,
        PROXY_PROTOCOL,
        whole_number(MIN_MAX_LENGTH, MAX_LENGTH),
        "close a connection whose header of version 2 has more than N bytes after its first 16",
        option=None,
    )
    per_proxy: int | None = setting(
        None,
        PROXY_PROTOCOL,
        COUNT,
        "serve at most N connections at once by way of one proxy",
        details="An IPv4 address or an IPv6 /64 is one proxy. ``per_source`` counts the clients.",
        option=None,
    )
    unspec: Choice = setting(
        Choice.ACCEPT,
        PROXY_PROTOCOL,
        choice(Choice),
        "accept or reject headers without addresses: ``UNKNOWN`` and UNSPEC",
        details="If accepted, the addresses of the connection itself stand. LOCAL, with which a "
        "proxy checks the server's health, is always accepted.",
        option=None,
    )
    other_transport: Choice = setting(
        Choice.REJECT,
        PROXY_PROTOCOL,
        choice(Choice),
        "accept or reject headers about UDP on a connection, and about TCP on a datagram",
        details="If accepted, the addresses of the connection itself stand.",
        option=None,
    )

    proxies: Access = field(
        default=Factory(lambda self: Access(self.from_ or ()), takes_self=True),
        init=False,
        repr=False,
        eq=False,
    )
    """Decides whether a peer is a trusted proxy."""

    __repr__ = short_repr

    @property
    def enabled(self) -> bool:
        """True if a header is required."""
        return self.from_ is not None

    def rules(self, transport: Transport) -> Rules:
        """Return the rules for headers at a listener of a transport."""
        accepts_other = self.other_transport is Choice.ACCEPT
        unspec = self.unspec is Choice.ACCEPT
        return Rules(self.max_length, transport, unspec, accepts_other)


NO_PROXY_PROTOCOL = ProxyProtocolSettings()

STREAM_SETTINGS = frozenset({"proxy_protocol_header_timeout", "proxy_protocol_per_proxy"})
"""The keywords of settings that say nothing about datagrams."""

_OTHERS = ("header_timeout", "max_length", "per_proxy", "unspec", "other_transport")


def mistakes_of_proxying(
    settings: ProxyProtocolSettings, has_networks: bool
) -> Iterator[tuple[str, str]]:
    """Yield the keys that do not fit the others, each with a message.

    *has_networks* is true if peers have addresses, as on all but unix sockets.
    """
    if settings.from_ is None:
        for name in _OTHERS:
            if getattr(settings, name) != getattr(NO_PROXY_PROTOCOL, name):
                yield name, "there is no PROXY protocol without from, the proxies to trust"
                return
    elif not settings.from_ and has_networks:
        yield "from", "name at least one proxy, as in ['10.0.0.5']"
