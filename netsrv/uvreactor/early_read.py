"""Data that uvloop reads before the connection wants it."""

import asyncio
from typing import Any


class EarlyRead(asyncio.Protocol):
    """Stands between uvloop and *connection* while nothing is to be read; keeps what is read.

    uvloop starts reading when `connection_made` has returned, even if reading was paused there.
    """

    def __init__(self, connection: Any, transport: Any) -> None:
        self._connection = connection
        self._transport = transport
        self._data: list[bytes] = []
        self._eof = False
        transport.set_protocol(self)
        connection.reactor.loop.call_soon(transport.pause_reading)

    def data_received(self, data: bytes) -> None:
        """Keep *data*."""
        self._data.append(data)
        self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Remember that the peer has half-closed."""
        self._eof = True
        return True

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()

    def connection_lost(self, cause: Exception | None) -> None:
        """Report the end; what was read is lost with it."""
        self._connection.connection_lost(cause)

    def release(self) -> None:
        """Pass what was read to the connection, and let it read by itself."""
        connection = self._connection
        self._transport.set_protocol(connection)
        for data in self._data:
            connection.data_received(data)
        if self._eof:
            connection.eof_received()
        elif connection.reading:
            self._transport.resume_reading()
