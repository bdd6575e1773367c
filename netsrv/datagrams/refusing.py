"""A UDP socket that refuses datagrams for a while, and keeps its address.

A socket that is connected gets the datagrams of its peer only, and the kernel answers all others
with "port unreachable", as if there were no server.
"""

import errno
import os
import socket
import struct
from typing import Any

from netsrv.datagrams.libc import ctypes, library

NO_PEER = {socket.AF_INET: ("127.0.0.1", 9), socket.AF_INET6: ("::1", 9)}
"""The port of discard, which sends nothing."""

_UNSPECIFIED = struct.pack("=H14x", socket.AF_UNSPEC)


def refuse_datagrams(sock: Any) -> Any:
    """Let a socket refuse datagrams; return its name, or None if that cannot be ended again."""
    if library() is None:
        return None
    name = sock.getsockname()
    sock.connect(NO_PEER[sock.family])
    return name


def accept_datagrams(sock: Any, name: Any) -> None:
    """Let a socket receive from all peers again, at the address *name*.  Raises OSError."""
    if not isinstance(sock, socket.socket):
        sock.connect(None)  # a socket in memory
        return
    if library().connect(sock.fileno(), _UNSPECIFIED, len(_UNSPECIFIED)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    try:
        sock.bind(name)  # a port that the kernel has chosen is lost with the connection
    except OSError as error:
        if error.errno != errno.EINVAL:  # it is bound
            raise
