"""The writing side of a connection, up to its end.

What the application writes in one go, while it is told of something or else in one turn of the
loop, goes out in one piece, as from Twisted's transports: so two small writes are not held
up by the peer's delayed acknowledgement of the first.  With a producer that is called for each
piece, each goes out at once.
"""

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

from twisted.internet import error
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.python.context import theContextTracker
from twisted.python.failure import Failure

from netsrv.uvreactor.connection_info import ConnectionInfo
from netsrv.uvreactor.socket_handle import reset_on_close

log_context: list[Any] = theContextTracker.currentContext().contexts
"""The contexts of the log, a stack: the last that knows a key says its value."""


def log_in_this_thread() -> None:
    """Have the log's context be that of this thread, in which the reactor runs."""
    global log_context  # noqa: PLW0603
    log_context = theContextTracker.currentContext().contexts


EMPTY = b""
"""What was written, before anything was; one object, as all empty bytes are in CPython."""

MAX_JOINED_BYTES = 16384
"""Bytes that are joined at most while there is a producer."""

NOT_BYTES = "Data must be bytes"


class _WriteMode(Enum):
    """How a write goes, if it is not joined with others."""

    UNBUFFERED = "at once"
    DISCARD = "nowhere"


UNBUFFERED = _WriteMode.UNBUFFERED
DISCARD = _WriteMode.DISCARD


class WritingConnection(ConnectionInfo):
    """Writes, and closes."""

    __slots__ = ()

    def write(self, data: bytes) -> None:
        """Send *data*, now or when there is room.  Raises TypeError if it is not bytes."""
        if self._write_buffer is EMPTY and data.__class__ is bytes:
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
        """Bytes that were written and that the kernel has not taken yet."""
        buffer = self._write_buffer
        if buffer.__class__ is list:
            buffer = b"".join(buffer)
        here = len(buffer) if buffer.__class__ is bytes else 0
        return here + int(self._transport.get_write_buffer_size())

    def loseConnection(self) -> None:
        """Close when all that was written has gone out.

        A producer that waits to be told to write is waited for until it is unregistered.
        """
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            if self.producer is None or (self.streamingProducer and not self.producerPaused):
                self._close()
            else:
                self._transport.pause_reading()

    def loseWriteConnection(self) -> None:
        """Send FIN when all that was written has gone out; the peer may go on."""
        if self.connected and not self._write_ending:
            self._write_ending = True
            self._end_writing()

    def abortConnection(self) -> None:
        """Reset the connection; what is unsent is lost."""
        if self.connected and self._reason is None:
            reset_on_close(self.socket)
            self._drop(Failure(error.ConnectionAborted()))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Have *producer* told when to write.  Raises RuntimeError if there is one."""
        if self.producer is not None:
            raise RuntimeError(
                f"Cannot register producer {producer}, because producer {self.producer} "
                "was never unregistered."
            )
        if not self.connected:
            producer.stopProducing()
            return
        self._flush()
        if self._write_buffer is None and not streaming:
            self._write_buffer = UNBUFFERED
        self.producer = producer
        self.streamingProducer = bool(streaming)
        self.producerPaused = False
        if not streaming:
            self._transport.set_write_buffer_limits(0, 0)
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """Have it told no more."""
        pulled = self.producer is not None and not self.streamingProducer
        self.producer = None
        if self._write_buffer is UNBUFFERED:
            self._write_buffer = None
        if not self.connected:
            return
        if pulled and self._reason is None:
            self._transport.set_write_buffer_limits()
        if self.disconnecting:
            self._close()
        elif self._write_ending:
            self._end_writing()

    def stopConsuming(self) -> None:
        """Close, whatever the producer wants."""
        self.unregisterProducer()
        self.loseConnection()

    # What uvloop calls

    def data_received(self, data: bytes) -> None:
        """Hand on what the peer has sent, and send what is answered at once."""
        if self._write_buffer is None:
            self._write_buffer = EMPTY
        log_context.append(self)
        try:
            self.protocol.dataReceived(data)
        except BaseException:
            self._failed()
        log_context.pop()
        buffer = self._write_buffer
        if buffer.__class__ is bytes:
            self._write_buffer = None
            self._transport.write(buffer)
        elif buffer.__class__ is list:
            self._flush()

    def pause_writing(self) -> None:
        """More is unsent than is good."""
        self._full = True
        if self.streamingProducer:
            self._pause_producer()

    def resume_writing(self) -> None:
        """What was unsent has gone out."""
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
        if self._write_ending:
            self._end_writing()

    # How it is done

    def _call_protocol(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Call the application, and send what it writes; what it raises ends the connection.

        What each connection and each message need is done in place: to pass on any arguments
        takes its time.
        """
        if self._write_buffer is None:
            self._write_buffer = EMPTY
        log_context.append(self)
        try:
            call(*arguments)
        except BaseException:
            self._failed()
        log_context.pop()
        self._flush_writes()

    def _flush_writes(self) -> None:
        """Send what was written meanwhile."""
        if self._write_buffer is EMPTY:
            self._write_buffer = None
        elif self._write_buffer is not DISCARD:
            self._flush()

    def _failed(self) -> None:
        failure = Failure()
        self.log.failure("Unhandled error in {connection}", failure, connection=self)
        if self.connected:
            self._drop(failure)

    def _write(self, data: Any) -> None:
        """Write what is not the first write to be joined, or not plain bytes."""
        if data.__class__ is not bytes:
            data = to_bytes(data)
        buffer = self._write_buffer
        if buffer is None:
            self._write_buffer = data
            self.reactor.loop.call_soon(self._flush)
        elif buffer is UNBUFFERED:
            self._transport.write(data)
            self._pull_soon()
        elif buffer.__class__ is list:
            buffer.append(data)
        elif buffer.__class__ is bytes:
            self._append(buffer, data)

    def _append(self, buffer: bytes, data: bytes) -> None:
        """Join; but a producer is to learn in time that the peer does not read."""
        if self.producer is None:
            self._write_buffer = [buffer, data]
            return
        self._write_buffer = buffer + data
        if len(self._write_buffer) > MAX_JOINED_BYTES:
            self._flush()
            if self._full:
                self._pause_producer()

    def _flush(self) -> None:
        """Send what was joined."""
        buffer = self._write_buffer
        if buffer.__class__ is list:
            buffer = b"".join(buffer)
        if buffer.__class__ is bytes:
            self._write_buffer = None
            self._transport.write(buffer)

    def _pause_producer(self) -> None:
        if self.producer is not None and not self.producerPaused:
            self.producerPaused = True
            self.producer.pauseProducing()

    def _pull_soon(self) -> None:
        if not (self._full or self._pulls):
            self._pulls = True
            self.reactor.loop.call_soon(self._pull)

    def _pull(self) -> None:
        self._pulls = False
        if self.connected and self.producer is not None and not self.streamingProducer:
            self._call_protocol(self.producer.resumeProducing)

    def _close(self) -> None:
        if self._write_buffer:
            self._flush()
        self._write_buffer = DISCARD
        self._transport.close()

    def _drop(self, reason: Failure) -> None:
        """Close at once; what is unsent is lost."""
        self._reason = reason
        self._write_buffer = DISCARD
        self._transport.abort()

    def _end_writing(self) -> None:
        """Send FIN, unless something is still to be sent before."""
        if self._write_ended or self.disconnecting or self._reason is not None:
            return
        if self.producer is not None and (self.producerPaused or not self.streamingProducer):
            return
        self._flush()
        if self._transport.get_write_buffer_size():
            self._transport.set_write_buffer_limits(0, 0)
        else:
            self._write_ended = True
            self._write_buffer = DISCARD
            self._transport.write_eof()
            self.reactor.loop.call_soon(self._writing_ended)

    def _writing_ended(self) -> None:
        if self.connected and not self.disconnecting:
            protocol = IHalfCloseableProtocol(self.protocol, None)
            if protocol is not None:
                self._call_protocol(protocol.writeConnectionLost)


def to_bytes(data: Any) -> bytes:
    """Give a copy of what is like bytes.  Raises TypeError if it is not."""
    try:
        return bytes(memoryview(data))
    except TypeError:
        raise TypeError(NOT_BYTES) from None
