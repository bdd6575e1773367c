"""What daytime, qotd and time share: one message to whoever asks, and nothing more."""

from collections.abc import Callable
from functools import partial

from twisted.internet.interfaces import IProtocolFactory, ITransport, IUDPTransport
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol

from netsrv.guards.amplification import max_reply_size

Message = Callable[[], bytes]
"""Makes the message of the moment; empty where there is nothing to say."""


class MessageStream(Protocol):
    """Sends the message and closes."""

    transport: ITransport

    def __init__(self, message: Message) -> None:
        self._message = message

    def connectionMade(self) -> None:
        self.transport.write(self._message())
        self.transport.loseConnection()


class MessageDatagrams(DatagramProtocol):
    """Answers each datagram with the message, cut to what the request pays for."""

    transport: IUDPTransport

    def __init__(self, message: Message) -> None:
        self._message = message

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        message = self._message()
        if message:
            self.transport.write(message[: max_reply_size(len(datagram), addr[0])], addr)


def message_factory(message: Message) -> IProtocolFactory:
    """Make a factory that sends the message on each connection."""
    return Factory.forProtocol(partial(MessageStream, message))
