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

from netsrv.uvreactor.endpoint import Endpoint
from netsrv.uvreactor.handle import reset_on_close

log_context: list[Any] = theContextTracker.currentContext().contexts
"""The contexts of the log, a stack: the last that knows a key says its value."""


def log_in_this_thread() -> None:
    """Have the log's context be that of this thread, in which the reactor runs."""
    global log_context  # noqa: PLW0603
    log_context = theContextTracker.currentContext().contexts


NOTHING_YET = b""
"""What was written, before anything was; one object, as all empty bytes are in CPython."""

JOINED = 16384
"""Bytes that are joined at most while there is a producer."""

NOT_BYTES = "Data must be bytes"


class _Way(Enum):
    """How a write goes, if it is not joined with others."""

    AT_ONCE = "at once"
    NOWHERE = "nowhere"


AT_ONCE = _Way.AT_ONCE
NOWHERE = _Way.NOWHERE


class Consumer(Endpoint):
    """Writes, and closes."""

    __slots__ = ()

    def write(self, data: bytes) -> None:
        """Send *data*, now or when there is room.  Raises TypeError if it is not bytes."""
        if self._joined is NOTHING_YET and data.__class__ is bytes:
            self._joined = data
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
        joined = self._joined
        if joined.__class__ is list:
            joined = b"".join(joined)
        here = len(joined) if joined.__class__ is bytes else 0
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
        if self._joined is None and not streaming:
            self._joined = AT_ONCE
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
        if self._joined is AT_ONCE:
            self._joined = None
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
        if self._joined is None:
            self._joined = NOTHING_YET
        log_context.append(self)
        try:
            self.protocol.dataReceived(data)
        except BaseException:
            self._failed()
        log_context.pop()
        joined = self._joined
        if joined.__class__ is bytes:
            self._joined = None
            self._transport.write(joined)
        elif joined.__class__ is list:
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
            self._tell(self.producer.resumeProducing)
        if self._write_ending:
            self._end_writing()

    # How it is done

    def _tell(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Call the application, and send what it writes; what it raises ends the connection.

        What each connection and each message need is done in place: to pass on any arguments
        takes its time.
        """
        if self._joined is None:
            self._joined = NOTHING_YET
        log_context.append(self)
        try:
            call(*arguments)
        except BaseException:
            self._failed()
        log_context.pop()
        self._told()

    def _told(self) -> None:
        """Send what was written meanwhile."""
        if self._joined is NOTHING_YET:
            self._joined = None
        elif self._joined is not NOWHERE:
            self._flush()

    def _failed(self) -> None:
        failure = Failure()
        self.log.failure("Unhandled error in {connection}", failure, connection=self)
        if self.connected:
            self._drop(failure)

    def _write(self, data: Any) -> None:
        """Write what is not the first of what is joined, or not plain bytes."""
        if data.__class__ is not bytes:
            data = to_bytes(data)
        joined = self._joined
        if joined is None:
            self._joined = data
            self.reactor.loop.call_soon(self._flush)
        elif joined is AT_ONCE:
            self._transport.write(data)
            self._pull_soon()
        elif joined.__class__ is list:
            joined.append(data)
        elif joined.__class__ is bytes:
            self._join(joined, data)

    def _join(self, joined: bytes, data: bytes) -> None:
        """Join; but a producer is to learn in time that the peer does not read."""
        if self.producer is None:
            self._joined = [joined, data]
            return
        self._joined = joined + data
        if len(self._joined) > JOINED:
            self._flush()
            if self._full:
                self._pause_producer()

    def _flush(self) -> None:
        """Send what was joined."""
        joined = self._joined
        if joined.__class__ is list:
            joined = b"".join(joined)
        if joined.__class__ is bytes:
            self._joined = None
            self._transport.write(joined)

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
            self._tell(self.producer.resumeProducing)

    def _close(self) -> None:
        if self._joined:
            self._flush()
        self._joined = NOWHERE
        self._transport.close()

    def _drop(self, reason: Failure) -> None:
        """Close at once; what is unsent is lost."""
        self._reason = reason
        self._joined = NOWHERE
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
            self._joined = NOWHERE
            self._transport.write_eof()
            self.reactor.loop.call_soon(self._writing_ended)

    def _writing_ended(self) -> None:
        if self.connected and not self.disconnecting:
            protocol = IHalfCloseableProtocol(self.protocol, None)
            if protocol is not None:
                self._tell(protocol.writeConnectionLost)


def to_bytes(data: Any) -> bytes:
    """Give a copy of what is like bytes.  Raises TypeError if it is not."""
    try:
        return bytes(memoryview(data))
    except TypeError:
        raise TypeError(NOT_BYTES) from None
