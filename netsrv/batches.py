"""Datagrams that were received or sent together, and the protocols that take them so.

A busy server receives many datagrams in one call.  Work that is done once for all of them
costs little for each.
"""

from collections.abc import Container, Iterator, Sequence
from itertools import chain
from typing import Any

from zope.interface import implementer

from netsrv.interfaces import IDatagramBatchProtocol, IDatagrams
from netsrv.shortcuts import defined_last

Peer = tuple[str, int]
"""A numeric address and a port."""


@implementer(IDatagrams)
class Datagrams:
    """Datagrams as observers see them: *sizes* has the bytes of each, *flows* where it belongs."""

    def __init__(self, flows: Sequence[Any], sizes: Sequence[int]) -> None:
        self.flows = flows
        self.sizes = sizes
        self.count = len(sizes)
        self.size = sum(sizes)

    def __iter__(self) -> Iterator[tuple[Peer, int]]:
        for flow, size in zip(self.flows, self.sizes, strict=True):
            yield flow.peer, size

    def without(self, indices: Container[int]) -> "Datagrams":
        """Return those that are not at *indices*."""
        rest = [index for index in range(self.count) if index not in indices]
        return Datagrams([self.flows[i] for i in rest], [self.sizes[i] for i in rest])


@implementer(IDatagrams)
class JoinedDatagrams:
    """The datagrams of several *parts*, in order."""

    def __init__(self, parts: Sequence[Datagrams]) -> None:
        self._parts = parts
        self.count = sum(part.count for part in parts)
        self.size = sum(part.size for part in parts)

    def __iter__(self) -> Iterator[tuple[Peer, int]]:
        return chain.from_iterable(self._parts)


def accepts_batches(protocol: object) -> bool:
    """Return whether a protocol is called for whole batches.

    A subclass that overrides only ``datagramReceived`` is called once per datagram.
    """
    if not IDatagramBatchProtocol.providedBy(protocol):
        return False
    return defined_last(protocol, "datagramsReceived", "datagramReceived")
