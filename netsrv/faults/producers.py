"""A service's producer on a connection with faults, which pauses it as the transport does."""

from typing import Any

from netsrv.faults.fault import Direction

DOWNSTREAM = Direction.DOWNSTREAM


class TransportSide:
    """The service's producer, as the transport sees it."""

    def __init__(self, connection: Any, producer: Any) -> None:
        self._connection = connection
        self._producer = producer

    def pauseProducing(self) -> None:
        self._connection.pause(DOWNSTREAM, self._connection.transport)

    def resumeProducing(self) -> None:
        self._connection.resume(DOWNSTREAM, self._connection.transport)

    def stopProducing(self) -> None:
        self._producer.stopProducing()


class Puller:
    """Makes a push producer of a pull producer: asks it once in a turn, unless it is paused."""

    def __init__(self, producer: Any, clock: Any) -> None:
        self._producer = producer
        self._clock = clock
        self._call: Any = None

    def pauseProducing(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def resumeProducing(self) -> None:
        if self._call is None:
            self._call = self._clock.callLater(0, self._pull)

    def _pull(self) -> None:
        self._call = None
        self.resumeProducing()
        self._producer.resumeProducing()
