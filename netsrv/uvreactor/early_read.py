"""What uvloop reads too early."""

from typing import Any


class EarlyRead:
    """Stands between uvloop and a connection that is not to be read yet.

    uvloop reads once `connection_made` has returned, whatever was said there.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._transport = connection._transport
        self._data: list[bytes] = []
        self._ended = False
        self._transport.set_protocol(self)
        connection.reactor.loop.call_soon(self._transport.pause_reading)
        self.pause_writing = connection.pause_writing
        self.resume_writing = connection.resume_writing

    def data_received(self, data: bytes) -> None:
        """Keep what was read."""
        self._data.append(data)
        self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Keep in mind that the peer has ended."""
        self._ended = True
        return True

    def connection_lost(self, cause: Exception | None) -> None:
        """Say so, after what was read before."""
        self._connection.connection_lost(cause)

    def end(self) -> None:
        """Hand over what was read meanwhile, and step aside."""
        connection = self._connection
        self._transport.set_protocol(connection)
        for data in self._data:
            connection.data_received(data)
        if self._ended:
            connection.eof_received()
        elif connection.connected and not connection._paused:
            self._transport.resume_reading()
