"""Datagrams that come or go together, and who is told of them as one.

A server that is busy receives many datagrams in one call.  What is done once for all of
them costs little for each; but most who are told want them one by one.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from zope.interface import implementer

from netsrv.interfaces import IDatagrams

Peer = tuple[str, int]
"""A numeric address and a port."""


@implementer(IDatagrams)
class Datagrams:
    """What observers are told of: with each of *origins* the size beside it in *sizes*."""

    __slots__ = ("_origins", "_sizes", "count", "size")

    def __init__(self, origins: Sequence[Any], sizes: Sequence[int]) -> None:
        self._origins = origins
        self._sizes = sizes
        self.count = len(sizes)
        self.size = sum(sizes)

    def __iter__(self) -> Iterator[tuple[Peer, int]]:
        for origin, size in zip(self._origins, self._sizes, strict=True):
            yield origin.peer, size


def accepts_batches(receiver: object, whole: str, single: str) -> bool:
    """Whether *receiver* takes many with its method *whole*, not one by one with *single*.

    Who derives from such a class and overrides *single* alone wants them one by one.
    """
    if single in getattr(receiver, "__dict__", ()):
        return False
    for kind in type(receiver).__mro__:
        if whole in vars(kind):
            return True
        if single in vars(kind):
            return False
    return False
