"""The socket of a connection, and its addresses."""

import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address

SO_PEERNAME = 28
"""Socket option of Linux: the peer's address, also after a reset; Python has no name for it."""

MAX_DISCARDED = 65536
"""Bytes that are read, at most, from a connection that is closed before it is served."""


forks = 0
"""The number of times that this process has forked; posix_spawn(3) and subprocesses do not count,
whose programs inherit no connection."""


def _count_fork() -> None:
    global forks  # noqa: PLW0603
    forks += 1


os.register_at_fork(after_in_parent=_count_fork)


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


@contextmanager
def borrowed_socket(descriptor: int) -> Iterator[Any]:
    """Yield a socket object for a descriptor of another owner, which closes it."""
    sock = socket.SocketType(socket.AF_INET, socket.SOCK_STREAM, 0, descriptor)
    try:
        yield sock
    finally:
        sock.detach()


def shut_down(sock: Any) -> None:
    """End both sides of a connection, also if a forked process has the descriptor too.

    Closing alone tells the peer nothing then.
    """
    with suppress(OSError):  # the peer has ended it already
        sock.shutdown(socket.SHUT_RDWR)


def discard_unread(sock: Any) -> None:
    """Read and drop what the peer has sent, up to `MAX_DISCARDED`; *sock* must not block.

    Closing with unread input would send RST, not FIN.
    """
    left = MAX_DISCARDED
    with suppress(OSError):
        while left > 0:
            data = sock.recv(left)
            if not data:
                break
            left -= len(data)


def peer_of_reset(sock: Any) -> Any:
    """Return the address of a peer that has reset a TCP connection; None if it is not known.

    ``getpeername`` fails then, although ``accept`` would still return the address.
    """
    if sys.platform != "linux":
        return None
    with suppress(OSError):
        if sock.family == socket.AF_INET:
            raw = sock.getsockopt(socket.SOL_SOCKET, SO_PEERNAME, 16)
            port, host = struct.unpack_from("!H4s", raw, 2)
            return socket.inet_ntop(socket.AF_INET, host), port
        raw = sock.getsockopt(socket.SOL_SOCKET, SO_PEERNAME, 28)
        port, flow, host = struct.unpack_from("!HI16s", raw, 2)
        return (
            socket.inet_ntop(socket.AF_INET6, host),
            port,
            flow,
            *struct.unpack_from("=I", raw, 24),
        )
    return None


def next_session(port: Any) -> int:
    """Return the number of the next connection of *port*, a listening port of Twisted."""
    number: int = port.sessionno
    port.sessionno = number + 1
    return number


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
