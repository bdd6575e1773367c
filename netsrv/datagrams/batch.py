"""What a datagram port hands on: the datagrams that it has received together."""

from collections.abc import Callable, Sequence
from typing import Any

from zope.interface import implementer

from netsrv.batches import Datagrams
from netsrv.datagrams.single import ReceivedBatch
from netsrv.interfaces import IDatagramBatch

Serve = Callable[[bytes, tuple[str, int]], None]
"""Serves a datagram, with its sender's address."""


@implementer(IDatagramBatch)
class Batch:
    """Datagrams that were received together, until they have been served."""

    def __init__(self, port: Any, received: ReceivedBatch, whole: "Batch | None" = None) -> None:
        self._port = port
        self._batched = self if whole is None else whole
        self._over = False
        self._received: ReceivedBatch | None = received
        self.flows = received.flows
        """Whom each came from, and how."""
        self.sizes = received.sizes

    def only(self, indices: Sequence[int]) -> "Batch":
        """Those that stand at *indices*; nothing is copied."""
        return Batch(self._port, self._valid().only(indices), self._batched)

    def seen(self) -> Datagrams:
        """What observers are told of them."""
        return Datagrams(self.flows, self.sizes)

    def send_back(self) -> None:
        """Send each back to where it came from, as it is."""
        received, self._received = self._valid(), None
        self._port.send_back(received)

    def each(self, serve: Serve) -> None:
        """Have *serve* called for each, with its bytes and sender, as the answered one."""
        received, self._received = self._valid(), None
        self._port.serve_each(received.flows, received.data(), serve)

    def end(self) -> None:
        """It is over, and all its parts: another batch may stand where this one stood."""
        self._over = True

    def _valid(self) -> ReceivedBatch:
        if self._received is None or self._batched._over:
            raise RuntimeError("the batch is over, or was sent back before")
        return self._received


@implementer(IDatagramBatch)
class SingleDatagram:
    """The datagram that a port serves by itself, as a batch."""

    def __init__(self, port: Any) -> None:
        self._port = port

    @property
    def sizes(self) -> list[int]:
        """Its size."""
        return [] if self._port.datagram is None else [len(self._port.datagram)]

    def send_back(self) -> None:
        """Send it back to where it came from, as it is."""
        self._port.send_back_single()
