"""Who may come in: networks that are allowed and networks that are not."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network

from netsrv.guards.sources import Source, source_of

Network = IPv4Network | IPv6Network

_REMEMBERED = 4096
"""Answers that are kept: most peers come more than once."""


def parse_network(text: str) -> Network:
    """Parse ``192.0.2.0/24``, ``2001:db8::/32`` or a single address.

    A network inside ``::ffff:0:0/96`` is the IPv4 network.  Raises ValueError with what
    would be right.
    """
    try:
        network = ip_network(text.strip())
    except ValueError as error:
        raise ValueError(f"{error}; write a network as 192.0.2.0/24 or 2001:db8::/32") from None
    if isinstance(network, IPv6Network) and network.prefixlen >= 96:
        source = source_of(str(network.network_address))
        if len(source.packed) == 4:
            return IPv4Network((source.packed, network.prefixlen - 96))
    return network


class Access:
    """Answers whether a source may come in, at the cost of a few look-ups.

    The network with the longest prefix that contains the source decides, and of two
    equal ones the one that denies.  Where only some are allowed, all others are not.
    """

    def __init__(
        self, only_from: Iterable[Network] = (), no_access: Iterable[Network] = ()
    ) -> None:
        allowed, denied = list(only_from), list(no_access)
        self._otherwise = not allowed
        self._tables: dict[int, dict[int, dict[int, bool]]] = {32: {}, 128: {}}
        for networks, answer in ((allowed, True), (denied, False)):
            for each in networks:
                table = self._tables[each.max_prefixlen].setdefault(each.prefixlen, {})
                table[int(each.network_address) >> (each.max_prefixlen - each.prefixlen)] = answer
        for width, tables in self._tables.items():
            self._tables[width] = dict(sorted(tables.items(), reverse=True))
        self._answers: dict[bytes, bool] = {}

    def allows(self, source: Source) -> bool:
        """Whether *source* may come in."""
        answer = self._answers.get(source.packed)
        if answer is None:
            if len(self._answers) >= _REMEMBERED:
                self._answers.clear()
            answer = self._answers[source.packed] = self._look_up(source)
        return answer

    def _look_up(self, source: Source) -> bool:
        width = 8 * len(source.packed)
        number = int.from_bytes(source.packed, "big")
        for prefix, table in self._tables[width].items():
            answer = table.get(number >> (width - prefix))
            if answer is not None:
                return answer
        return self._otherwise
