"""Sends back what a peer sends, without a call of the protocol: echo at uvloop's own price."""

from typing import Any, Protocol


class ByteCounter(Protocol):
    """What counts the bytes of a connection."""

    received: int
    sent: int


class SendBack:
    """Receives from uvloop in place of *connection*, whose uvloop transport is *transport*."""

    __slots__ = ("_connection", "_counter", "_transport")

    def __init__(self, connection: Any, transport: Any, counter: ByteCounter) -> None:
        self._connection = connection
        self._transport = transport
        self._counter = counter

    def data_received(self, data: bytes) -> None:
        """Count *data*, and send it back."""
        counter, size = self._counter, len(data)
        counter.received += size
        counter.sent += size
        self._transport.write(data)

    def eof_received(self) -> bool:
        """Pass on that the peer has half-closed."""
        return bool(self._connection.eof_received())

    def pause_writing(self) -> None:
        """Stop reading from a peer that does not read."""
        self._connection.pause_writing()
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Read again."""
        self._connection.resume_writing()
        self._connection.resumeProducing()

    def connection_lost(self, cause: Exception | None) -> None:
        """Pass on the end."""
        self._connection.connection_lost(cause)
