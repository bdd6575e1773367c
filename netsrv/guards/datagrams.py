"""Which datagrams are served: rules against loops, reflection and floods.

A sender's address can be forged.  So a datagram is not served that seems to come from
where another server listens (two that answer each other never stop: CERT CA-1996-01,
CVE-2024-2169), or from where nobody can be; nor one that was sent to many, who
would all answer.
"""

from collections.abc import Container

from netsrv.arrivals import Arrival
from netsrv.guards.access import Access
from netsrv.guards.rates import Rate, SourceRates
from netsrv.interfaces import Drop
from netsrv.sources import Source


def parse_ports(text: str) -> frozenset[int]:
    """Parse ``0-1023,2049``, or ``none``.  Raises ValueError with what would be right."""
    ports: set[int] = set()
    for part in () if text == "none" else text.split(","):
        first, dash, last = part.strip().partition("-")
        last = last if dash else first
        if not (part.isascii() and first.isdigit() and last.isdigit()):
            raise ValueError(f"{text!r}: write ports as 0-1023,2049, or none")
        low, high = int(first[:6]), int(last[:6])
        if not low <= high <= 65535:
            raise ValueError(f"{text!r}: ports are numbers from 0 to 65535, the lower one first")
        ports.update(range(low, high + 1))
    return frozenset(ports)


class DatagramGuard:
    """Asked for each datagram of one listener.

    *refused_ports* and *own_ports* are source ports; *rate* is for each source but those
    on this machine.  *safe* are the rules against loops and reflection; without them only
    access and the rate are asked.
    """

    def __init__(
        self,
        access: Access,
        refused_ports: frozenset[int],
        own_ports: Container[int],
        rate: Rate | None,
        safe: bool = True,
    ) -> None:
        self.safe = safe
        self._own_ports = own_ports
        self._rate: Rate | None = None
        self._rates: SourceRates | None = None
        self.change(access, refused_ports, rate)

    def change(self, access: Access, refused_ports: frozenset[int], rate: Rate | None) -> None:
        """Ask by other rules from now on.  Where the rate is the same, who has used it up has."""
        self._access = access
        self._refused_ports = refused_ports
        if rate != self._rate:
            self._rate = rate
            self._rates = None if rate is None else SourceRates(rate)

    def drop(self, source: Source, port: int, arrival: Arrival, now: float) -> Drop | None:
        """Why a datagram is not served, or None if it is."""
        drop = self._by_port(port) or _by_addresses(source, arrival) if self.safe else None
        return drop or self._by_limits(source, now)

    def _by_port(self, port: int) -> Drop | None:
        if port in self._own_ports:
            return Drop.OWN_PORT
        if port in self._refused_ports or port == 0:
            return Drop.SOURCE_PORT
        return None

    def _by_limits(self, source: Source, now: float) -> Drop | None:
        if not self._access.allows(source):
            return Drop.ACCESS
        if self._rates is not None and not source.loopback and not self._rates.take(source, now):
            return Drop.DATAGRAM_RATE
        return None


def _by_addresses(source: Source, arrival: Arrival) -> Drop | None:
    if not source.unicast:
        return Drop.NOT_UNICAST
    if not arrival.unicast:
        return Drop.DESTINATION
    if source.loopback and not arrival.loopback:
        return Drop.MARTIAN
    return None
