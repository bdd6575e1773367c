"""The settings of the gate: who may come in, how many, and how fast."""

from enum import Enum

from attrs import field, frozen

from netsrv.guards.access import Network
from netsrv.guards.rates import Rate

DATAGRAM_RATE = Rate(1000, 1000)

SERVERS_PORTS = frozenset({*range(1024), 2049})
"""Ports that servers have and clients have not; 2049 is NFS."""

IN_ACCESS = {"elsewhere": "access"}
"""In a configuration file these have a table of their own."""


class Overload(Enum):
    """What happens to newcomers at ``max_connections`` and at ``connection_rate``."""

    PAUSE = "pause"
    """They wait in the kernel's backlog until there is a place."""
    CLOSE = "close"
    """They are accepted and closed."""
    RESET = "reset"
    """They are accepted and reset."""


@frozen
class Limits:
    """The limits of one listener.  None means no limit."""

    max_connections: int | None = None
    """Connections at once; None means as many as there are descriptors."""
    overload: Overload = Overload.PAUSE
    per_source: int | None = None
    """Connections at once from one IPv4 address or one IPv6 /64."""
    connection_rate: Rate | None = None
    """New connections a second."""
    only_from: tuple[Network, ...] = field(default=(), metadata=IN_ACCESS)
    """The networks that may come in; none means all."""
    no_access: tuple[Network, ...] = field(default=(), metadata=IN_ACCESS)
    """The networks that may not."""
    datagram_rate: Rate | None = DATAGRAM_RATE
    """Datagrams a second that are served from each source, but those on this machine."""
    refuse_source_ports: frozenset[int] = SERVERS_PORTS
    """Source ports whose datagrams are not served: other servers' ports."""
    idle_timeout: float | None = None
    """Seconds after which a connection ends on which no byte moved either way."""
    lifetime: float | None = None
    """Seconds after which a connection ends, whatever happens on it."""
    write_timeout: float | None = 60.0
    """Seconds after which a connection is aborted whose waiting output makes no progress."""
    close_grace: float = 5.0
    """Seconds that a peer may take when we close, or let us wait, before it is aborted."""

    @property
    def shortest(self) -> float:
        """The shortest of the time limits, in seconds."""
        times = (self.idle_timeout, self.lifetime, self.write_timeout, self.close_grace)
        return min(each for each in times if each is not None)


NO_LIMITS = Limits()
