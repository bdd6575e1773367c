"""daytime: the time as a line of text (RFC 867)."""

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import DatagramProtocol
from zope.interface import implementer

from netsrv.interfaces import IDatagramService, IStreamService
from netsrv.services.message import MessageDatagrams, MessageFactory

_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_MONTHS = (
    "January February March April May June July August September October November December"
).split()


@lru_cache(1)
def daytime(now: float) -> bytes:
    """Return the line for *now*, Unix time: ``Monday, February 22, 1982 17:37:43-UTC`` and CR LF.

    It is in English, ASCII and UTC, whatever the locale and time zone of the server are.
    """
    t = time.gmtime(now)
    return (
        f"{_DAYS[t.tm_wday]}, {_MONTHS[t.tm_mon - 1]} {t.tm_mday}, {t.tm_year} "
        f"{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02}-UTC\r\n"
    ).encode("ascii")


@implementer(IStreamService, IDatagramService)
class DaytimeService:
    """The plugin; *clock* returns Unix time."""

    name = "daytime"
    description = "send the time as a line of text (RFC 867)"
    settings = None

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock

    def stream(self, settings: Any) -> IProtocolFactory:
        return MessageFactory(self._message)

    def datagram(self, settings: Any) -> DatagramProtocol:
        return MessageDatagrams(self._message)

    def _message(self, peer: Any) -> bytes:
        return daytime(int(self._clock()))
