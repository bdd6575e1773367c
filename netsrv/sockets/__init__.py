"""Where sockets come from: created, configured, bound and listening, or inherited."""

from netsrv.sockets.addresses import parse_internet
from netsrv.sockets.opening import OpenSocket, open_datagram, open_stream, open_unix
from netsrv.sockets.options import SocketOption, parse_option
from netsrv.sockets.steps import (
    AddressUnavailable,
    OptionInEffect,
    OptionRefused,
    SocketError,
    bind,
    create,
    listen,
    set_options,
)

__all__ = [
    "AddressUnavailable",
    "OpenSocket",
    "OptionInEffect",
    "OptionRefused",
    "SocketError",
    "SocketOption",
    "bind",
    "create",
    "listen",
    "open_datagram",
    "open_stream",
    "open_unix",
    "parse_internet",
    "parse_option",
    "set_options",
]
