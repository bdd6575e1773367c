"""The two directions of a connection with faults: their stages in order, and their ends."""

from collections import deque
from typing import Any

from netsrv.faults.stages import Stage


class Link:
    """One direction: its stages in order, and the *sink* behind the last."""

    def __init__(self, sink: Any) -> None:
        self.stages: list[Stage] = []
        self.first = sink
        self.held = 0
        """Bytes that the stages hold."""
        self.pausers: set[Any] = set()
        """What has paused the sender: stages, None for the sum of held bytes, or the transport."""
        self._sink = sink
        self.dropped = 0
        """Bytes that stages have dropped since the last pause for them."""
        self.pause_timer: Any = None
        """Ends that pause."""

    def connect(self) -> None:
        """Connect the active stages with each other."""
        following = self._sink
        for stage in reversed(self.stages):
            stage.next = following
            if stage.active:
                following = stage
        self.first = following


class UpstreamSink:
    """The end of the upstream link: the gate's connection, which may have paused reading."""

    def __init__(self, owner: Any) -> None:
        self._owner = owner
        self.paused = False
        self._waiting: deque[bytes | None] = deque()
        """Data that has come meanwhile; None is the end."""

    def data(self, data: bytes) -> None:
        if self.paused or self._waiting:
            self._waiting.append(data)
        else:
            self._owner.protocol.dataReceived(data)

    def end(self) -> None:
        if self.paused or self._waiting:
            self._waiting.append(None)
        else:
            self._owner.protocol.readConnectionLost()

    def resume(self) -> None:
        """Deliver what has waited, until reading is paused again."""
        self.paused = False
        while self._waiting and not self.paused:
            data = self._waiting.popleft()
            if data is None:
                self._owner.protocol.readConnectionLost()
            else:
                self._owner.protocol.dataReceived(data)

    def drop(self) -> None:
        self._waiting.clear()


class DownstreamSink:
    """The end of the downstream link: the transport, which buffers."""

    def __init__(self, owner: Any) -> None:
        self._owner = owner

    def data(self, data: bytes) -> None:
        self._owner.transport.write(data)

    def end(self) -> None:
        self._owner.end_writing()
