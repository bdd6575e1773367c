"""time: the time as four bytes (RFC 868)."""

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import DatagramProtocol
from zope.interface import implementer

from netsrv.interfaces import IDatagramService, IStreamService
from netsrv.services.message import MessageDatagrams, MessageFactory

SINCE_1900 = 2_208_988_800
"""Seconds from 1900-01-01 to 1970-01-01, where Unix time begins (RFC 868)."""


def time_bytes(now: float) -> bytes:
    """Return the seconds from 1900 to *now*, Unix time, as 32 bits in network order.

    They wrap to 0 on 2036-02-07 06:28:16 UTC.  For a time before 1900 the result is empty, as
    the RFC asks of a server that does not know the time.
    """
    seconds = int(now // 1) + SINCE_1900
    return b"" if seconds < 0 else (seconds % 2**32).to_bytes(4, "big")


@implementer(IStreamService, IDatagramService)
class TimeService:
    """The plugin; *clock* returns Unix time."""

    name = "time"
    description = "send the seconds since 1900 as 4 bytes (RFC 868)"
    settings = None

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock

    def stream(self, settings: Any) -> IProtocolFactory:
        return MessageFactory(self._message)

    def datagram(self, settings: Any) -> DatagramProtocol:
        return MessageDatagrams(self._message)

    def _message(self, peer: Any) -> bytes:
        return time_bytes(self._clock())
