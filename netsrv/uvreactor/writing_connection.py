"""The writing side of a connection, up to its end.

What the application writes during one call of its protocol, or else in one turn of the loop,
goes out in one piece, as with Twisted's transports: uvloop sends every write by itself, and the
second of two small ones would wait until the peer acknowledges the first.  With a pull producer
every write goes out by itself, unless the producer makes several in one call.
"""

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet import error
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.python.context import theContextTracker
from twisted.python.failure import Failure

from netsrv.uvreactor.connection_info import (
    DISCARD,
    JOIN,
    NEXT_TURN,
    TLS,
    UNBUFFERED,
    ConnectionInfo,
)
from netsrv.uvreactor.socket_handle import reset_on_close

log_context: list[Any] = theContextTracker.currentContext().contexts
"""The contexts of the log, a stack: the last one that knows a key determines its value."""


def log_in_this_thread() -> None:
    """Use the log's context of this thread, in which the reactor runs."""
    global log_context  # noqa: PLW0603
    log_context = theContextTracker.currentContext().contexts


CONNECTION_ABORTED = Failure(error.ConnectionAborted())
"""The reason of a connection that we have reset, shared by all."""

MAX_JOINED_SIZE = 16384
"""Bytes that are joined while there is a producer, which must learn that the peer is slow."""

MAX_PULLS = 4
"""Calls of a pull producer before other events get their turn."""

NOT_BYTES = "Data must be bytes"


class WritingConnection(ConnectionInfo):
    """Writes, and closes; without TLS, but for `write`."""

    __slots__ = ()

    def write(self, data: bytes) -> None:
        """Send *data*, or keep it until there is room.  Raises TypeError if it is not bytes."""
        if (
            self._write_mode is JOIN
            and not (self._write_buffer or self._full)
            and data.__class__ is bytes
        ):
            self._write_buffer = data
        else:
            self._write(data)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """Send all these.  Raises TypeError if they are not bytes."""
        try:
            data = b"".join(iovec)
        except TypeError:
            raise TypeError(NOT_BYTES) from None
        self.write(data)

    @property
    def unsent(self) -> int:
        """Bytes that were written and that the kernel has not accepted yet."""
        joined = len(self._joined_writes())
        return joined + int(self._transport.get_write_buffer_size())

    def loseConnection(self) -> None:
        """Close when everything written is sent.

        A producer that is paused, or pulled, is first given the time to unregister.
        """
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            if self.producer is None or (self.streamingProducer and not self.producerPaused):
                self._close()
            else:
                self._transport.pause_reading()

    def loseWriteConnection(self) -> None:
        """Half-close: send FIN when everything written is sent; the peer may still write."""
        if self.connected and not self._half_closing:
            self._half_closing = True
            self._half_close()

    def abortConnection(self) -> None:
        """Reset the connection; what is unsent is lost."""
        if self.connected and self._close_reason is None:
            reset_on_close(self.socket)
            self._abort(CONNECTION_ABORTED)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Call *producer* when there is room to write.  Raises RuntimeError if there is one."""
        if self.producer is not None:
            raise RuntimeError(
                f"Cannot register producer {producer}, because producer {self.producer} "
                "was never unregistered."
            )
        if not self.connected:
            producer.stopProducing()
            return
        self._flush()
        self.producer = producer
        self.streamingProducer = bool(streaming)
        self.producerPaused = False
        if not streaming:
            if self._write_mode in (NEXT_TURN, JOIN):
                self._write_mode = UNBUFFERED
            self._transport.set_write_buffer_limits(0, 0)
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """Call the producer no more."""
        pulled = self.producer is not None and not self.streamingProducer
        self.producer = None
        if self._write_mode is UNBUFFERED:
            self._write_mode = NEXT_TURN
        if not self.connected:
            return
        if pulled and self._close_reason is None:
            self._transport.set_write_buffer_limits()
        if self.disconnecting:
            self._close()
        elif self._half_closing:
            self._half_close()

    def stopConsuming(self) -> None:
        """Close, whatever the producer still has to write."""
        self.unregisterProducer()
        self.loseConnection()

    # What uvloop calls

    def data_received(self, data: bytes) -> None:
        """Pass *data* to the protocol, and send what it writes meanwhile."""
        if self._write_mode is NEXT_TURN:
            self._write_mode = JOIN
        log_context.append(self)
        try:
            self.context.run(self.protocol.dataReceived, data)
        except BaseException:
            self._protocol_failed()
        log_context.pop()
        if self._write_mode is JOIN:
            self._write_mode = NEXT_TURN
        buffer = self._write_buffer
        if buffer.__class__ is list:
            self._flush()
        elif buffer:
            self._write_buffer = b""
            self._transport.write(buffer)

    def pause_writing(self) -> None:
        """Pause the producer: uvloop's buffer is above its limit."""
        self._full = True
        if self.streamingProducer:
            self._pause_producer()

    def resume_writing(self) -> None:
        """Call the producer again: uvloop's buffer is empty enough."""
        self._full = False
        if not self.connected:
            return
        if self.producer is None:
            pass
        elif not self.streamingProducer:
            self._pull()
        elif self.producerPaused:
            self.producerPaused = False
            self._call_protocol(self.producer.resumeProducing)
        if self._half_closing:
            self._half_close()

    # How it is done

    def _call_protocol(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Call the application, and send what it writes; an exception aborts the connection.

        `data_received` and others do the same in place, since passing arguments on takes time.
        """
        if self._write_mode is NEXT_TURN:
            self._write_mode = JOIN
        log_context.append(self)
        try:
            self.context.run(call, *arguments)
        except BaseException:
            self._protocol_failed()
        log_context.pop()
        self._flush_writes()

    def _flush_writes(self) -> None:
        """Send what was written during a call of the protocol."""
        if self._write_mode is JOIN:
            self._write_mode = NEXT_TURN
        self._flush()

    def _protocol_failed(self) -> None:
        failure = Failure()
        self.log.failure("Unhandled error in {connection}", failure, connection=self)
        if self.connected:
            self._abort(failure)

    def _write(self, data: Any) -> None:
        """Write what is not the first write of a call, or not plain bytes."""
        if data.__class__ is not bytes:
            data = to_bytes(data)
        mode = self._write_mode
        if mode is UNBUFFERED:
            self._transport.write(data)
            self._pull_soon()
        elif mode is not TLS:
            self._join(data)
        elif self.connected:
            self._tls.write(data)

    def _join(self, data: bytes) -> None:
        """Join *data* with what is written before and after it."""
        if self._write_mode is DISCARD:
            return
        if not self._write_buffer and self._write_mode is not JOIN:
            self.reactor.loop.call_soon(self._flush)
        if self.producer is not None and self.streamingProducer:
            self._write_buffer = self._joined_writes() + data
            if self._full or len(self._write_buffer) > MAX_JOINED_SIZE:
                self._flush()
                if self._full:
                    self._pause_producer()
        elif not self._write_buffer:
            self._write_buffer = data
        elif isinstance(self._write_buffer, bytes):
            self._write_buffer = [self._write_buffer, data]
        else:
            self._write_buffer.append(data)

    def _joined_writes(self) -> bytes:
        buffer = self._write_buffer
        return buffer if isinstance(buffer, bytes) else b"".join(buffer)

    def _flush(self) -> None:
        """Send what was joined."""
        if self._write_buffer:
            data = self._joined_writes()
            self._write_buffer = b""
            self._transport.write(data)

    def _discard_writes(self) -> None:
        self._write_mode = DISCARD
        self._write_buffer = b""

    def _pause_producer(self) -> None:
        if self.producer is not None and not self.producerPaused:
            self.producerPaused = True
            self.producer.pauseProducing()

    def _pull_soon(self) -> None:
        if not (self._full or self._pull_scheduled):
            self._pull_scheduled = True
            self.reactor.loop.call_soon(self._pull)

    def _pull(self) -> None:
        """Call the pull producer, up to `MAX_PULLS` times, while there is room to write."""
        self._pull_scheduled = False
        for _ in range(MAX_PULLS):
            producer = self.producer
            if producer is None or self.streamingProducer or not self.connected:
                return
            if self._write_mode is UNBUFFERED:
                self._write_mode = JOIN
            log_context.append(self)
            try:
                self.context.run(producer.resumeProducing)
            except BaseException:
                self._protocol_failed()
            log_context.pop()
            if self._write_mode is JOIN:
                self._write_mode = NEXT_TURN if self.producer is None else UNBUFFERED
            buffer = self._write_buffer
            if buffer.__class__ is list:
                self._flush()
            elif buffer:
                self._write_buffer = b""
                self._transport.write(buffer)
            if self._full or not buffer:
                return
        self._pull_soon()

    def _close(self) -> None:
        self._flush()
        self._write_mode = DISCARD
        self._transport.close()

    def _abort(self, reason: Failure) -> None:
        """Close without sending what is unsent."""
        self._close_reason = reason
        self._discard_writes()
        self._transport.abort()

    def _half_close(self) -> None:
        """Send FIN, unless something must be sent before it."""
        if self.disconnecting or self._write_mode is DISCARD:
            return
        if self.producer is not None and (self.producerPaused or not self.streamingProducer):
            return
        self._flush()
        if self._transport.get_write_buffer_size():
            self._transport.set_write_buffer_limits(0, 0)
        else:
            self._write_mode = DISCARD
            self._transport.write_eof()
            self.reactor.loop.call_soon(self._half_closed)

    def _half_closed(self) -> None:
        if self.connected and not self.disconnecting:
            protocol = IHalfCloseableProtocol(self.protocol, None)
            if protocol is not None:
                self._call_protocol(protocol.writeConnectionLost)


def to_bytes(data: Any) -> bytes:
    """Return a copy of a bytes-like object.  Raises TypeError if it is none."""
    try:
        return bytes(memoryview(data))
    except TypeError:
        raise TypeError(NOT_BYTES) from None
