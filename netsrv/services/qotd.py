"""qotd: a quote of the day (RFC 865)."""

import random
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import DatagramProtocol
from zope.interface import implementer

from netsrv.interfaces import IDatagramService, IStreamService
from netsrv.services.message import MessageDatagrams, message_factory

LONGEST = 511
"""Characters: the RFC asks for fewer than 512."""

QUOTES = (
    "Be conservative in what you do, be liberal in what you accept from others. (RFC 793)",
    "In general, it is best to assume that the network is filled with malevolent entities "
    "that will send in packets designed to have the worst possible effect. (RFC 1122)",
    "With sufficient thrust, pigs fly just fine. However, this is not necessarily a good idea. "
    "(RFC 1925)",
    "It is always something. (RFC 1925)",
    "One size never fits all. (RFC 1925)",
)


@implementer(IStreamService, IDatagramService)
class QotdService:
    """The service as a plugin; *choose* picks one of the quotes."""

    name = "qotd"
    description = "send a quote (RFC 865)"
    settings = None

    def __init__(self, choose: Callable[[Sequence[str]], str] = random.choice) -> None:
        self._choose = choose

    def stream(self, settings: Any) -> IProtocolFactory:
        return message_factory(self._message)

    def datagram(self, settings: Any) -> DatagramProtocol:
        return MessageDatagrams(self._message)

    def _message(self) -> bytes:
        return self._choose(QUOTES).encode("ascii")[: LONGEST - 2] + b"\r\n"
