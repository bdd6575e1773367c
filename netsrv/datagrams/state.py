"""The state of a UDP socket that a service changes, and that the next service must not inherit.

At a reload a listener keeps its socket, which may be on a privileged port and has datagrams in
its buffer.  So the changes of the last service are undone on the same socket: it is disconnected,
leaves its multicast groups, and gets back its options.  A new socket would be free of all of
this, but cannot always be bound, and loses what waits in the old one.
"""

import errno
import re
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from netsrv.datagrams.libc import ctypes, library

_LEVELS = {
    "SO_": socket.SOL_SOCKET,
    "IP_": socket.IPPROTO_IP,
    "IPV6_": socket.IPPROTO_IPV6,
    "UDP_": socket.IPPROTO_UDP,
}
_MORE_NAMES = {
    **{"SO_MARK": 36, "SO_RXQ_OVFL": 40, "SO_BUSY_POLL": 46, "SO_MAX_PACING_RATE": 47},
    **{"SO_TIMESTAMP": 29, "SO_TIMESTAMPNS": 35, "SO_TIMESTAMPING": 37, "SO_NO_CHECK": 11},
    **{"IP_PKTINFO": 8, "IP_MTU_DISCOVER": 10, "IP_RECVERR": 11, "IP_RECVTTL": 12},
    **{"IP_FREEBIND": 15, "IP_MINTTL": 21, "IP_MULTICAST_ALL": 49, "IP_UNICAST_IF": 50},
    **{"IPV6_MTU_DISCOVER": 23, "IPV6_MTU": 24, "IPV6_RECVERR": 25, "IPV6_MULTICAST_ALL": 29},
    **{"IPV6_FLOWINFO_SEND": 33, "IPV6_AUTOFLOWLABEL": 70, "IPV6_MINHOPCOUNT": 73},
    **{"IPV6_UNICAST_IF": 76, "UDP_CORK": 1, "UDP_NO_CHECK6_TX": 101, "UDP_NO_CHECK6_RX": 102},
    **{"UDP_SEGMENT": 103, "UDP_GRO": 104},
}
"""Options of Linux that Python's `socket` has no name for, or not in all versions."""

_NOT_STATE = re.compile(
    r"SO_ERROR$|SO_INCOMING_|SO_VM_|SO_J1939|IP_DEFAULT_|IP_MAX_|IPV6_RTHDR_TYPE"
)
"""Names of no option, or of one that reading changes or that traffic changes."""

_BUFFERS = (socket.SO_RCVBUF, socket.SO_SNDBUF)
"""Linux returns twice the value that was set (socket(7))."""

_MAX_OPTION_SIZE = 64

_IP_MREQN = struct.Struct("=4s4si")
_IPV6_MREQ = struct.Struct("=16si")
_AF_UNSPEC_ADDRESS = bytes(16)


class SocketState:
    """What is restored of *sock*: its state at this moment, before a service changes it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sockaddr = sock.getsockname()
        self._options = {option: _get(sock, *option) for option in _options(sock)}

    def restore(self) -> None:
        """Undo what was changed since.  Raises OSError if that is not possible here."""
        if sys.platform != "linux":
            raise OSError(errno.ENOTSUP, "the socket's state cannot be restored on this system")
        self._sock.setblocking(False)
        self._disconnect()
        _leave_groups(self._sock)
        for (level, number), value in self._options.items():
            # The kernel does not return the interface that IP_MULTICAST_IF may have set.
            always = (level, number) == (socket.IPPROTO_IP, socket.IP_MULTICAST_IF)
            if value is not None and (always or _get(self._sock, level, number) != value):
                with suppress(OSError):  # cannot be set, so it was not set
                    self._sock.setsockopt(level, number, value)

    def _disconnect(self) -> None:
        """Dissolve an association with a peer (connect(2)), and keep the bound address.

        The kernel releases a port that it has chosen itself.
        """
        try:
            self._sock.getpeername()
        except OSError:
            return
        libc = library()
        if libc is None:
            raise OSError(errno.ENOSYS, "the C library cannot be called")
        if libc.connect(self._sock.fileno(), _AF_UNSPEC_ADDRESS, len(_AF_UNSPEC_ADDRESS)):
            raise OSError(ctypes.get_errno(), "the socket cannot be disconnected")
        if self._sock.getsockname()[1] != self._sockaddr[1]:
            self._sock.bind(self._sockaddr)


def _options(sock: socket.socket) -> Iterator[tuple[int, int]]:
    """Yield level and number of each option that such a socket may have."""
    names = {name: getattr(socket, name) for name in dir(socket)}
    if sys.platform == "linux":
        names = {**_MORE_NAMES, **names}
    for name, number in names.items():
        level = _LEVELS.get(name.partition("_")[0] + "_")
        if level is None or _NOT_STATE.match(name):
            continue
        if level != socket.IPPROTO_IPV6 or sock.family == socket.AF_INET6:
            yield level, int(number)


def _get(sock: socket.socket, level: int, number: int) -> Any:
    """Return the value of an option as setsockopt(2) takes it; None if it cannot be read."""
    try:
        value = sock.getsockopt(level, number, _MAX_OPTION_SIZE)
    except OSError:
        return None
    if level == socket.SOL_SOCKET and number in _BUFFERS and sys.platform == "linux":
        return struct.pack("i", struct.unpack("i", value)[0] // 2)
    return value


def _leave_groups(sock: socket.socket) -> None:
    """Leave all groups that this host has joined; the kernel refuses those of other sockets.

    So the groups are found that were joined without the transport.
    """
    for interface, group in _groups("/proc/net/igmp"):
        mreqn = _IP_MREQN.pack(group, bytes(4), interface)
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, mreqn)
    if sock.family == socket.AF_INET6:
        for interface, group in _groups("/proc/net/igmp6"):
            with suppress(OSError):
                mreq = _IPV6_MREQ.pack(group, interface)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_LEAVE_GROUP, mreq)


def _groups(path: str) -> Iterator[tuple[int, bytes]]:
    """Yield interface and group of each membership of this host, as the kernel lists them."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        raise OSError(errno.ENOTSUP, f"{path} cannot be read") from None
    interface = 0
    for line in lines:
        words = line.split()
        if path.endswith("6"):  # 2 eth0 ff02000000000000000000000000000001 1 0000000C 0
            yield int(words[0]), bytes.fromhex(words[2])
        elif words[0].isdigit() and not line[0].isspace():  # 2 eth0 : 1 V3
            interface = int(words[0])
        elif line[0].isspace():  # 010000E0 1 0:00000000 0, in the machine's byte order
            yield interface, struct.pack("=I", int(words[0], 16))
