"""The socket of a connection, and its addresses."""

import os
import socket
import struct
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address


class SocketHandle(socket.socket):
    """The socket of a connection; it does not close the descriptor when it is collected."""

    connection: Any = None

    def dup(self) -> Any:
        """Return a duplicate, which is an ordinary socket."""
        descriptor = os.dup(self.fileno())
        duplicate = socket.socket(self.family, self.type, self.proto, descriptor)
        duplicate.setblocking(False)
        return duplicate

    def close(self) -> None:
        """Close the connection without a call of its protocol, as Twisted's transports do."""
        if self.fileno() != -1:
            self.detach()
            self.connection.forget()

    def __del__(self) -> None:
        self.detach()


def reset_on_close(sock: Any) -> None:
    """Make the kernel send RST, not FIN, when the socket is closed (SO_LINGER, socket(7))."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def to_address(sockaddr: Any) -> IPv4Address | IPv6Address:
    """Return Twisted's address for one of the kernel."""
    if len(sockaddr) == 2:
        address = IPv4Address.__new__(IPv4Address)  # skips a check that the kernel's addresses pass
        address.type = "TCP"
        address.host, address.port = sockaddr
        return address
    host, port, flow, scope = sockaddr
    if scope:
        host = socket.getnameinfo(sockaddr, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]
    return IPv6Address("TCP", host, port, flow, scope)
