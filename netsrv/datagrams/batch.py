"""The datagrams that a port serves: a batch of them, or a single one."""

from collections.abc import Callable, Sequence
from typing import Any

from zope.interface import implementer

from netsrv.batches import Datagrams, Peer
from netsrv.guards.sources import Flow
from netsrv.interfaces import IDatagramBatch

BATCH_SIZE = 64
"""Datagrams, at most, that one system call receives or sends, or a port serves in one turn
of the reactor."""

Serve = Callable[[bytes, Peer], None]
"""Serves a datagram: its bytes, and the address of its sender."""


@implementer(IDatagramBatch)
class Batch(Datagrams):
    """Datagrams that were received together; valid until closed, and for one use.

    *port* received them and sends them back.  *data* has the bytes of each.  The size of a
    truncated datagram is greater than the maximum that was asked for.  *whole* is the batch
    that this one is a part of.
    """

    def __init__(
        self,
        port: Any,
        flows: Sequence[Flow],
        sizes: Sequence[int],
        data: Sequence[bytes] = (),
        whole: "Batch | None" = None,
    ) -> None:
        super().__init__(flows, sizes)
        self.closed = False
        self._port = port
        self._data = data
        self._whole = whole
        self._used = False

    def only(self, indices: Sequence[int]) -> "Batch":
        """Return the part at *indices*, which is valid as long as the whole."""
        self._check()
        return self._part(
            indices,
            [self.flows[index] for index in indices],
            [self.sizes[index] for index in indices],
        )

    def replaced(self, flows: Sequence[Flow], data: Sequence[bytes]) -> "Batch":
        """Return a batch of other datagrams, which is valid as long as this one."""
        self._check()
        return Batch(self._port, flows, [*map(len, data)], data, self._whole or self)

    def send_back(self) -> None:
        """Send each back to its sender, unchanged."""
        self._check()
        self._used = True
        self._port.send_back(self)

    def each(self, serve: Serve) -> None:
        """Call *serve* for each datagram, which is the one that the port is serving then."""
        self._check()
        self._used = True
        self._port.serve_each(self.flows, self.data(), serve)

    def data(self) -> Sequence[bytes]:
        """Return the bytes of each; they stay valid."""
        return self._data

    def datagram(self, index: int) -> bytes:
        """Return the bytes of one; they stay valid."""
        return self._data[index]

    def close(self) -> None:
        """Release the buffers; the batch and its parts are no longer valid."""
        self.closed = True

    def _part(self, indices: Sequence[int], flows: list[Flow], sizes: list[int]) -> "Batch":
        data = [self._data[index] for index in indices]
        return Batch(self._port, flows, sizes, data, self._whole or self)

    def _check(self) -> None:
        if self._used or (self._whole or self).closed:
            raise RuntimeError("the batch is over, or was sent back before")


@implementer(IDatagramBatch)
class SingleDatagram:
    """The datagram that *port* serves by itself, as a batch.

    A port has one such object, which saves making one for each datagram.
    """

    def __init__(self, port: Any) -> None:
        self._port = port
        self.data: bytes | None = None
        """The bytes of the datagram that is being served; None once it was sent back."""

    @property
    def sizes(self) -> list[int]:
        """The size of the datagram."""
        return [] if self.data is None else [len(self.data)]

    def send_back(self) -> None:
        """Send it back to its sender, unchanged."""
        data, self.data = self.data, None
        if data is None:
            raise RuntimeError("the batch is over, or was sent back before")
        self._port.send_back_single(data)
