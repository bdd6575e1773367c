"""The producer of a service, between it and the transport for which it produces."""

from collections.abc import Callable
from typing import Any


class Producer:
    """A service's producer, whose `stopProducing` may raise without harm.

    A transport that is lost stops its producer first, and skips the rest if that raises.
    """

    def __init__(self, producer: Any, call_service: Callable[..., None]) -> None:
        self._producer = producer
        self._call_service = call_service
        # The transport looks this up at each write of a stream.
        self.resumeProducing = getattr(producer, "resumeProducing", None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def stopProducing(self) -> None:
        self._call_service("stopProducing", self._producer.stopProducing)
