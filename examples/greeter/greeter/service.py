"""greeter: a greeting for each name, with how often it was greeted before."""

from collections import OrderedDict
from typing import Any

from attrs import field, frozen, validators
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.protocols.basic import LineOnlyReceiver
from zope.interface import implementer

from netsrv.interfaces import IDatagramService, IStreamService

LONGEST_NAME = 40
"""Bytes."""


@frozen
class GreeterSettings:
    """What stands in ``[listener.settings]``."""

    greeting: str = field(
        default="Hello", validator=[validators.min_len(1), validators.max_len(16)]
    )
    """What a name is greeted with."""
    most_names: int = field(default=1000, validator=validators.ge(1))
    """Names that are remembered; those that were not heard for longest are forgotten."""


class GuestBook:
    """Remembers how often each name was greeted; nothing of Twisted is in here."""

    def __init__(self, settings: GreeterSettings) -> None:
        self._settings = settings
        self._times: OrderedDict[str, int] = OrderedDict()

    def greet(self, name: bytes) -> bytes:
        """Greet a name, which comes from a stranger."""
        shown = name[:LONGEST_NAME].decode("ascii", "replace").strip()
        times = self._times.pop(shown, 0) + 1
        self._times[shown] = times
        if len(self._times) > self._settings.most_names:
            self._times.popitem(last=False)
        again = f" ({times})" if times > 1 else ""
        return f"{self._settings.greeting}, {shown}!{again}".encode()


class GreeterStream(LineOnlyReceiver):
    """Greets for each line; the factory has the book that all connections share."""

    delimiter = b"\n"
    MAX_LENGTH = LONGEST_NAME
    factory: "GreeterFactory"

    def lineReceived(self, line: bytes) -> None:
        self.sendLine(self.factory.book.greet(line))


class GreeterFactory(Factory):
    """Makes a protocol for each connection of a listener."""

    protocol = GreeterStream

    def __init__(self, book: GuestBook) -> None:
        self.book = book


class GreeterDatagrams(DatagramProtocol):
    """Greets for each datagram."""

    transport: Any

    def __init__(self, book: GuestBook) -> None:
        self._book = book

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.transport.write(self._book.greet(datagram) + b"\n", addr)


@implementer(IStreamService, IDatagramService)
class GreeterService:
    """The service as a plugin; each listener has a guest book of its own."""

    name = "greeter"
    description = "greet everyone who gives a name"
    settings = GreeterSettings

    def stream(self, settings: GreeterSettings) -> GreeterFactory:
        return GreeterFactory(GuestBook(settings))

    def datagram(self, settings: GreeterSettings) -> GreeterDatagrams:
        return GreeterDatagrams(GuestBook(settings))
