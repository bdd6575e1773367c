"""greeter: greet each name, and count how often."""

from collections import OrderedDict
from typing import Any

from attrs import field, frozen, validators
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.protocols.basic import LineOnlyReceiver
from zope.interface import implementer

from netsrv.interfaces import IDatagramService, IStreamService

MAX_NAME_LENGTH = 40
"""Bytes."""


@frozen
class GreeterSettings:
    """The keys of ``[listener.settings]``."""

    greeting: str = field(
        default="Hello", validator=[validators.min_len(1), validators.max_len(16)]
    )
    """The word before the name."""
    max_names: int = field(default=1000, validator=validators.ge(1))
    """Names to remember; the least recently greeted ones are forgotten."""


class GuestBook:
    """Remembers how often each name was greeted.  It uses nothing of Twisted."""

    def __init__(self, settings: GreeterSettings) -> None:
        self._settings = settings
        self._times: OrderedDict[str, int] = OrderedDict()

    def greet(self, name: bytes) -> bytes:
        """Return the greeting for a name, which may be any bytes."""
        shown = name[:MAX_NAME_LENGTH].decode("ascii", "replace").strip()
        times = self._times.pop(shown, 0) + 1
        self._times[shown] = times
        if len(self._times) > self._settings.max_names:
            self._times.popitem(last=False)
        again = f" ({times})" if times > 1 else ""
        return f"{self._settings.greeting}, {shown}!{again}".encode()


class GreeterStream(LineOnlyReceiver):
    """Greets for each line; all connections of a listener share a book."""

    delimiter = b"\n"
    MAX_LENGTH = MAX_NAME_LENGTH
    transport: Any

    def __init__(self, book: GuestBook) -> None:
        self._book = book

    def lineReceived(self, line: bytes) -> None:
        self.transport.write(self._book.greet(line) + b"\n")


class GreeterFactory(Factory):
    """Creates a protocol for each connection of a listener."""

    def __init__(self, book: GuestBook) -> None:
        self._book = book

    def buildProtocol(self, addr: IAddress | None) -> GreeterStream:
        return GreeterStream(self._book)


class GreeterDatagrams(DatagramProtocol):
    """Greets for each datagram."""

    transport: Any

    def __init__(self, book: GuestBook) -> None:
        self._book = book

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.transport.write(self._book.greet(datagram) + b"\n", addr)


@implementer(IStreamService, IDatagramService)
class GreeterService:
    """The service; each listener has a guest book of its own."""

    name = "greeter"
    description = "greet each name"
    settings = GreeterSettings

    def stream(self, settings: GreeterSettings) -> GreeterFactory:
        return GreeterFactory(GuestBook(settings))

    def datagram(self, settings: GreeterSettings) -> GreeterDatagrams:
        return GreeterDatagrams(GuestBook(settings))
