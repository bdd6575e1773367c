"""Datagrams by the plain system calls: one call receives or sends one.

Every system has them, and so has a socket in memory.  `netsrv.datagrams.mmsg` does the same
with one call for many, and has the same face.
"""

import errno
import socket
from collections.abc import Sequence
from typing import Any

from netsrv.datagrams.pktinfo import host_and_port, parse_pktinfo
from netsrv.guards.sources import ControlMessage, Flow, PacketInfo

Failure = tuple[int, OSError]
"""Which of many could not be sent, by its index, and why."""

NO_ROOM = frozenset({errno.EAGAIN, errno.ENOBUFS})
"""Errors of sending that the next datagram would have too."""

_CUT = int(socket.MSG_TRUNC)

FLOW_CACHE_SIZE = 4096
"""Origins that are remembered; beyond them all are forgotten, and learned anew."""


class ReceivedBatch:
    """Datagrams that were received together, and the sizes; valid until `free` is called.

    A size above the largest that was asked for is one of a datagram that was cut.
    """

    def __init__(
        self, sock: Any, flows: Sequence[Flow], sizes: list[int], data: Sequence[bytes]
    ) -> None:
        self.flows = flows
        self.sizes = sizes
        self._sock = sock
        self._data = data

    def data(self) -> Sequence[bytes]:
        """The bytes of each; they stay valid."""
        return self._data

    def only(self, indices: Sequence[int]) -> "ReceivedBatch":
        """Those that stand at *indices*."""
        flows, sizes, data = self.flows, self.sizes, self._data
        return ReceivedBatch(
            self._sock,
            [flows[each] for each in indices],
            [sizes[each] for each in indices],
            [data[each] for each in indices],
        )

    def send_back(self) -> list[Failure]:
        """Send each back to where it came from."""
        return send_each(self._sock, self._data, self.flows)

    def free(self) -> None:
        """They are not needed any more."""


class SingleIO:
    """The calls of one port: *space* and *packet_info* are what `enable_pktinfo` gives."""

    prefer_single = 0
    """How many datagrams had better be received by themselves before the next batch."""

    def __init__(self, sock: Any, space: int, packet_info: PacketInfo) -> None:
        self._sock = sock
        self._space = space
        self._packet_info = packet_info
        self._flows: dict[Any, Flow] = {}
        self._error: OSError | None = None

    def receive(self, most: int, largest: int) -> ReceivedBatch:
        """Receive what has arrived, up to *most* datagrams.

        Raises BlockingIOError if nothing has, and OSError for other reasons.
        """
        if self._error is not None:
            error, self._error = self._error, None
            raise error  # which has ended the last batch
        found: list[tuple[bytes, Flow, int]] = []
        for _ in range(most):
            try:
                found.append(self.receive_one(largest))
            except OSError as error:
                if not found:
                    raise
                if not isinstance(error, BlockingIOError):
                    self._error = error
                break
        return ReceivedBatch(
            self._sock,
            [flow for _, flow, _ in found],
            [size for _, _, size in found],
            [data for data, _, _ in found],
        )

    def receive_one(self, largest: int) -> tuple[bytes, Flow, int]:
        """Receive a datagram; gives its bytes, its flow and its size.  Raises as `receive`."""
        data, messages, flags, sockaddr = self._sock.recvmsg(largest, self._space)
        key = (sockaddr, *messages) if messages else sockaddr
        try:
            flow = self._flows[key]
        except KeyError:
            flow = self.learn(key, sockaddr, messages)
        return data, flow, largest + 1 if flags & _CUT else len(data)

    def learn(self, key: Any, sockaddr: Any, messages: Sequence[ControlMessage]) -> Flow:
        """Remember under *key* what is known of a datagram."""
        if len(self._flows) >= FLOW_CACHE_SIZE:
            self._flows.clear()
        flow = self._flows[key] = self._learn(sockaddr, messages)
        return flow

    def _learn(self, sockaddr: Any, messages: Sequence[ControlMessage]) -> Flow:
        """What is known of a datagram; it holds for all that come in the same way."""
        return Flow(
            host_and_port(sockaddr), parse_pktinfo(messages) if messages else self._packet_info
        )

    def target(self, peer: tuple[str, int], sockaddr: Any) -> Flow:
        """Where to send what is no answer: *sockaddr* is the address as the kernel has it."""
        return Flow(peer)

    def send(self, packets: Sequence[bytes], targets: Sequence[Flow]) -> list[Failure]:
        """Send each to the target beside it, and give what could not be sent."""
        return send_each(self._sock, packets, targets)


def send_one(sock: Any, packet: bytes, target: Flow) -> None:
    """Send a datagram; an answer leaves from the address that was asked."""
    if target.packet_info.answer:
        sock.sendmsg((packet,), target.packet_info.answer, 0, target.peer)
    else:
        sock.sendto(packet, target.peer)


def send_each(sock: Any, packets: Sequence[bytes], targets: Sequence[Flow]) -> list[Failure]:
    """Send one by one, and give what could not be sent."""
    failures: list[Failure] = []
    done, count = 0, len(packets)
    while done < count:
        try:
            send_one(sock, packets[done], targets[done])
            done += 1
        except OSError as error:
            done = next_after(failures, done, count, error)
    return failures


def next_after(failures: list[Failure], done: int, count: int, error: OSError) -> int:
    """Add the failure of the datagram after *done* of *count*; give where to go on.

    Where the system has no room for it, it has none for the rest.
    """
    end = count if error.errno in NO_ROOM else done + 1
    failures.extend((index, error) for index in range(done, end))
    return end
