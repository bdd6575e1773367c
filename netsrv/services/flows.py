"""The upstream sockets of the clients of a datagram listener, each connected to the upstream.

The reactor watches one epoll object for all of them, so thousands of clients cost it nothing, and
the answers that have come together are sent together.
"""

import select
import selectors
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

MAX_SIZE = 65_535
"""Bytes: no datagram is longer."""

BATCH_SIZE = 48
"""Answers from which on they are sent, and no more are received in this turn of the reactor."""

MAX_BURST = 16
"""Answers of one client that are received in a turn, at most."""

READABLE = getattr(select, "EPOLLIN", 1)

_buffer = memoryview(bytearray(MAX_SIZE))
"""Where the kernel puts what is received, for all sockets."""


class Flow:
    """The upstream socket of one client; *origin* is what the answers go to."""

    __slots__ = ("_burst", "_receive", "idle", "origin", "prefix", "send", "sock", "used")

    def __init__(self, family: int, sockaddr: Any, origin: Any) -> None:
        self.sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            if family == socket.AF_UNIX:
                self.sock.bind("")  # an abstract name, to which the upstream can answer
            self.sock.connect(sockaddr)
        except BaseException:
            self.sock.close()
            raise
        self.send = self.sock.send
        self._receive = self.sock.recv_into
        self.origin = origin
        self.prefix = b""
        """What each datagram to the upstream has before its data."""
        self.used = True
        """True if a datagram has passed since the last look."""
        self.idle = 0
        """Looks at which none had."""
        self._burst = 1

    def receive(self, packets: list[bytes], origins: list[Any]) -> None:
        """Receive the answers that have come, as many as last time, to save a call that fails."""
        self.used = True
        for number in range(self._burst):
            try:
                size = self._receive(_buffer)
            except BlockingIOError:
                self._burst = max(number, 1)
                return
            except OSError:
                continue  # the network's answer to an earlier datagram, such as ECONNREFUSED
            packets.append(bytes(_buffer[:size]))
            origins.append(self.origin)
        self._burst = min(self._burst + 1, MAX_BURST)


@implementer(IReadDescriptor)
class Flows:
    """The flows of one listener; *answer* is called with packets and where they go."""

    def __init__(self, reactor: Any, answer: Callable[[list[bytes], list[Any]], None]) -> None:
        self.by_client: dict[Any, Flow] = {}
        self._reactor = reactor
        self._answer = answer
        self._epoll: Any = select.epoll() if hasattr(select, "epoll") else _Selector()
        self._by_descriptor: dict[int, Flow] = {}
        watch = getattr(reactor, "watchReadable", None)
        if watch is None:
            reactor.addReader(self)
        else:
            watch(self.fileno(), self.doRead)

    def open(self, client: Any, family: int, sockaddr: Any, origin: Any) -> Flow:
        """Open the socket of a client.  Raises OSError."""
        flow = self.by_client[client] = Flow(family, sockaddr, origin)
        descriptor = flow.sock.fileno()
        self._by_descriptor[descriptor] = flow
        self._epoll.register(descriptor, READABLE)
        return flow

    def close_idle(self, looks: int) -> None:
        """Close the flows that no datagram has passed since so many looks; this is one."""
        for client, flow in list(self.by_client.items()):
            flow.idle = 0 if flow.used else flow.idle + 1
            flow.used = False
            if flow.idle >= looks:
                self._close(flow)
                del self.by_client[client]

    def close(self) -> None:
        """Close all."""
        ignore = getattr(self._reactor, "ignoreReadable", None)
        if ignore is None:
            self._reactor.removeReader(self)
        else:
            ignore(self.fileno())
        for flow in self.by_client.values():
            self._close(flow)
        self.by_client.clear()
        self._epoll.close()

    def _close(self, flow: Flow) -> None:
        descriptor = flow.sock.fileno()
        del self._by_descriptor[descriptor]
        self._epoll.unregister(descriptor)
        flow.sock.close()

    # What the reactor calls

    def fileno(self) -> int:
        return int(self._epoll.fileno())

    def doRead(self) -> None:
        packets: list[bytes] = []
        origins: list[Any] = []
        flows = self._by_descriptor
        for descriptor, _ in self._epoll.poll(0, BATCH_SIZE):
            flows[descriptor].receive(packets, origins)
            if len(packets) >= BATCH_SIZE:
                break
        if packets:
            self._answer(packets, origins)

    def logPrefix(self) -> str:
        return "forward"

    def connectionLost(self, reason: Any) -> None:
        """The reactor ends."""


class _Selector:
    """An epoll object where the system has none: kqueue, or another selector with a descriptor."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self.unregister = self._selector.unregister
        self.close = self._selector.close

    def register(self, descriptor: int, _events: int) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ)

    def fileno(self) -> int:
        return self._selector.fileno()

    def poll(self, _timeout: float, _most: int) -> list[tuple[int, int]]:
        return [(key.fd, events) for key, events in self._selector.select(0)]
