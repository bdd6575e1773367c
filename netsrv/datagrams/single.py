"""Datagrams by the plain system calls: one call receives or sends one.

Every system has these calls, and so has a socket in memory.  `netsrv.datagrams.batched` has the
same interface, with one call for many.
"""

import errno
import os
import socket
from collections.abc import Sequence
from typing import Any

from netsrv.batches import Peer
from netsrv.datagrams.batch import Batch
from netsrv.datagrams.pktinfo import host_and_port, parse_pktinfo
from netsrv.guards.sources import ControlMessage, Flow, PacketInfo

Failure = tuple[int, OSError]
"""The index of a datagram that could not be sent, and the error."""

NO_BUFFERS = frozenset({errno.EAGAIN, errno.ENOBUFS})
"""Errors of sending that the next datagram would meet too."""

FLOW_CACHE_SIZE = 4096
"""Flows that are remembered; a full cache is cleared."""

_TRUNCATED = int(socket.MSG_TRUNC)


class SingleIO:
    """Receives and sends on a port's socket *sock*.

    *space* and *packet_info* are the results of `enable_pktinfo`.
    """

    prefer_single = 0
    """Datagrams to receive with `receive_one` before the next batch: that is cheaper now."""

    def __init__(self, port: Any, sock: Any, space: int, packet_info: PacketInfo) -> None:
        self._port = port
        self._sock = sock
        self._space = space
        self._packet_info = packet_info
        self._flows: dict[Any, Flow] = {}
        self._error: OSError | MemoryError | None = None

    def receive(self, max_count: int, max_size: int) -> Batch:
        """Receive up to *max_count* datagrams of up to *max_size* bytes.

        Raises BlockingIOError if there is none, and OSError for other reasons.
        """
        if self._error is not None:
            error, self._error = self._error, None
            raise error  # it ended the last batch
        received: list[tuple[bytes, Flow, int]] = []
        for _ in range(max_count):
            try:
                received.append(self.receive_one(max_size))
            except (OSError, MemoryError) as error:
                if not received:
                    raise
                if not isinstance(error, BlockingIOError):
                    self._error = error
                break
        return Batch(
            self._port,
            [flow for _, flow, _ in received],
            [size for _, _, size in received],
            [data for data, _, _ in received],
        )

    def receive_one(self, max_size: int) -> tuple[bytes, Flow, int]:
        """Receive a datagram; return its bytes, flow and size.  Raises as `receive`."""
        data, messages, flags, sockaddr = self._sock.recvmsg(max_size, self._space)
        key = (sockaddr, *messages) if messages else sockaddr
        try:
            flow = self._flows[key]
        except KeyError:
            flow = self._learn(key, sockaddr, messages)
        return data, flow, max_size + 1 if flags & _TRUNCATED else len(data)

    def _learn(self, key: Any, sockaddr: Any, messages: Sequence[ControlMessage]) -> Flow:
        """Remember a flow under *key*."""
        if len(self._flows) >= FLOW_CACHE_SIZE:
            self._flows.clear()
        flow = self._flows[key] = self._flow(sockaddr, messages)
        return flow

    def _flow(self, sockaddr: Any, messages: Sequence[ControlMessage]) -> Flow:
        packet_info = parse_pktinfo(messages) if messages else self._packet_info
        return Flow(host_and_port(sockaddr), packet_info, sockaddr)

    def flow_to(self, peer: Peer, sockaddr: Any) -> Flow:
        """Return a flow to *peer*, whose full address is *sockaddr*, for what is no reply."""
        return Flow(peer, sockaddr=sockaddr)

    def send(self, packets: Sequence[bytes], flows: Sequence[Flow]) -> list[Failure]:
        """Send each packet to its flow; return the failures."""
        return send_each(self._sock, packets, flows)

    def send_back(self, batch: Batch) -> list[Failure]:
        """Send each datagram of a batch back to its sender; return the failures."""
        try:
            packets = batch.data()
        except MemoryError as error:
            return [(index, as_os_error(error)) for index in range(batch.count)]
        return send_each(self._sock, packets, batch.flows)


def send_one(sock: Any, packet: bytes, flow: Flow) -> None:
    """Send a datagram; a reply leaves from the address that the request was sent to."""
    if flow.packet_info.reply_ancdata:
        sock.sendmsg((packet,), flow.packet_info.reply_ancdata, 0, flow.sockaddr)
    else:
        sock.sendto(packet, flow.sockaddr)


def send_each(sock: Any, packets: Sequence[bytes], flows: Sequence[Flow]) -> list[Failure]:
    """Send each packet with a call of its own; return the failures."""
    failures: list[Failure] = []
    done, count = 0, len(packets)
    while done < count:
        try:
            send_one(sock, packets[done], flows[done])
            done += 1
        except (OSError, MemoryError) as error:
            done = next_after(failures, done, count, as_os_error(error))
    return failures


def as_os_error(error: OSError | MemoryError) -> OSError:
    """Return an error as one of the system: a lack of memory is ENOMEM."""
    if isinstance(error, OSError):
        return error
    return OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def next_after(failures: list[Failure], done: int, count: int, error: OSError) -> int:
    """Add the failure of the datagram at index *done*; return the index to go on at.

    If the system has no buffers for it, the rest of the *count* datagrams fail too.
    """
    end = count if error.errno in NO_BUFFERS else done + 1
    failures.extend((index, error) for index in range(done, end))
    return end
