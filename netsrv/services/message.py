"""The common part of daytime, qotd and time: one message to each peer."""

from collections.abc import Callable
from functools import partial

from twisted.internet.interfaces import IProtocolFactory, ITransport, IUDPTransport
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol

from netsrv.guards.amplification import max_reply_size

Message = Callable[[], bytes]
"""Returns the present message; empty bytes if there is none."""


class MessageStream(Protocol):
    """Sends the message and closes."""

    transport: ITransport

    def __init__(self, message: Message) -> None:
        self._message = message

    def connectionMade(self) -> None:
        self.transport.write(self._message())
        self.transport.loseConnection()


class MessageDatagrams(DatagramProtocol):
    """Replies to each datagram with the message, cut to the limit for replies."""

    transport: IUDPTransport

    def __init__(self, message: Message) -> None:
        self._message = message

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        message = self._message()
        if message:
            self.transport.write(message[: max_reply_size(len(datagram), addr[0])], addr)


def message_factory(message: Message) -> IProtocolFactory:
    """Return a factory that sends the message on each connection."""
    return Factory.forProtocol(partial(MessageStream, message))
