"""Receivers that do the work of a service without a call of its protocol, at uvloop's own price."""

from typing import Any, Protocol

READ_SIZE = 1 << 18
"""Bytes that are read at once, at most, and dropped."""

_dropped = bytearray(READ_SIZE)
"""Where uvloop puts what is dropped, for all connections."""


class ByteCounter(Protocol):
    """What counts the bytes of a connection."""

    received: int
    sent: int


class Receiver:
    """Receives from uvloop in place of *connection*, whose uvloop transport is *transport*.

    It passes on everything but the data, which *counter* counts.
    """

    __slots__ = ("_connection", "_counter", "_transport")

    def __init__(self, connection: Any, transport: Any, counter: ByteCounter) -> None:
        self._connection = connection
        self._transport = transport
        self._counter = counter

    def eof_received(self) -> bool:
        """Pass on that the peer has half-closed."""
        return bool(self._connection.eof_received())

    def pause_writing(self) -> None:
        """Pass on that the peer does not read."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that it reads again."""
        self._connection.resume_writing()

    def connection_lost(self, cause: Exception | None) -> None:
        """Pass on the end."""
        self._connection.connection_lost(cause)


class SendBack(Receiver):
    """Sends back what the peer sends: echo."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        """Count *data*, and send it back."""
        counter, size = self._counter, len(data)
        counter.received += size
        counter.sent += size
        self._transport.write(data)

    def pause_writing(self) -> None:
        """Stop reading from a peer that does not read."""
        super().pause_writing()
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Read again."""
        super().resume_writing()
        self._connection.resumeProducing()


class Relay(Receiver):
    """Sends what the peer sends to another connection, whose uvloop transport is *target*."""

    __slots__ = ("_target",)

    def __init__(self, connection: Any, transport: Any, counter: ByteCounter, target: Any) -> None:
        super().__init__(connection, transport, counter)
        self._target = target


class RelayReceived(Relay):
    """Relays what the counter counts as received."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        """Count *data*, and send it to the other connection."""
        self._counter.received += len(data)
        self._target.write(data)


class RelaySent(Relay):
    """Relays what the counter counts as sent."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        """Count *data*, and send it to the other connection."""
        self._counter.sent += len(data)
        self._target.write(data)


class Drop(Receiver):
    """Drops what the peer sends: uvloop creates no object for it."""

    __slots__ = ()

    def get_buffer(self, size_hint: int) -> bytearray:
        """Return the buffer for what comes next (`asyncio.BufferedProtocol`)."""
        return _dropped

    def buffer_updated(self, size: int) -> None:
        """Count what has come."""
        self._counter.received += size
