"""The source of a peer, which limits count; and the flow of a datagram.

An IPv4 address is one source.  An IPv6 /64 is one source, since a host has all of its addresses.
An IPv4 address inside IPv6 (RFC 4291, 2.5.5.2) is the IPv4 address.
"""

import socket
from functools import lru_cache
from typing import Any

from attrs import define, field, frozen

_MAPPED = b"\0" * 10 + b"\xff\xff"
_PREFIX = 8
_CACHE_SIZE = 4096
"""Sources that are remembered: most peers come more than once."""


@frozen
class Source:
    """The source of a peer: access is checked for `packed`, limits count by `key`."""

    packed: bytes
    """The address: 4 bytes of IPv4 or 16 of IPv6, in network order."""

    key: bytes = field(init=False, eq=False)
    """The 4 bytes of an IPv4 address, or the first 8 of an IPv6 address."""

    @key.default
    def _key(self) -> bytes:
        return self.packed[:_PREFIX]

    @property
    def loopback(self) -> bool:
        """True if the peer is on this machine: 127.0.0.0/8 or ::1."""
        packed = self.packed
        return packed[0] == 127 if len(packed) == 4 else packed == b"\0" * 15 + b"\1"

    @property
    def unicast(self) -> bool:
        """True if a host can have the address: it is not multicast, broadcast or unspecified."""
        packed = self.packed
        if len(packed) == 4:
            return 0 < packed[0] < 224
        return packed[0] != 255 and any(packed)


@lru_cache(_CACHE_SIZE)
def source_of(host: str) -> Source:
    """Return the source of a numeric address, which may have a scope (``fe80::1%2``).

    Raises ValueError for any other text.
    """
    try:
        if ":" not in host:
            return Source(socket.inet_pton(socket.AF_INET, host))
        packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    except OSError:
        raise ValueError(f"{host!r} is not an IP address") from None
    return Source(packed[len(_MAPPED) :] if packed.startswith(_MAPPED) else packed)


ControlMessage = tuple[int, int, bytes]
"""Level, type and data of a control message, as in the ancdata of `socket.socket.recvmsg`."""


@frozen
class PacketInfo:
    """How a datagram arrived; the defaults are those of one about which nothing is known."""

    unicast: bool = True
    """False if it was sent to a broadcast or multicast address."""
    loopback: bool = True
    """False if it came over another interface than loopback."""
    reply_ancdata: tuple[ControlMessage, ...] = ()
    """The control messages that make a reply leave from the address of the request."""
    local: str | None = field(default=None, eq=False)
    """The address of this machine that was asked, with its scope if it is link-local.

    None if the socket is bound to a single address, or the system does not report it.
    """


@define(eq=False)
class Flow:
    """The sender of a datagram, and how it arrived.  Datagrams of one flow share an object."""

    peer: tuple[str, int]
    """A numeric address, with its scope if it is link-local, and a port."""
    packet_info: PacketInfo = PacketInfo()
    sockaddr: Any = None
    """The peer as sendto(2) takes it: the `socket` module ignores a scope in `peer`."""
