"""Datagrams in batches: one call for many, where the system has it (Linux).

It has the face of `netsrv.datagrams.single`.  The calls and the kernel's arrays are in
`netsrv.datagrams.mmsg`; here is what the bytes in them mean.
"""

import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

from attrs import define

from netsrv.datagrams import mmsg
from netsrv.datagrams import single as plain
from netsrv.datagrams.mmsg import MOST, NAME, RecvArrays, SendArrays
from netsrv.datagrams.pktinfo import host_and_port, parse_pktinfo
from netsrv.datagrams.single import FLOW_CACHE_SIZE, Failure, Received, send_each
from netsrv.guards.sources import Flow, Message, PacketInfo

ALONE = 32
"""Datagrams that are received by themselves after one that came alone."""

FEW = 6
"""Datagrams that are sent one by one, which is cheaper than to make the arrays ready."""

_IPV4 = struct.Struct("!2xH4s8x")
_IPV6 = struct.Struct("!2xHI16s4x")
_SCOPE = struct.Struct("=I")
_FAMILY = struct.Struct("=H")
_MESSAGE = struct.Struct("=Qii")  # length with this header, level, type

_SOCKET = socket.socket


def usable(sock: Any) -> bool:
    """Whether datagrams of *sock* can come and go in batches: on Linux, if it is the kernel's."""
    return mmsg.AVAILABLE and isinstance(sock, _SOCKET)


@define(eq=False)
class Address(Flow):
    """An origin in the kernel's own form."""

    name: bytes = b""
    """The address of the peer."""
    message: bytes = b""
    """The control message with which an answer leaves."""


_free: list[RecvArrays] = []
"""Those that no batch is in.  All ports share them, since a reactor serves one batch at a
time; there is one, unless a batch was received while another was being served."""


@cache
def _outbox() -> SendArrays:
    return SendArrays()


class MappedBatch(Received):
    """Datagrams that are where the kernel has put them."""

    def __init__(
        self,
        sock: Any,
        inbox: RecvArrays,
        origins: Sequence[Flow],
        sizes: list[int],
        places: Sequence[int] | None = None,
    ) -> None:
        super().__init__(sock, origins, sizes, ())
        self._inbox = inbox
        self._places = places

    def data(self) -> Sequence[bytes]:
        data = self._inbox.data
        places = range(len(self.sizes)) if self._places is None else self._places
        return [
            data[place * mmsg.STRIDE : place * mmsg.STRIDE + size]
            for place, size in zip(places, self.sizes, strict=True)
        ]

    def only(self, places: Sequence[int]) -> Received:
        before = self._places
        return MappedBatch(
            self._sock,
            self._inbox,
            [self.origins[each] for each in places],
            [self.sizes[each] for each in places],
            places if before is None else [before[each] for each in places],
        )

    def send_back(self) -> list[Failure]:
        return self._inbox.send_back(self._sock.fileno(), self._places, self.origins, self.sizes)

    def free(self) -> None:
        _free.append(self._inbox)


class Calls(plain.Calls):
    """The calls of one port.

    Where datagrams come one by one, the plain call is the cheaper one.  So after a batch of
    one, the next few had better be received by themselves.
    """

    def __init__(self, sock: socket.socket, space: int, arrival: PacketInfo) -> None:
        super().__init__(sock, space, arrival)
        self._family: int = sock.family
        self._addresses = _Addresses(arrival)
        self.alone = ALONE

    def receive(self, most: int, largest: int) -> Received:
        """Receive what has arrived, up to *most* datagrams or `MOST`."""
        inbox = _free.pop() if _free else RecvArrays()
        try:
            count = inbox.receive(self._sock.fileno(), min(most, MOST), self._space)
        except OSError:
            _free.append(inbox)
            raise
        if count == 1:
            self.alone = ALONE
        keys = inbox.keys(count, self._family, self._space)
        origins = [*map(self._addresses.__getitem__, keys)]
        return MappedBatch(self._sock, inbox, origins, inbox.sizes(count))

    def receive_one(self, largest: int) -> tuple[bytes, Flow, int]:
        """Receive a datagram; where there is nothing to know beside it, that is cheaper."""
        if self._space:
            return super().receive_one(largest)
        data, sockaddr = self._sock.recvfrom(mmsg.ROOM)
        try:
            origin = self._origins[sockaddr]
        except KeyError:
            origin = self.learn(sockaddr, sockaddr, ())
        return data, origin, len(data)

    def _learn(self, sockaddr: Any, messages: Sequence[Message]) -> Flow:
        arrival = parse_pktinfo(messages) if messages else self._arrival
        name = _name(self._family, sockaddr)
        return Address(host_and_port(sockaddr), arrival, name, _packed(arrival.answer))

    def target(self, peer: tuple[str, int], sockaddr: Any) -> Flow:
        """Where to send what is no answer: *sockaddr* is the address as the kernel has it."""
        return Address(peer, name=_name(self._family, sockaddr))

    def send(self, packets: Sequence[bytes], targets: Sequence[Flow]) -> list[Failure]:
        """Send up to `MOST` datagrams, each to the target beside it."""
        if len(packets) < FEW:
            return send_each(self._sock, packets, targets)
        return _outbox().send(self._sock.fileno(), packets, targets, self._space > 0)


class _Addresses(dict[bytes, Address]):
    """What the kernel's bytes stand for, remembered."""

    def __init__(self, arrival: PacketInfo) -> None:
        super().__init__()
        self._arrival = arrival

    def __missing__(self, key: bytes) -> Address:
        if len(self) >= FLOW_CACHE_SIZE:
            self.clear()
        name = key[:NAME].ljust(NAME, b"\0")
        messages = list(_messages(key[NAME:]))
        arrival = parse_pktinfo(messages) if messages else self._arrival
        found = self[key] = Address(_peer(name), arrival, name, _packed(arrival.answer))
        return found


def _messages(data: bytes) -> Iterator[Message]:
    """Take apart the control messages of a datagram (cmsg(3))."""
    start = 0
    while start + _MESSAGE.size <= len(data):
        size, level, kind = _MESSAGE.unpack_from(data, start)
        if size < _MESSAGE.size:
            return
        yield level, kind, data[start + _MESSAGE.size : start + size]
        start += -(-size // 8) * 8


def _packed(messages: Iterable[Message]) -> bytes:
    packed = b""
    for level, kind, data in messages:
        packed += _MESSAGE.pack(_MESSAGE.size + len(data), level, kind) + data
        packed = packed.ljust(-(-len(packed) // 8) * 8, b"\0")
    return packed


def _peer(name: bytes) -> tuple[str, int]:
    if _FAMILY.unpack_from(name)[0] == socket.AF_INET:
        port, packed = _IPV4.unpack_from(name)
        return socket.inet_ntoa(packed), port
    port, _flow, packed = _IPV6.unpack_from(name)
    host = socket.inet_ntop(socket.AF_INET6, packed)
    return host_and_port((host, port, 0, *_SCOPE.unpack_from(name, 24)))


def _name(family: int, sockaddr: Any) -> bytes:
    if family == socket.AF_INET:
        packed = _IPV4.pack(sockaddr[1], socket.inet_aton(sockaddr[0]))
    else:
        host = sockaddr[0].partition("%")[0]
        packed = _IPV6.pack(sockaddr[1], sockaddr[2], socket.inet_pton(socket.AF_INET6, host))
        packed = packed[:24] + _SCOPE.pack(sockaddr[3])
    return (_FAMILY.pack(family) + packed[2:]).ljust(NAME, b"\0")
