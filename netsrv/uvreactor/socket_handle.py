"""The socket of a connection, and its addresses."""

import os
import socket
import struct
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address


class SocketHandle(socket.socket):
    """The socket of a connection, which does not close it when it is forgotten."""

    connection: Any = None

    def dup(self) -> Any:
        """Give a duplicate, which is an ordinary socket."""
        descriptor = os.dup(self.fileno())
        duplicate = socket.socket(self.family, self.type, self.proto, descriptor)
        duplicate.setblocking(False)
        return duplicate

    def close(self) -> None:
        """Close the connection, of which its protocol is not told, as with Twisted's own."""
        if self.fileno() != -1:
            self.detach()
            self.connection.forget()

    def __del__(self) -> None:
        self.detach()


def reset_on_close(sock: Any) -> None:
    """Have the kernel send RST, not FIN, when the socket is closed."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def to_address(sockaddr: Any) -> IPv4Address | IPv6Address:
    """Make Twisted's address of the kernel's."""
    if len(sockaddr) == 2:
        address = IPv4Address.__new__(IPv4Address)  # what the kernel says need not be checked
        address.type = "TCP"
        address.host, address.port = sockaddr
        return address
    host, port, flow, scope = sockaddr
    if scope:
        host = socket.getnameinfo(sockaddr, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]
    return IPv6Address("TCP", host, port, flow, scope)
