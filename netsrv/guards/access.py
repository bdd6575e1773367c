"""Access by network: networks that are allowed, and networks that are denied."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network

from netsrv.guards.sources import Source, source_of
from netsrv.settings import MAX_QUOTED_LENGTH, quote_value

Network = IPv4Network | IPv6Network

_CACHE_SIZE = 4096
"""Answers that are cached, since most peers connect more than once."""


def parse_network(text: str) -> Network:
    """Parse ``192.0.2.0/24``, ``2001:db8::/32`` or a single address.

    A network inside ``::ffff:0:0/96`` is the IPv4 network.  Raises ValueError with what
    would be right.
    """
    try:
        network = ip_network(text.strip())
    except ValueError as error:
        problem = f"{error};" if len(text) <= MAX_QUOTED_LENGTH else f"{quote_value(text)}:"
        raise ValueError(f"{problem} write a network as 192.0.2.0/24 or 2001:db8::/32") from None
    if isinstance(network, IPv6Network) and network.prefixlen >= 96:
        source = source_of(str(network.network_address))
        if len(source.packed) == 4:
            return IPv4Network((source.packed, network.prefixlen - 96))
    return network


class Access:
    """Decides whether a source is allowed, at the cost of a few look-ups.

    The network with the longest prefix that contains the source decides; of two equal
    networks, the one that denies.  With *only_from*, all other networks are denied: without
    any network in it, every source is.  None allows all.
    """

    def __init__(
        self, only_from: Iterable[Network] | None = None, no_access: Iterable[Network] = ()
    ) -> None:
        allowed, denied = list(only_from or ()), list(no_access)
        self._default = only_from is None
        self._tables: dict[int, dict[int, dict[int, bool]]] = {32: {}, 128: {}}
        for networks, answer in ((allowed, True), (denied, False)):
            for network in networks:
                prefix = network.prefixlen
                table = self._tables[network.max_prefixlen].setdefault(prefix, {})
                table[int(network.network_address) >> (network.max_prefixlen - prefix)] = answer
        for width, tables in self._tables.items():
            self._tables[width] = dict(sorted(tables.items(), reverse=True))
        self.answers: dict[bytes, bool] = {}
        """The answers of `allows` by packed address, as far as they are cached."""

    def allows(self, source: Source) -> bool:
        """Return True if *source* is allowed."""
        answer = self.answers.get(source.packed)
        if answer is None:
            if len(self.answers) >= _CACHE_SIZE:
                self.answers.clear()
            answer = self.answers[source.packed] = self._look_up(source)
        return answer

    def _look_up(self, source: Source) -> bool:
        width = 8 * len(source.packed)
        number = int.from_bytes(source.packed, "big")
        for prefix, table in self._tables[width].items():
            answer = table.get(number >> (width - prefix))
            if answer is not None:
                return answer
        return self._default
