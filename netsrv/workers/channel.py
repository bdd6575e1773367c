"""The socket between the master and a worker: messages are objects of JSON, one a line.

- The worker sends ``{"ready": true}`` once it could serve; each second ``{"beat": {...}}`` with its
  counts and, for a master with a status, ``{"state": {...}}``; ``{"released": true}`` when it has
  left its sockets; and ``{"drained": {...}}`` with its last counts before it ends.
- The master sends ``{"serve": true}``, ``{"leaving": true}`` when it is not ready any more but
  goes on, ``{"drain": SECONDS}``, ``{"abort": true}``, and ``{"state": true}`` for the state at
  once.
- The programs of both may exchange messages of their own: ``{"ask": ...}`` is for that of the
  worker, ``{"told": ...}`` for that of the master.

At the end of the master, however it comes, the worker ends.
"""

import json
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Factory, Protocol

MAX_READS = 1024
"""Reads of what an end that has closed has left, of 64 KiB each."""

Message = dict[str, Any]


class Channel(Protocol):
    """One end; *rest* is the begin of a message that was received before."""

    def __init__(
        self, on_message: Callable[[Message], None], on_end: Callable[[], None], rest: bytes
    ) -> None:
        self.rest = rest
        """What was received of a message that is not whole."""
        self._on_message = on_message
        self._on_end = on_end

    def send(self, **message: Any) -> None:
        """Send a message; one to an end that is gone is dropped."""
        if self.transport is not None and self.connected:
            self.transport.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    def write_now(self) -> None:
        """Write what the socket takes, before the reactor does it."""
        transport: Any = self.transport
        if self.connected and not transport.disconnecting:
            transport.doWrite()

    def close(self) -> None:
        """Close once all messages are sent."""
        if self.transport is not None:
            self.transport.loseConnection()

    def fileno(self) -> int:
        """Return the descriptor."""
        transport: Any = self.transport
        return int(transport.fileno())

    def finish(self) -> None:
        """Receive what is left of an end that has closed, and close."""
        transport: Any = self.transport
        if not self.connected:
            return
        for _ in range(MAX_READS):
            if transport.doRead() is not None:
                break
        transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self._on_message(json.loads(line))

    def connectionLost(self, reason: Any = None) -> None:
        self.connected = 0
        self._on_end()


def open_channel(
    reactor: Any,
    descriptor: int,
    on_message: Callable[[Message], None],
    on_end: Callable[[], None],
    rest: bytes = b"",
) -> Channel:
    """Return the channel on the socket *descriptor*, which it owns.

    *rest* is the begin of a message that was received before.
    """
    channel = Channel(on_message, on_end, rest)
    factory = Factory.forProtocol(lambda: channel)
    factory.noisy = False
    sock = socket.socket(fileno=descriptor)
    sock.setblocking(False)
    with sock:  # the reactor has a duplicate
        reactor.adoptStreamConnection(sock.fileno(), sock.family, factory)
    return channel
