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

from netsrv.datagrams import mmsg, single
from netsrv.datagrams.mmsg import BATCH_SIZE, NAME_SIZE, RecvArrays, SendArrays
from netsrv.datagrams.pktinfo import host_and_port, parse_pktinfo
from netsrv.datagrams.single import FLOW_CACHE_SIZE, Failure, ReceivedBatch, send_each
from netsrv.guards.sources import ControlMessage, Flow, PacketInfo

SINGLE_RUN = 32
"""Datagrams that are received by themselves after one that came alone."""

MIN_BATCH_SEND = 6
"""Datagrams that are sent one by one, which is cheaper than to make the arrays ready."""

_IPV4 = struct.Struct("!2xH4s8x")
_IPV6 = struct.Struct("!2xHI16s4x")
_SCOPE = struct.Struct("=I")
_FAMILY = struct.Struct("=H")
_CMSG_HEADER = struct.Struct("=Qii")  # length with this header, level, type

_SOCKET = socket.socket


def usable(sock: Any) -> bool:
    """Whether datagrams of *sock* can come and go in batches: on Linux, if it is the kernel's."""
    return mmsg.AVAILABLE and isinstance(sock, _SOCKET)


@define(eq=False)
class Address(Flow):
    """A flow in the kernel's own form."""

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


class MappedBatch(ReceivedBatch):
    """Datagrams that are where the kernel has put them."""

    def __init__(
        self,
        sock: Any,
        inbox: RecvArrays,
        flows: Sequence[Flow],
        sizes: list[int],
        indices: Sequence[int] | None = None,
    ) -> None:
        super().__init__(sock, flows, sizes, ())
        self._inbox = inbox
        self._indices = indices

    def data(self) -> Sequence[bytes]:
        data = self._inbox.data
        indices = range(len(self.sizes)) if self._indices is None else self._indices
        return [
            data[index * mmsg.STRIDE : index * mmsg.STRIDE + size]
            for index, size in zip(indices, self.sizes, strict=True)
        ]

    def only(self, indices: Sequence[int]) -> ReceivedBatch:
        before = self._indices
        return MappedBatch(
            self._sock,
            self._inbox,
            [self.flows[each] for each in indices],
            [self.sizes[each] for each in indices],
            indices if before is None else [before[each] for each in indices],
        )

    def send_back(self) -> list[Failure]:
        return self._inbox.send_back(self._sock.fileno(), self._indices, self.flows, self.sizes)

    def free(self) -> None:
        _free.append(self._inbox)


class BatchIO(single.SingleIO):
    """The calls of one port.

    Where datagrams come one by one, the plain call is the cheaper one.  So after a batch of
    one, the next few had better be received by themselves.
    """

    def __init__(self, sock: socket.socket, space: int, packet_info: PacketInfo) -> None:
        super().__init__(sock, space, packet_info)
        self._family: int = sock.family
        self._addresses = _Addresses(packet_info)
        self.prefer_single = SINGLE_RUN

    def receive(self, most: int, largest: int) -> ReceivedBatch:
        """Receive what has arrived, up to *most* datagrams or `BATCH_SIZE`."""
        inbox = _free.pop() if _free else RecvArrays()
        try:
            count = inbox.receive(self._sock.fileno(), min(most, BATCH_SIZE), self._space)
        except OSError:
            _free.append(inbox)
            raise
        if count == 1:
            self.prefer_single = SINGLE_RUN
        keys = inbox.keys(count, self._family, self._space)
        flows = [*map(self._addresses.__getitem__, keys)]
        return MappedBatch(self._sock, inbox, flows, inbox.sizes(count))

    def receive_one(self, largest: int) -> tuple[bytes, Flow, int]:
        """Receive a datagram; where there is nothing to know beside it, that is cheaper."""
        if self._space:
            return super().receive_one(largest)
        data, sockaddr = self._sock.recvfrom(mmsg.BUFFER_SIZE)
        try:
            flow = self._flows[sockaddr]
        except KeyError:
            flow = self.learn(sockaddr, sockaddr, ())
        return data, flow, len(data)

    def _learn(self, sockaddr: Any, messages: Sequence[ControlMessage]) -> Flow:
        packet_info = parse_pktinfo(messages) if messages else self._packet_info
        name = _name(self._family, sockaddr)
        return Address(host_and_port(sockaddr), packet_info, name, _packed(packet_info.answer))

    def target(self, peer: tuple[str, int], sockaddr: Any) -> Flow:
        """Where to send what is no answer: *sockaddr* is the address as the kernel has it."""
        return Address(peer, name=_name(self._family, sockaddr))

    def send(self, packets: Sequence[bytes], targets: Sequence[Flow]) -> list[Failure]:
        """Send up to `BATCH_SIZE` datagrams, each to the target beside it."""
        if len(packets) < MIN_BATCH_SEND:
            return send_each(self._sock, packets, targets)
        return _outbox().send(self._sock.fileno(), packets, targets, self._space > 0)


class _Addresses(dict[bytes, Address]):
    """What the kernel's bytes stand for, remembered."""

    def __init__(self, packet_info: PacketInfo) -> None:
        super().__init__()
        self._packet_info = packet_info

    def __missing__(self, key: bytes) -> Address:
        if len(self) >= FLOW_CACHE_SIZE:
            self.clear()
        name = key[:NAME_SIZE].ljust(NAME_SIZE, b"\0")
        messages = list(_messages(key[NAME_SIZE:]))
        packet_info = parse_pktinfo(messages) if messages else self._packet_info
        found = self[key] = Address(_peer(name), packet_info, name, _packed(packet_info.answer))
        return found


def _messages(data: bytes) -> Iterator[ControlMessage]:
    """Take apart the control messages of a datagram (cmsg(3))."""
    start = 0
    while start + _CMSG_HEADER.size <= len(data):
        size, level, kind = _CMSG_HEADER.unpack_from(data, start)
        if size < _CMSG_HEADER.size:
            return
        yield level, kind, data[start + _CMSG_HEADER.size : start + size]
        start += -(-size // 8) * 8


def _packed(messages: Iterable[ControlMessage]) -> bytes:
    packed = b""
    for level, kind, data in messages:
        packed += _CMSG_HEADER.pack(_CMSG_HEADER.size + len(data), level, kind) + data
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
    return (_FAMILY.pack(family) + packed[2:]).ljust(NAME_SIZE, b"\0")
