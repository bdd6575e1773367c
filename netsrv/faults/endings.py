"""Faults that end a connection or a direction of it, or stop it: timeout, reset_peer and others."""

from enum import StrEnum
from typing import Any

from attrs import field, frozen
from attrs.validators import ge

from netsrv.faults.delays import MILLISECOND
from netsrv.faults.stages import Stage


class How(StrEnum):
    """How a connection ends."""

    CLOSE = "close"
    """With FIN, after what has passed."""
    RESET = "reset"
    """With RST; what was not sent is lost."""


class Refusal(StrEnum):
    """What happens to new connections."""

    CLOSE = "close"
    """They are accepted and closed."""
    RESET = "reset"
    """They are accepted and reset."""
    STALL = "stall"
    """No connection is accepted: peers wait in the backlog, and cannot connect once it is full."""


@frozen
class RefuseAttributes:
    """The attributes of refuse."""

    how: Refusal = field(default=Refusal.CLOSE, converter=Refusal)
    """What happens to a new connection."""


@frozen
class TimeoutAttributes:
    """The attributes of timeout and reset_peer."""

    timeout: int = 0
    """Milliseconds; ``timeout`` takes 0 as never, ``reset_peer`` as at the first data."""


class Timeout(Stage):
    """Drops all data, and closes the connection after a time without data.

    If one side closes, so does the other, at once.  The removal of the fault closes the connection:
    data was lost on it.
    """

    def start(self) -> None:
        if self.attributes.timeout > 0:
            self.call_later(self.attributes.timeout * MILLISECOND, self.close)

    def data(self, data: bytes) -> None:
        self.drop_data(data)
        self.start()

    def end(self) -> None:
        self.cancel()
        self.close()

    def update(self) -> None:
        self.cancel()
        self.start()

    def release(self) -> None:
        self.end()

    def leave(self) -> None:
        self.cancel()


class ResetPeer(Stage):
    """Drops all data, and resets the connection a time after the first, or when it ends.

    A connection without data in this direction stays as it is.
    """

    def data(self, data: bytes) -> None:
        self.drop_data(data)
        if self.attributes.timeout <= 0:
            self.reset()
        elif not self.waits:
            self.call_later(self.attributes.timeout * MILLISECOND, self.reset)

    def end(self) -> None:
        self.reset()

    def release(self) -> None:
        if self.waits:
            self.cancel()
            self.reset()

    def leave(self) -> None:
        self.cancel()


@frozen
class LimitDataAttributes:
    """The attributes of limit_data."""

    bytes: int = 0
    """Bytes that pass before the connection is closed."""


class LimitData(Stage):
    """Closes the connection when so many bytes have passed; bytes beyond are dropped."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._passed = 0

    def data(self, data: bytes) -> None:
        left = self.attributes.bytes - self._passed
        if left > 0:
            self._passed += len(data)
            self.pass_on(data[:left])
        if len(data) >= left:
            self.close()


@frozen
class LimitTimeAttributes:
    """The attributes of limit_time."""

    time: int = field(default=0, validator=ge(0))
    """Milliseconds."""
    how: How = field(default=How.CLOSE, converter=How)
    """How the connection ends."""


class LimitTime(Stage):
    """Ends the connection a time after it was made, or after it has got the fault.

    Data passes until then.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._since = self.now()

    def start(self) -> None:
        end = self.reset if self.attributes.how is How.RESET else self.close
        self.call_later(self._since + self.attributes.time * MILLISECOND - self.now(), end)

    def update(self) -> None:
        self.start()

    def release(self) -> None:
        self.cancel()


@frozen
class StallAttributes:
    """The attributes of stall."""

    after: int = field(default=0, validator=ge(0))
    """Bytes that pass first."""
    time: int = field(default=0, validator=ge(0))
    """Milliseconds; 0 for as long as the fault is there."""


class Stall(Stage):
    """Stops reading after a number of bytes, so that the sender has to wait.

    Nothing is lost: all bytes follow when the time is over or the fault is removed.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._passed = 0
        self._held = b""
        self._stalled = self._over = self._ending = False

    def start(self) -> None:
        if not self._over and self._passed >= self.attributes.after:
            self._stall()

    def data(self, data: bytes) -> None:
        if self._over:
            self.pass_on(data)
            return
        passing = data[: max(self.attributes.after - self._passed, 0)]
        if passing and not self._stalled:
            self._passed += len(passing)
            data = data[len(passing) :]
            self.pass_on(passing)
        self._held += data
        self.hold(len(data))
        if self._passed >= self.attributes.after:
            self._stall()

    def end(self) -> None:
        if self._stalled:
            self._ending = True
        else:
            self.pass_end()

    def release(self) -> None:
        self.cancel()
        self._resume()

    def _stall(self) -> None:
        if not self._stalled:
            self._stalled = True
            self.connection.pause(self.direction, self)
            if self.attributes.time:
                self.call_later(self.attributes.time * MILLISECOND, self._resume)

    def _resume(self) -> None:
        self._over = True
        if not self._stalled:
            return
        self._stalled = False
        held, self._held = self._held, b""
        self.hold(-len(held))
        if held:
            self.pass_on(held)
        if self._ending:
            self.pass_end()
        self.connection.resume(self.direction, self)


@frozen
class HalfCloseAttributes:
    """The attributes of half_close."""

    after: int = field(default=0, validator=ge(0))
    """Bytes that pass first."""


class HalfClose(Stage):
    """Ends this direction after a number of bytes, and drops what follows; the other stays."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._passed = 0
        self._ended = False

    def start(self) -> None:
        if self._passed >= self.attributes.after:
            self.end()

    def data(self, data: bytes) -> None:
        left = self.attributes.after - self._passed
        if not self._ended and left > 0:
            self._passed += len(data)
            self.pass_on(data[:left])
            if len(data) >= left:
                self.end()
        else:
            self.drop_data(data)

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            self.pass_end()
