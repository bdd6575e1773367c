"""Datagrams in batches: one call for many, where the system has it (Linux).

It has the interface of `netsrv.datagrams.single`.  The calls and the kernel's arrays are in
`netsrv.datagrams.mmsg`; this module knows what the bytes in them mean.
"""

import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

from attrs import define

from netsrv.batches import Peer
from netsrv.datagrams import mmsg, single
from netsrv.datagrams.batch import BATCH_SIZE, Batch
from netsrv.datagrams.mmsg import SOCKADDR_SIZE, RecvArrays, SendArrays
from netsrv.datagrams.pktinfo import host_and_port, parse_pktinfo
from netsrv.datagrams.single import (
    FLOW_CACHE_SIZE,
    Failure,
    SingleIO,
    as_os_error,
    next_after,
    send_each,
)
from netsrv.guards.sources import ControlMessage, Flow, PacketInfo

SINGLE_RUN = 32
"""Datagrams that are received by single calls after one that came alone."""

MIN_BATCH_SEND = 6
"""Datagrams, at least, that are sent in one call; fewer cost less in single calls."""

_IPV4 = struct.Struct("!2xH4s8x")
_IPV6 = struct.Struct("!2xHI16s4x")
_SCOPE = struct.Struct("=I")
_FAMILY = struct.Struct("=H")
_CMSGHDR = struct.Struct("=Qii")  # length with this header, level, type

_SOCKET = socket.socket


def usable(sock: Any) -> bool:
    """Return whether *sock* can receive and send in batches: a kernel's socket on Linux can."""
    return mmsg.AVAILABLE and isinstance(sock, _SOCKET)


@define(eq=False)
class KernelFlow(Flow):
    """A flow with the kernel's own form of its addresses."""

    packed: bytes = b""
    """The address of the peer."""
    reply_cmsgs: bytes = b""
    """The control messages of a reply."""


_free_arrays: list[RecvArrays] = []
"""Arrays that hold no batch.  All ports share them, since a reactor serves one batch at a
time; there is one, unless a batch was received while another was being served."""


@cache
def _send_arrays() -> SendArrays:
    return SendArrays()


class MappedBatch(Batch):
    """Datagrams that stay where the kernel put them: at *indices* of *arrays*, or at the start."""

    def __init__(
        self,
        port: Any,
        arrays: RecvArrays,
        flows: Sequence[Flow],
        sizes: Sequence[int],
        indices: Sequence[int] | None = None,
        whole: Batch | None = None,
    ) -> None:
        super().__init__(port, flows, sizes, whole=whole)
        self.arrays = arrays
        self.indices = indices

    def data(self) -> Sequence[bytes]:
        data = self.arrays.data
        indices = range(self.count) if self.indices is None else self.indices
        return [
            data[index * mmsg.STRIDE : index * mmsg.STRIDE + size]
            for index, size in zip(indices, self.sizes, strict=True)
        ]

    def datagram(self, index: int) -> bytes:
        start = (index if self.indices is None else self.indices[index]) * mmsg.STRIDE
        return self.arrays.data[start : start + self.sizes[index]]

    def close(self) -> None:
        super().close()
        _free_arrays.append(self.arrays)

    def _part(self, indices: Sequence[int], flows: list[Flow], sizes: list[int]) -> Batch:
        if self.indices is not None:
            indices = [self.indices[index] for index in indices]
        return MappedBatch(self._port, self.arrays, flows, sizes, indices, self._whole or self)


class BatchIO(SingleIO):
    """Receives and sends on a port's socket, many datagrams in one call.

    Where datagrams come one by one, the plain call is cheaper.  So after a batch of one, the
    next `SINGLE_RUN` are to be received by single calls.
    """

    def __init__(self, port: Any, sock: socket.socket, space: int, packet_info: PacketInfo) -> None:
        super().__init__(port, sock, space, packet_info)
        self._family: int = sock.family
        self._kernel_flows = _KernelFlows(packet_info)
        self._receive_refused = False
        self._send_refused = False
        self.prefer_single = SINGLE_RUN

    def receive(self, max_count: int, max_size: int) -> Batch:
        """Receive up to *max_count* datagrams, and no more than `BATCH_SIZE`.

        If the call is refused, single calls take its place from then on.
        """
        if self._receive_refused:
            return super().receive(max_count, max_size)
        arrays = _free_arrays.pop() if _free_arrays else RecvArrays()
        try:
            max_count = min(max_count, BATCH_SIZE)
            count = arrays.receive(self._sock.fileno(), max_count, self._family, self._space)
            flows = self._flows_of(arrays.names(count), arrays.control(count))
            batch = MappedBatch(self._port, arrays, flows, arrays.sizes(count))
        except OSError as error:
            _free_arrays.append(arrays)
            if error.errno not in mmsg.REFUSED:
                raise
            self._receive_refused = True
            return super().receive(max_count, max_size)
        except BaseException:
            _free_arrays.append(arrays)
            raise
        if count == 1:
            self.prefer_single = SINGLE_RUN
        return batch

    def _flows_of(self, names: Sequence[bytes], control: bytes | list[bytes]) -> list[Flow]:
        if isinstance(control, bytes):
            return [*map(self._kernel_flows.of_control(control).__getitem__, names)]
        return [*map(self._kernel_flows.__getitem__, zip(control, names, strict=True))]

    def receive_one(self, max_size: int) -> tuple[bytes, Flow, int]:
        """Receive a datagram; without control messages the cheaper recvfrom(2) will do."""
        if self._space:
            return super().receive_one(max_size)
        data, sockaddr = self._sock.recvfrom(mmsg.BUFFER_SIZE)
        try:
            flow = self._flows[sockaddr]
        except KeyError:
            flow = self._learn(sockaddr, sockaddr, ())
        return data, flow, len(data)

    def _flow(self, sockaddr: Any, messages: Sequence[ControlMessage]) -> Flow:
        packet_info = parse_pktinfo(messages) if messages else self._packet_info
        packed = _pack_sockaddr(self._family, sockaddr)
        cmsgs = _pack_cmsgs(packet_info)
        return KernelFlow(host_and_port(sockaddr), packet_info, sockaddr, packed, cmsgs)

    def flow_to(self, peer: Peer, sockaddr: Any) -> Flow:
        packed = _pack_sockaddr(self._family, sockaddr)
        return KernelFlow(peer, sockaddr=sockaddr, packed=packed)

    def send(self, packets: Sequence[bytes], flows: Sequence[Flow]) -> list[Failure]:
        """Send up to `BATCH_SIZE` packets, each to its flow; return the failures."""
        if len(packets) < MIN_BATCH_SEND or self._send_refused:
            return send_each(self._sock, packets, flows)
        try:
            headers = _send_arrays().headers_for(packets, flows, self._space > 0)
        except MemoryError:  # nothing was sent, and single calls need less
            return send_each(self._sock, packets, flows)
        return self._send(headers, flows, lambda: packets)

    def send_back(self, batch: Batch) -> list[Failure]:
        """Send each datagram of a batch from where it is; return the failures."""
        if self._send_refused or not isinstance(batch, MappedBatch):
            return super().send_back(batch)
        try:
            headers = batch.arrays.headers_back(batch.indices, batch.flows, batch.sizes)
        except MemoryError:
            return super().send_back(batch)
        return self._send(headers, batch.flows, batch.data)

    def _send(
        self,
        headers: mmsg.Headers,
        flows: Sequence[Flow],
        packets: Callable[[], Sequence[bytes]],
    ) -> list[Failure]:
        """Send in batches; where the call is refused, the plain call decides.

        If it sends the datagram, the call for many is refused, and is not tried again.
        """
        failures: list[Failure] = []
        descriptor, count = self._sock.fileno(), len(flows)
        done = headers.send(descriptor, 0, count, failures)
        while done < count:
            try:
                single.send_one(self._sock, packets()[done], flows[done])
            except (OSError, MemoryError) as error:
                done = next_after(failures, done, count, as_os_error(error))
                done = headers.send(descriptor, done, count, failures)
            else:
                self._send_refused = True
                rest = send_each(self._sock, packets()[done + 1 :], flows[done + 1 :])
                return failures + [(done + 1 + index, error) for index, error in rest]
        return failures


class _KernelFlows(dict[tuple[bytes, bytes], KernelFlow]):
    """The flows by the control messages and the sender's name that came with their datagrams."""

    def __init__(self, packet_info: PacketInfo) -> None:
        super().__init__()
        self._packet_info = packet_info
        self._by_control: dict[bytes, _FlowsOfControl] = {}

    def of_control(self, control: bytes) -> "_FlowsOfControl":
        """Return those of some control messages, by the sender's name alone."""
        try:
            return self._by_control[control]
        except KeyError:
            flows = self._by_control[control] = _FlowsOfControl(self, control)
            return flows

    def __missing__(self, key: tuple[bytes, bytes]) -> KernelFlow:
        if len(self) >= FLOW_CACHE_SIZE:
            self.clear()
            self._by_control.clear()
        control, name = key
        packed = name.ljust(SOCKADDR_SIZE, b"\0")
        messages = list(_unpack_cmsgs(control))
        packet_info = parse_pktinfo(messages) if messages else self._packet_info
        sockaddr, cmsgs = _unpack_sockaddr(packed), _pack_cmsgs(packet_info)
        flow = self[key] = KernelFlow(host_and_port(sockaddr), packet_info, sockaddr, packed, cmsgs)
        return flow


class _FlowsOfControl(dict[bytes, KernelFlow]):
    """Those of *flows* that came with the messages *control*, by the sender's name."""

    def __init__(self, flows: _KernelFlows, control: bytes) -> None:
        super().__init__()
        self._flows, self._control = flows, control

    def __missing__(self, name: bytes) -> KernelFlow:
        flow = self[name] = self._flows[self._control, name]
        return flow


def _unpack_cmsgs(data: bytes) -> Iterator[ControlMessage]:
    """Yield the control messages of a datagram (cmsg(3))."""
    start = 0
    while start + _CMSGHDR.size <= len(data):
        size, level, kind = _CMSGHDR.unpack_from(data, start)
        if size < _CMSGHDR.size:
            return
        yield level, kind, data[start + _CMSGHDR.size : start + size]
        start += -(-size // 8) * 8


def _pack_cmsgs(packet_info: PacketInfo) -> bytes:
    packed = b""
    for level, kind, data in packet_info.reply_ancdata:
        packed += _CMSGHDR.pack(_CMSGHDR.size + len(data), level, kind) + data
        packed = packed.ljust(-(-len(packed) // 8) * 8, b"\0")
    return packed


def _unpack_sockaddr(packed: bytes) -> Any:
    """Return the address in the form of the `socket` module."""
    if _FAMILY.unpack_from(packed)[0] == socket.AF_INET:
        port, address = _IPV4.unpack_from(packed)
        return socket.inet_ntoa(address), port
    port, flow_label, address = _IPV6.unpack_from(packed)
    host = socket.inet_ntop(socket.AF_INET6, address)
    return host, port, flow_label, *_SCOPE.unpack_from(packed, 24)


def _pack_sockaddr(family: int, sockaddr: Any) -> bytes:
    if family == socket.AF_INET:
        packed = _IPV4.pack(sockaddr[1], socket.inet_aton(sockaddr[0]))
    else:
        host = sockaddr[0].partition("%")[0]
        packed = _IPV6.pack(sockaddr[1], sockaddr[2], socket.inet_pton(socket.AF_INET6, host))
        packed = packed[:24] + _SCOPE.pack(sockaddr[3])
    return (_FAMILY.pack(family) + packed[2:]).ljust(SOCKADDR_SIZE, b"\0")
