"""The four steps of a server's socket: create, set options, bind, listen::

    sock = create(AF_INET, SOCK_STREAM)                  # a socket: one end of a conversation
    set_options(sock, [parse_option("SO_REUSEADDR=1")])  # how it behaves
    bind(sock, ("", 51423))                              # the address where clients find it
    listen(sock, 1024)                                   # clients connect and wait for accept

A socket for datagrams (UDP) needs only the first three, since clients do not connect to it.
`netsrv.sockets.opening` takes all the steps in one call.  This module does not know what is
served on a socket.
"""

import socket
import struct
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from netsrv.sockets.options import SocketOption, Value


class SocketError(Exception):
    """A socket cannot be opened; the text is one line for the user."""


class AddressUnavailable(SocketError):
    """The address cannot be bound: in use, absent, forbidden or not resolved."""

    def __init__(
        self, text: str, in_use: bool = False, unknown_host: str = "", at_start: bool = False
    ) -> None:
        super().__init__(text)
        self.in_use = in_use
        """True if another socket has the address."""
        self.at_start = at_start
        """True if only a start by the service manager has the socket."""
        self.unknown_host = unknown_host
        """The host that cannot be resolved, if that is the reason."""


class OptionRefused(SocketError):
    """The kernel rejects an option's value, or does not know the option."""


@frozen
class OptionInEffect:
    """An option's requested value, and the value that the kernel set."""

    name: str
    asked: Value
    in_effect: Value | None
    """None if it cannot be read back."""


# The four steps


def create(family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
    """Step 1: ask the kernel for a socket; *kind* is SOCK_STREAM or SOCK_DGRAM.

    The socket is non-blocking, because a reactor waits for it, and close-on-exec.
    """
    sock = socket.socket(family, kind)
    sock.setblocking(False)
    return sock


def set_options(sock: socket.socket, options: Iterable[SocketOption]) -> list[OptionInEffect]:
    """Step 2: set the options that belong to such a socket, and read each one back.

    Accepted connections inherit them from the listening socket.  An option that belongs to
    another kind of socket is skipped.  Raises `OptionRefused`.
    """
    applied = []
    for option in options:
        if option.belongs_to(sock):
            try:
                option.set(sock)
            except OSError as error:
                raise OptionRefused(f"{option.name}: {error_text(error)}") from error
            applied.append(option)
    return [
        OptionInEffect(option.name, option.value, _read_back(sock, option)) for option in applied
    ]


def set_late_options(
    sock: socket.socket, options: Sequence[SocketOption], label: str
) -> list[OptionInEffect]:
    """Set options as `set_options` does on a socket that another program has bound.

    An option that can be set before ``bind`` only is right if it has its value already.
    """
    for option in options:
        if option.belongs_to(sock):
            try:
                option.set(sock)
            except OSError as error:
                if _read_back(sock, option) != option.value:
                    text = f"{option.name}: {error_text(error)}: the socket is bound already"
                    raise OptionRefused(f"{label}: {text}") from error
    return [
        OptionInEffect(option.name, option.value, _read_back(sock, option))
        for option in options
        if option.belongs_to(sock)
    ]


def bind(sock: socket.socket, sockaddr: Any) -> None:
    """Step 3: give the socket the address at which clients find it.

    ``(host, port)`` for IPv4, ``(host, port, flow, scope)`` for IPv6, a path for a unix
    socket.  Raises OSError as bind(2) does.
    """
    sock.bind(sockaddr)


def listen(sock: socket.socket, backlog: int) -> OptionInEffect:
    """Step 4: let up to *backlog* clients connect and wait until they are accepted.

    The kernel silently caps the number (listen(2)), so the value in effect is returned.
    """
    sock.listen(backlog)
    return OptionInEffect("backlog", backlog, _backlog_in_effect(sock, backlog))


def error_text(error: OSError) -> str:
    """Return the errno's text, or the message of an error that Python raised itself."""
    return error.strerror or str(error)


def _read_back(sock: socket.socket, option: SocketOption) -> Value | None:
    try:
        return option.get(sock)
    except OSError:
        return None


def _backlog_in_effect(sock: socket.socket, backlog: int) -> int | None:
    """Read TCP_INFO of the listening socket (tcpi_sacked), or apply the rule of listen(2)."""
    if sys.platform != "linux":
        return None
    if sock.family != socket.AF_UNIX:
        tcp_info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
        return int(struct.unpack_from("I", tcp_info, 28)[0])
    try:
        return min(backlog, int(Path("/proc/sys/net/core/somaxconn").read_text()))
    except (OSError, ValueError):
        return None
