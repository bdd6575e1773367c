"""A connection to a service that begins after other stages, with the bytes that came meanwhile."""

from collections.abc import Callable, Sequence
from typing import Any

from twisted.python.failure import Failure

from netsrv.streams.connection import Connection


class StagedConnection(Connection):
    """A connection whose first bytes were received before its service began.

    A service that pauses gets them when it resumes, and the end of the peer after them.
    """

    at_end: Sequence[Callable[[], None]] = ()
    """Functions to call when the connection has ended."""
    early = b""
    """What the peer has sent before the service began, as far as the service has not got it."""
    _early_end = False

    def makeConnection(self, transport: Any) -> None:
        """Begin, and pass on what the peer has sent already."""
        super().makeConnection(transport)
        if self.early:
            self._deliver()

    def resumeProducing(self) -> None:
        """Read again, but first deliver what came early: in the next turn, as transports do."""
        if self.early:
            self.paused = False
            self.permit.gate.clock.callLater(0, self._resume)
        else:
            super().resumeProducing()

    def readConnectionLost(self) -> None:
        if self.early and not self.disconnecting:
            self._early_end = True
        else:
            super().readConnectionLost()

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)
        if self.at_end:
            calls, self.at_end = self.at_end, ()
            for call in calls:
                call()

    def _resume(self) -> None:
        if self.connected and not self.paused:
            self._deliver()
            if self.connected and not self.paused:
                super().resumeProducing()

    def _deliver(self) -> None:
        if self.paused or not self.connected:
            return
        early, self.early = self.early, b""
        if early:
            self.dataReceived(early)
        if self._early_end and self.connected:
            self._early_end = False
            self.readConnectionLost()
