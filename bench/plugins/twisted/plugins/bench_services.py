"""A service for the measurements, found like any third-party plugin."""

from typing import Any

from twisted.internet.protocol import DatagramProtocol
from zope.interface import implementer

from netsrv.interfaces import IDatagramService


class Plain(DatagramProtocol):
    """Sends each datagram back, without batches."""

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.transport.write(datagram, addr)


@implementer(IDatagramService)
class PlainEcho:
    """An ordinary ``DatagramProtocol`` behind the gate."""

    name = "bench-plain"
    description = "send datagrams back through an ordinary DatagramProtocol (a measurement)"
    settings = None

    def datagram(self, settings: Any) -> DatagramProtocol:
        return Plain()


plain = PlainEcho()
