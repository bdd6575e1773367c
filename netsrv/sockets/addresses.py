"""Addresses as users write them, and as the log shows them.

An address that a user writes is parsed into a frozen value; an address of the kernel or of
Twisted becomes text.  Nothing here opens a socket or resolves a name.
"""

import os
import re
import socket
import struct
from contextlib import suppress
from ipaddress import IPv6Address
from typing import Any

from attrs import field, frozen
from twisted.internet.interfaces import IAddress, ITransport

from netsrv.settings import quote_value, shorten

SAME = "same"
"""Stands for a port: the port of the first TCP listener."""

SERVICE_NAME = r"[A-Za-z][A-Za-z0-9_.-]*"
"""The pattern of a service's name, a regular expression."""

MAX_HOST_LENGTH = 253
"""Characters of a host name (RFC 1035, 2.3.4)."""

MAX_PATH_LENGTH = 4095
"""Bytes of a path (PATH_MAX, which counts the NUL character too)."""

MAX_SUN_PATH = 107
"""Bytes of the path of a unix socket that the kernel takes (unix(7))."""

ADDRESS_FORMS = "PORT, HOST:PORT or [IPV6]:PORT"

SYSTEMD = "systemd:"
"""Stands before the name of a socket that the service manager passes."""

MAX_SOCKET_NAME = 255
"""Characters of such a name (systemd.socket(5), FileDescriptorName=)."""

ENDPOINTS = ("tcp", "tcp4", "tcp6", "ssl", "tls", "udp", "unix")
"""Words before the first colon of Twisted's endpoints, and of URLs."""

_SERVICE = re.compile(rf"({SERVICE_NAME})=(.*)", re.DOTALL)
_MAPPED = "::ffff:"


@frozen
class InternetAddress:
    """An IPv4 or IPv6 address, or a name, and a port to listen on."""

    host: str
    """An address or a name; empty for all IPv4 interfaces, as in ``bind(('', port))``."""
    port: int | str
    """0..65535, where 0 lets the kernel choose; or `SAME`."""

    def __str__(self) -> str:
        host = self.host or "0.0.0.0"
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


@frozen
class UnixPath:
    """The path of a unix socket."""

    path: str

    def __str__(self) -> str:
        return self.path


@frozen
class InheritedName:
    """The name of a socket that the service manager passes, or its position, from 0 on.

    Without a name it is the socket on descriptor 0, which inetd passes.
    """

    name: str
    occurrence: int | None = field(default=None, eq=False)
    """The index among the sockets of one name; None for the first one, or the only one."""

    def __str__(self) -> str:
        if not self.name:
            return "descriptor 0"
        number = f" (socket {self.occurrence + 1})" if self.occurrence else ""
        return f"{SYSTEMD}{self.name}{number}"


Address = InternetAddress | UnixPath | InheritedName


def printable(text: str) -> str:
    """Escape control characters and the like, so that text stays one line of printable text."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def split_service(text: str, default: str) -> tuple[str, str]:
    """Split ``[SERVICE=]ADDRESS`` into service name and address; *default* is the missing name."""
    match = _SERVICE.fullmatch(text)
    return (match[1], match[2]) if match else (default, text)


def parse_port_address(text: str) -> InternetAddress | InheritedName:
    """Parse ``systemd:NAME``, or an address as `parse_internet` does."""
    return parse_systemd(text) if text.startswith(SYSTEMD) else parse_internet(text)


def parse_systemd(text: str) -> InheritedName:
    """Parse ``systemd:NAME``.  Raises ValueError with what would be right."""
    name = text.removeprefix(SYSTEMD)
    if not name:
        raise ValueError(f"{quote_value(text)}: the name of a socket follows, as in systemd:web")
    if ":" in name or not (name.isascii() and name.isprintable()):
        raise ValueError(
            f"{quote_value(text)}: the name of a socket has printable ASCII characters, and no ':'"
        )
    if len(name) > MAX_SOCKET_NAME:
        raise ValueError(
            f"{quote_value(text)}: the name of a socket has at most {MAX_SOCKET_NAME} characters"
        )
    return InheritedName(name)


def parse_internet(text: str) -> InternetAddress:
    """Parse ``PORT``, ``HOST:PORT`` or ``[IPV6]:PORT``.

    Raises ValueError with what would be right.
    """
    host, colon, port = text.rpartition(":")
    word = text.partition(":")[0]
    if ":" in host and word in ENDPOINTS:
        raise ValueError(f"{quote_value(text)}: write {ADDRESS_FORMS}, without {word}:")
    if colon and not host:
        raise ValueError(
            f"{quote_value(text)} has no host before ':'; write {shorten(port, 5)} for all IPv4 "
            "interfaces"
        )
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ":" not in host:
            raise ValueError(f"{quote_value(text)}: only an IPv6 address is written in brackets")
    elif ":" in host:
        raise ValueError(
            f"{quote_value(text)}: an IPv6 address is written in brackets, as in [::1]:7"
        )
    if "\0" in host:
        raise ValueError(f"{quote_value(text)}: a host cannot contain a NUL character")
    if len(host) > MAX_HOST_LENGTH:
        raise ValueError(f"{quote_value(text)}: a host has at most {MAX_HOST_LENGTH} characters")
    return InternetAddress(host, _parse_port(text, port))


def _parse_port(text: str, port: str) -> int | str:
    if port == SAME:
        return SAME
    if not (port.isascii() and port.isdigit()):
        raise ValueError(f"{quote_value(text)} has no port number; write {ADDRESS_FORMS}")
    if len(port) > 5 or int(port) > 65535:
        raise ValueError(f"{quote_value(text)}: a port is a number from 0 to 65535")
    return int(port)


def parse_unix(text: str) -> UnixPath | InheritedName:
    """Parse the path of a unix socket, or ``systemd:NAME``.

    Raises ValueError with what would be right.
    """
    if text.startswith(SYSTEMD):
        return parse_systemd(text)
    if not text:
        raise ValueError(
            f"{quote_value(text)}: a unix socket needs a path, as in /run/netsrv/echo.sock"
        )
    if "\0" in text:
        raise ValueError(f"{quote_value(text)}: a path cannot contain a NUL character")
    if len(os.fsencode(text)) > MAX_PATH_LENGTH:
        raise ValueError(f"{quote_value(text)}: a path has at most {MAX_PATH_LENGTH} bytes")
    return UnixPath(text)


def show_sockaddr(sockaddr: Any) -> str:
    """Return the text of a socket address: ``127.0.0.1:7``, ``[::1]:7``, a path.

    An IPv4 address inside IPv6 (RFC 4291, 2.5.5.2) is shown as IPv4; a link-local address has
    its zone (RFC 4007, 11): ``[fe80::1%eth0]:7``.
    """
    if not isinstance(sockaddr, tuple):
        path = sockaddr.decode(errors="replace") if isinstance(sockaddr, bytes) else sockaddr
        return printable(str(path))
    host, port = sockaddr[0], sockaddr[1]
    if ":" not in host:
        return f"{host}:{port}"
    if host.startswith(_MAPPED) and "." in host:
        return f"{host[len(_MAPPED) :]}:{port}"
    if len(sockaddr) == 4 and sockaddr[3] and "%" not in host:
        host = f"{host}%{sockaddr[3]}"
    return f"[{show_zone(host) if '%' in host else host}]:{port}"


def show_zone(host: str) -> str:
    """Return an IPv6 host with the name of the interface that is its zone, if there is one."""
    host, _, zone = host.partition("%")
    if zone.isdecimal():
        with suppress(OSError, OverflowError):
            zone = socket.if_indextoname(int(zone))
    return f"{host}%{printable(zone)}"


def is_link_local(host: str) -> bool:
    """Return True for an IPv6 address that means nothing without its zone (RFC 4291, 2.5.6)."""
    try:
        address = IPv6Address(host)
    except ValueError:
        return False
    return address.is_link_local


def show_address(address: IAddress) -> str:
    """Return the text of one of Twisted's address objects."""
    host = getattr(address, "host", None)
    if host is not None:
        scope = getattr(address, "scopeID", 0) if ":" in host else 0
        return show_sockaddr((host, address.port, 0, scope))  # type: ignore[attr-defined]
    return show_sockaddr(getattr(address, "name", None) or "")


def show_peer(transport: ITransport) -> str:
    """Return the peer's address of a connection; for a unix socket see `show_credentials`."""
    peer = transport.getPeer()
    if hasattr(peer, "host"):
        return show_address(peer)
    return show_credentials(getattr(transport, "getHandle", lambda: None)())


def show_credentials(sock: Any) -> str:
    """Return the process and user of a peer on a unix socket: ``unix pid 42 uid 1000``.

    They come from SO_PEERCRED (unix(7)); a platform without it gives ``unix``.
    """
    try:
        size = struct.calcsize("3i")
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    except (AttributeError, OSError):
        return "unix"
    pid, uid, _gid = struct.unpack("3i", credentials)
    return f"unix pid {pid} uid {uid}"
