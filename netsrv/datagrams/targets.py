"""The addresses of datagrams that are no replies, in the forms in which services write them.

An address is ``(host, port)``, or ``(host, port, flow, scope)`` as in the `socket` module.  A
link-local host needs a scope, its interface (RFC 4007): ``fe80::1%eth0``, ``fe80::1%2``, or
the fourth item.
"""

import errno
import os
import socket
from typing import Any

from twisted.internet.error import InvalidAddressError

from netsrv.batches import Peer

_BROADCAST = "<broadcast>"
_MAX_FLOW_LABEL = 0xFFFFF
_MAX_SCOPE = 0xFFFFFFFF


def check_numeric(host: str) -> None:
    """Raise InvalidAddressError for a name: to look it up would block the reactor."""
    try:
        socket.getaddrinfo(host.partition("%")[0], 0, flags=socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        if host != _BROADCAST:
            raise InvalidAddressError(host, "write() only accepts IP addresses") from None


def resolve(family: int, addr: Any) -> tuple[Peer, Any]:
    """Return the host and port of *addr*, and the address as sendto(2) takes it.

    Raises InvalidAddressError, TypeError or OverflowError for what is no such address, and
    OSError (ENODEV) if its scope is not an interface of this machine.
    """
    if addr is None:
        raise InvalidAddressError(None, "an unconnected port needs an address")
    if not isinstance(addr, tuple):
        raise TypeError(f"{addr!r}: an address is a tuple of a numeric address and a port")
    host, port, *more = addr
    check_numeric(host)
    host = "255.255.255.255" if host == _BROADCAST else host
    if not isinstance(port, int):
        raise TypeError(f"{port!r}: a port is a number")
    if not 0 <= port <= 65535:
        raise OverflowError(f"{port}: a port is a number from 0 to 65535")
    sockaddr = _lookup(family, host, port)
    if more and family == socket.AF_INET6:
        sockaddr = _with_scope(sockaddr, *more)
        if "%" not in host and sockaddr[3]:
            host = f"{host}%{sockaddr[3]}"
    return (host, port), sockaddr


def _lookup(family: int, host: str, port: int) -> Any:
    try:
        found = socket.getaddrinfo(host, port, family, socket.SOCK_DGRAM, 0, socket.AI_NUMERICHOST)
    except socket.gaierror as error:
        if "%" in host and family == socket.AF_INET6:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from error
        raise InvalidAddressError(host, f"not for this port: {error.strerror}") from error
    return found[0][4]


def _with_scope(sockaddr: Any, flow: int, scope: int = 0) -> Any:
    if not isinstance(flow, int) or not isinstance(scope, int):
        raise TypeError(f"{(flow, scope)!r}: a flow and a scope are numbers")
    if not (0 <= flow <= _MAX_FLOW_LABEL and 0 <= scope <= _MAX_SCOPE):
        raise OverflowError(f"{(flow, scope)!r}: a flow has 20 bits, a scope 32")
    return (*sockaddr[:2], flow, scope or sockaddr[3])
