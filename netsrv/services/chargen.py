"""chargen: lines of characters without end (RFC 864)."""

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

LONGEST_DATAGRAM = 512


def line(number: int) -> bytes:
    """Line *number*, from 0: `WIDTH` characters of the ring, starting one later each time."""
    start = number % len(RING)
    return (RING + RING)[start : start + WIDTH] + b"\r\n"


ROUND = b"".join(line(number) for number in range(len(RING)))
"""Lines 0 to 94, 7,030 bytes, after which they repeat."""

_CHUNK = ROUND * 9
"""What is written at once: whole rounds, just under 64 KiB."""


@implementer(IHalfCloseableProtocol, IPullProducer)
class ChargenStream(Protocol):
    """Sends lines as fast as the peer reads, until the peer is gone.  Input is dropped."""

    transport: Any

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        self.transport.write(_CHUNK)

    def stopProducing(self) -> None:
        """The connection is lost, and with it the only one who asks for lines."""

    def readConnectionLost(self) -> None:
        """A peer that has nothing more to say may still listen."""

    def writeConnectionLost(self) -> None:
        """Never: only the peer ends the lines."""


class ChargenDatagrams(DatagramProtocol):
    """Answers each datagram with 0 to 512 characters, as many as the request pays for."""

    transport: IUDPTransport

    def __init__(self, random_length: Any = random.randint) -> None:
        self._random_length = random_length

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        longest = min(LONGEST_DATAGRAM, max_reply_size(len(datagram), addr[0]))
        self.transport.write(ROUND[: self._random_length(0, longest)], addr)


@implementer(IStreamService, IDatagramService)
class ChargenService:
    """The service as a plugin."""

    name = "chargen"
    description = "send lines of characters without end (RFC 864)"
    settings = None

    def stream(self, settings: Any) -> IProtocolFactory:
        return Factory.forProtocol(ChargenStream)

    def datagram(self, settings: Any) -> DatagramProtocol:
        return ChargenDatagrams()
