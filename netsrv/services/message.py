"""Services that have one message for each peer: daytime, qotd, time, and those of others.

Such a service is a function from a peer to bytes; `MessageFactory` and `MessageDatagrams` make
the two faces of the service from it.
"""

from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import ITransport, IUDPTransport
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from zope.interface import implementer

from netsrv.guards.amplification import max_reply_size
from netsrv.interfaces import IMessageFactory

Message = Callable[[Any], bytes]
"""Returns the message for a peer, which has ``getPeer()``; empty bytes if there is none.

The peer of a connection has ``getHost()`` and ``getHandle()`` too.
"""


class MessageStream(Protocol):
    """Sends the message and closes."""

    transport: ITransport

    def __init__(self, message: Message) -> None:
        self._message = message

    def connectionMade(self) -> None:
        message = self._message(self.transport)
        if message:
            self.transport.write(message)
        self.transport.loseConnection()


@implementer(IMessageFactory)
class MessageFactory(Factory):
    """Sends the message on each connection, and closes it."""

    def __init__(self, message: Message) -> None:
        self._message = message

    @property
    def message(self) -> Message:
        """The function, as `IMessageFactory` has it."""
        return self._message

    def buildProtocol(self, addr: Any) -> MessageStream:
        return MessageStream(self._message)


class MessageDatagrams(DatagramProtocol):
    """Replies to each datagram with the message, cut to the limit for replies."""

    transport: IUDPTransport

    def __init__(self, message: Message) -> None:
        self._message = message

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        message = self._message(DatagramPeer(addr))
        if message:
            self.transport.write(message[: max_reply_size(len(datagram), addr[0])], addr)


class DatagramPeer:
    """The sender of a datagram, at *addr*, a numeric host and a port."""

    def __init__(self, addr: tuple[str, int]) -> None:
        self._addr = addr

    def getPeer(self) -> IPv4Address | IPv6Address:
        """Return the address of the sender."""
        kind = IPv6Address if ":" in self._addr[0] else IPv4Address
        return kind("UDP", *self._addr)
