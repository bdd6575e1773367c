"""chargen: an endless stream of lines (RFC 864)."""

import random
from typing import Any

from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IProtocolFactory,
    IPullProducer,
    IUDPTransport,
)
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from zope.interface import implementer

from netsrv.guards.amplification import max_reply_size
from netsrv.interfaces import IDatagramService, IStreamService

RING = bytes(range(0x20, 0x7F))
"""The 95 printable characters of ASCII."""

WIDTH = 72
"""Characters in a line, before CR LF."""

MAX_DATAGRAM_SIZE = 512


def line(number: int) -> bytes:
    """Return line *number*, from 0: `WIDTH` characters of the ring, from character *number* on."""
    start = number % len(RING)
    return (RING + RING)[start : start + WIDTH] + b"\r\n"


ROUND = b"".join(line(number) for number in range(len(RING)))
"""Lines 0 to 94, 7,030 bytes, after which they repeat."""

_CHUNK = ROUND * 9
"""The data of one write: whole rounds, just under 64 KiB."""


@implementer(IHalfCloseableProtocol, IPullProducer)
class ChargenStream(Protocol):
    """Sends lines as fast as the peer reads, until the peer closes.  Input is dropped."""

    transport: Any

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        self.transport.write(_CHUNK)

    def stopProducing(self) -> None:
        """The connection is lost; there is no state to release."""

    def readConnectionLost(self) -> None:
        """A peer that has half-closed may still read."""

    def writeConnectionLost(self) -> None:
        """Not reached: the service does not half-close."""


class ChargenDatagrams(DatagramProtocol):
    """Answers each datagram with 0 to 512 characters, within the limit for replies."""

    transport: IUDPTransport

    def __init__(self, random_length: Any = random.randint) -> None:
        self._random_length = random_length

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        limit = min(MAX_DATAGRAM_SIZE, max_reply_size(len(datagram), addr[0]))
        self.transport.write(ROUND[: self._random_length(0, limit)], addr)


@implementer(IStreamService, IDatagramService)
class ChargenService:
    """The plugin."""

    name = "chargen"
    description = "send an endless stream of lines (RFC 864)"
    settings = None

    def stream(self, settings: Any) -> IProtocolFactory:
        return Factory.forProtocol(ChargenStream)

    def datagram(self, settings: Any) -> DatagramProtocol:
        return ChargenDatagrams()
