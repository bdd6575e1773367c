"""A connection to a service that begins after other stages, with the bytes that came meanwhile."""

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IProtocol
from twisted.python.failure import Failure

from netsrv.gate import Permit
from netsrv.streams.connection import Connection


class StagedConnection(Connection):
    """A connection whose first bytes were received before its service began.

    A service that pauses gets them when it resumes, and the end of the peer after them.
    """

    __slots__ = ("_early", "_early_end", "_paused", "at_end")

    def __init__(self, permit: Permit, protocol: IProtocol) -> None:
        super().__init__(permit, protocol)
        self.at_end: Sequence[Callable[[], None]] = ()
        """Functions to call when the connection has ended."""
        self._early = b""
        self._early_end = False
        self._paused = False

    def begin(self, transport: Any, data: bytes) -> None:
        """Take *transport* over, and pass on *data*, which the peer has sent already."""
        transport.protocol = self
        self._early = data
        self.makeConnection(transport)
        self._deliver()

    def pauseProducing(self) -> None:
        self._paused = True
        super().pauseProducing()

    def resumeProducing(self) -> None:
        """Read again, but first deliver what came early: in the next turn, as transports do."""
        self._paused = False
        if self._early:
            self.permit.gate.clock.callLater(0, self._resume)
        else:
            super().resumeProducing()

    def readConnectionLost(self) -> None:
        if self._early and self._paused:
            self._early_end = True
        else:
            super().readConnectionLost()

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)
        calls, self.at_end = self.at_end, ()
        for call in calls:
            call()

    def _resume(self) -> None:
        if self.connected and not self._paused:
            self._deliver()
            if self.connected and not self._paused:
                super().resumeProducing()

    def _deliver(self) -> None:
        if self._paused or not self.connected:
            return
        early, self._early = self._early, b""
        if early:
            self.dataReceived(early)
        if self._early_end and self.connected:
            self._early_end = False
            self.readConnectionLost()
