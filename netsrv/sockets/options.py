"""Socket options by name: parsed, set, and read back.

The prefix of a name gives its level (socket(7), tcp(7), udp(7), ip(7), ipv6(7)).
The numbers come from Python's `socket` module; `_LINUX` adds those of Linux that
the module does not name.
"""

import re
import socket
import struct
import sys

from attrs import frozen

from netsrv.settings import MAX_QUOTED_LENGTH, nearest, quote_value, shorten

Value = int | str | tuple[int, int]
"""An integer; the text of SO_BINDTODEVICE and TCP_CONGESTION; SO_LINGER's pair."""

_LEVELS = {
    "SO_": socket.SOL_SOCKET,
    "TCP_": socket.IPPROTO_TCP,
    "UDP_": socket.IPPROTO_UDP,
    "IP_": socket.IPPROTO_IP,
    "IPV6_": socket.IPPROTO_IPV6,
}
_LINUX = {
    "SO_SNDBUFFORCE": 32,
    "SO_RCVBUFFORCE": 33,
    "SO_BUSY_POLL": 46,
    "SO_MAX_PACING_RATE": 47,
    "IP_MTU_DISCOVER": 10,
    "IP_FREEBIND": 15,
    "IP_BIND_ADDRESS_NO_PORT": 24,
    "IP_LOCAL_PORT_RANGE": 51,
    "IPV6_MTU_DISCOVER": 23,
}
_OTHER_PLATFORMS = {
    "IP_BINDANY",
    "IP_DONTFRAG",
    "SO_ACCEPTFILTER",
    "SO_EXCLUSIVEADDRUSE",
    "SO_NOSIGPIPE",
    "SO_REUSEPORT_LB",
    "SO_SETFIB",
    "SO_USELOOPBACK",
    "SO_USER_COOKIE",
    "TCP_KEEPALIVE",
    "TCP_NOOPT",
    "TCP_NOPUSH",
}
"""Names from the manuals of other systems."""

_ERRORS = "the kernel would queue errors that no service reads, and wake the reactor for ever"
_PKTINFO = "netsrv sets it where it answers from the address that was asked"
_REFUSED = {
    "UDP_GRO": "several datagrams would arrive as one",
    "UDP_SEGMENT": "a datagram would leave as several",
    "UDP_CORK": "several datagrams would leave as one",
    "UDP_ENCAP": "datagrams would be taken for IPsec",
    "IP_RECVERR": _ERRORS,
    "IP_RECVERR_RFC4884": _ERRORS,
    "IPV6_RECVERR": _ERRORS,
    "IPV6_RECVERR_RFC4884": _ERRORS,
    "SO_TIMESTAMPING": _ERRORS,
    "SO_TXTIME": _ERRORS,
    "SO_WIFI_STATUS": _ERRORS,
    "IP_PKTINFO": _PKTINFO,
    "IPV6_RECVPKTINFO": _PKTINFO,
    "TCP_REPAIR": "calls would change the socket's state instead of sending and receiving",
}
"""Options that change the meaning of a call that netsrv makes, and how."""

_NOT_OPTIONS = re.compile(
    r"SO_(VM_SOCKETS|J1939|CAN|EE|ORIGINAL_DST)|IP_(DEFAULT|MAX|PMTUDISC)_|IPV6_(RTHDR_TYPE|PMTUDISC)_"
)
"""Values, and options of another level than the prefix of their names says."""

_NAME = re.compile(r"(SO|TCP|UDP|IP|IPV6)_[A-Z0-9_]+")
_TEXT = {"SO_BINDTODEVICE", "TCP_CONGESTION"}
_INT = range(-(2**31), 2**32)


@frozen
class SocketOption:
    """A named option and its requested value."""

    name: str
    level: int
    number: int
    value: Value

    def belongs_to(self, sock: socket.socket) -> bool:
        """Return True if this kind of socket has the option.

        The IPv4 options belong to IPv6 sockets too, where they concern IPv4 peers.
        """
        internet = sock.family != getattr(socket, "AF_UNIX", None)
        return {
            "SO": True,
            "TCP": internet and sock.type == socket.SOCK_STREAM,
            "UDP": internet and sock.type == socket.SOCK_DGRAM,
            "IP": internet,
            "IPV6": sock.family == socket.AF_INET6,
        }[self.name.partition("_")[0]]

    def set(self, sock: socket.socket) -> None:
        """Set the option.  Raises OSError as setsockopt(2) does."""
        if isinstance(self.value, str):
            sock.setsockopt(self.level, self.number, self.value.encode() + b"\0")
        elif isinstance(self.value, tuple):
            sock.setsockopt(self.level, self.number, struct.pack("ii", *self.value))
        else:
            value = struct.pack(self._integer_format(), self.value)
            sock.setsockopt(self.level, self.number, value)

    def get(self, sock: socket.socket) -> Value:
        """Read the value in effect.  Raises OSError as getsockopt(2) does."""
        if isinstance(self.value, str):
            text = sock.getsockopt(self.level, self.number, 64)
            return text.split(b"\0", 1)[0].decode(errors="replace")
        if isinstance(self.value, tuple):
            return struct.unpack("ii", sock.getsockopt(self.level, self.number, 8))
        (number,) = struct.unpack(
            self._integer_format(), sock.getsockopt(self.level, self.number, 4)
        )
        return int(number)

    def _integer_format(self) -> str:
        """Return the struct format: a C int, or an unsigned one if the value needs it."""
        return "I" if isinstance(self.value, int) and self.value >= 2**31 else "i"


def show_value(value: Value) -> str:
    """Return a value in the form in which users write it: ``1``, ``1:0``, ``eth0``."""
    return "{}:{}".format(*value) if isinstance(value, tuple) else str(value)


def parse_option(text: str) -> SocketOption:
    """Parse ``NAME=VALUE``.  Raises ValueError with what would be right."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(
            f"{quote_value(text)} has no value; write NAME=VALUE, as in SO_RCVBUF=1048576"
        )
    return named_option(name, value)


def named_option(name: str, value: int | str) -> SocketOption:
    """Return the option *name* with a value given as a number or as text.

    Raises ValueError with what would be right.
    """
    number = _number(name)
    level = _LEVELS[name.partition("_")[0] + "_"]
    return SocketOption(name, level, number, _parse_value(name, str(value)))


def _number(name: str) -> int:
    if not _NAME.fullmatch(name) or _NOT_OPTIONS.match(name):
        text = f"{quote_value(name)} is not the name of a socket option, as SO_RCVBUF is"
        raise ValueError(f"{text}{_near_option(name)}")
    if name in _REFUSED:
        raise ValueError(f"{name} is not supported: {_REFUSED[name]}")
    number = getattr(socket, name, None)
    if number is None and sys.platform == "linux":
        number = _LINUX.get(name)
    if number is not None:
        return int(number)
    if name in _OTHER_PLATFORMS or name in _LINUX:
        raise ValueError(f"{name} is not an option of this platform ({sys.platform})")
    raise ValueError(
        f"{shorten(name, MAX_QUOTED_LENGTH)} is not a socket option that {sys.platform} or Python "
        f"knows{_near_option(name)}"
    )


def _near_option(name: str) -> str:
    """Return the end of a message that suggests an option; the prefix does not count."""
    names = (*dir(socket), *(_LINUX if sys.platform == "linux" else ()))
    known = {
        option.partition("_")[2]: option
        for option in names
        if _NAME.fullmatch(option) and not _NOT_OPTIONS.match(option) and option not in _REFUSED
    }
    prefix, _, rest = name.upper().partition("_")
    near = nearest(rest if f"{prefix}_" in _LEVELS else name, known)
    return f"; did you mean {known[near]}?" if near else ""


def _parse_value(name: str, value: str) -> Value:
    if name in _TEXT:
        if not value or len(value) > 15 or not value.isascii() or "\0" in value:
            raise ValueError(
                f"{name}={quote_value(value)}: the value is a name of 1 to 15 ASCII characters"
            )
        return value
    if name == "SO_LINGER":
        if value not in ("0:0", "1:0"):
            raise ValueError(
                f"SO_LINGER={shorten(value, MAX_QUOTED_LENGTH)}: takes 0:0 (off) or 1:0 (reset at "
                "close); any other would block the whole server at each close"
            )
        return (int(value[0]), 0)
    try:
        number = int(value, 0)
    except ValueError:
        raise ValueError(
            f"{name}={shorten(value, MAX_QUOTED_LENGTH)}: the value is a whole number"
        ) from None
    if number not in _INT:
        raise ValueError(
            f"{name}={shorten(value, MAX_QUOTED_LENGTH)}: the value does not fit in 32 bits"
        )
    return number
