"""Who a peer is, for limits: one identity for each address that one party can hold.

An IPv4 address is one source.  Of IPv6 a whole /64 is: whoever has one address of it
has them all.  An IPv4 address inside IPv6 (RFC 4291, 2.5.5.2) is the IPv4 address.
"""

import socket
from functools import lru_cache

from attrs import define, field, frozen

_MAPPED = b"\0" * 10 + b"\xff\xff"
_PREFIX = 8
_CACHE_SIZE = 4096
"""Sources that are kept: most peers come more than once."""


@frozen
class Source:
    """Where a peer comes from.  `packed` decides about access, `key` counts."""

    packed: bytes
    """The address: 4 bytes of IPv4 or 16 of IPv6, in network order."""

    key: bytes = field(init=False, eq=False)
    """4 bytes of IPv4, or the 8 of an IPv6 /64."""

    @key.default
    def _key(self) -> bytes:
        return self.packed[:_PREFIX]

    @property
    def loopback(self) -> bool:
        """Whether the peer is on this machine: 127.0.0.0/8 or ::1."""
        packed = self.packed
        return packed[0] == 127 if len(packed) == 4 else packed == b"\0" * 15 + b"\1"

    @property
    def unicast(self) -> bool:
        """Whether one peer can have the address: no multicast, broadcast or unspecified one."""
        packed = self.packed
        if len(packed) == 4:
            return 0 < packed[0] < 224
        return packed[0] != 255 and any(packed)


@lru_cache(_CACHE_SIZE)
def source_of(host: str) -> Source:
    """Make the source of an address as the kernel gives it, with or without a scope.

    Raises ValueError for what is no address.
    """
    try:
        if ":" not in host:
            return Source(socket.inet_pton(socket.AF_INET, host))
        packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    except OSError:
        raise ValueError(f"{host!r} is not an IP address") from None
    return Source(packed[len(_MAPPED) :] if packed.startswith(_MAPPED) else packed)


ControlMessage = tuple[int, int, bytes]
"""Level, type and bytes of a control message, as `socket.socket.recvmsg` gives them."""


@frozen
class PacketInfo:
    """What is known of a datagram beside its sender; by default there is nothing against it."""

    unicast: bool = True
    """Whether it was sent to this host alone: to no broadcast or multicast address."""
    loopback: bool = True
    """Whether it came over the loopback interface, or may have."""
    reply_ancdata: tuple[ControlMessage, ...] = ()
    """The messages with which an answer leaves from the address that was asked."""


@define(eq=False)
class Flow:
    """Whom a datagram came from, and how.  All that come alike may share one."""

    peer: tuple[str, int]
    """A numeric address, which leads back also where it is link-local, and a port."""
    packet_info: PacketInfo = PacketInfo()
