"""Values as TOML has them, and a listener made of them in a program.

The rules for limits are in `netsrv.config.model`; here are those for the rest of a listener.
A file (`netsrv.config.toml`) and a program (`listener`) have the same ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal, TypeAlias, TypedDict, Unpack

from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import DatagramProtocol, Factory

from netsrv.config.model import (
    LIMIT_READERS,
    ConfigurationError,
    ListenerSettings,
    Reader,
    check_service_object,
    read_backlog,
    shown,
)
from netsrv.guards.access import Network, parse_network
from netsrv.guards.limits import Limits
from netsrv.sockets.addresses import Address, parse_internet, parse_unix, split_service
from netsrv.sockets.options import SocketOption, named_option

_MODE = re.compile("(0o)?[0-7]{3,4}")


def read_table(value: Any) -> dict[str, Any]:
    """Read a table."""
    if not isinstance(value, dict):
        raise ValueError(f"{shown(value)}: a table, as in {{ key = value }}")
    return value


def read_text(value: Any) -> str:
    """Read a text."""
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)}: a text, in quotes")
    return value


def parse_bool(value: Any) -> bool:
    """Read a boolean."""
    if not isinstance(value, bool):
        raise ValueError(f"{shown(value)}: true or false, without quotes")
    return value


def read_integer(value: Any) -> int:
    """Read a whole number; true is none."""
    if type(value) is not int:
        raise ValueError(f"{shown(value)}: a whole number, without quotes")
    return value


def read_internet(value: Any) -> Address:
    """Read an address of TCP or UDP."""
    if type(value) not in (int, str):
        raise ValueError(f"{shown(value)}: an address, as in '127.0.0.1:7'")
    service, address = split_service(str(value), "")
    if service:
        raise ValueError(f"{shown(value)}: write service = {service!r} and the address alone")
    return parse_internet(address)


def read_unix(value: Any) -> Address:
    """Read the path of a unix socket."""
    return parse_unix(read_text(value))


def read_mode(value: Any) -> int:
    """Read the permissions of a file."""
    if isinstance(value, str) and _MODE.fullmatch(value):
        value = int(value, 8)
    if type(value) is not int or not 0 <= value <= 0o777:
        raise ValueError(f"{shown(value)}: permissions in octal, as in '0660' or 0o660")
    return value


def read_option(name: str, value: Any) -> SocketOption:
    """Read a socket option that stands under its name."""
    if type(value) not in (int, str):
        raise ValueError(f"{shown(value)}: a whole number, or a text where the option takes one")
    option = named_option(name, value)
    if isinstance(option.value, int):
        read_integer(value)
    else:
        read_text(value)
    return option


SOCKET_READERS: dict[str, Reader] = {
    "mode": read_mode,
    "backlog": read_backlog,
    "reuse_address": parse_bool,
    "reuse_port": parse_bool,
}
"""What concerns a listener's socket but for its options, by the names in `ListenerSettings`."""

ADDRESS_READERS: dict[str, Reader] = {
    "tcp": read_internet,
    "udp": read_internet,
    "unix": read_unix,
}
"""The transports, and what reads an address of each."""


# Listeners of a program


Transport = Literal["tcp", "udp", "unix"]

ServiceObject: TypeAlias = "IProtocolFactory | Factory | DatagramProtocol"
"""What a program may have served beside the services that are installed."""


class ListenerKeywords(TypedDict, total=False):
    """What `listener` takes by name: the keys of a file, with the values that they have there."""

    name: str
    settings: Any
    safe_replies: bool
    mode: int | str
    backlog: int
    reuse_address: bool
    reuse_port: bool
    socket_options: Mapping[str, int | str]
    max_connections: int | Literal["auto"]
    overload: Literal["pause", "close", "reset"]
    per_source: int
    connection_rate: float | str
    only_from: Sequence[str]
    no_access: Sequence[str]
    datagram_rate: float | str
    refuse_source_ports: int | str | list[int | str]
    idle_timeout: float
    lifetime: float
    write_timeout: float | Literal["none"]
    close_grace: float


def listener(
    transport: Transport,
    address: int | str,
    service: str | ServiceObject,
    **keywords: Unpack[ListenerKeywords],
) -> ListenerSettings:
    """Make the settings of one listener, with values as a configuration file has them.

    *transport* is ``tcp``, ``udp`` or ``unix``, *address* as in a file: ``7``,
    ``"127.0.0.1:0"``, ``"[::1]:7"``, or the path of a unix socket.  *service* is the name
    of a service, or what a program has itself: a factory, or a `DatagramProtocol` for
    ``udp``.  The log shows an own one by *name*, by default its class.  *settings* are an
    instance of the settings class of a named service; *safe_replies* holds an own
    `DatagramProtocol` to the rules for datagrams.  All other keywords are keys of a
    ``[[listener]]``, of its ``limits`` and of its ``access``.

    Raises `ConfigurationError` with a line for each mistake.
    """
    made = _Reading(f"listener({transport!r}, {address!r})", dict(keywords))
    if transport not in ADDRESS_READERS:
        made.mistakes.append(f"{made.place}: {shown(transport)}: one of 'tcp', 'udp', 'unix'")
        raise ConfigurationError(*made.mistakes)
    where = made.read("address", ADDRESS_READERS[transport], address)
    limits = Limits(**made.take(LIMIT_READERS), **made.take(_ACCESS_READERS))
    found = {**made.take(_OTHER_READERS), **made.take(SOCKET_READERS), "limits": limits}
    made.check_rest(transport, service, found)
    if made.mistakes:
        raise ConfigurationError(*made.mistakes)
    return ListenerSettings(transport, service, where, config_location=made.place, **found)


def _networks(value: Any) -> tuple[Network, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(f"{shown(value)}: a list of networks, as in ['10.0.0.0/8']")
    return tuple(parse_network(read_text(each)) for each in value)


def _options(value: Any) -> tuple[SocketOption, ...]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{shown(value)}: options by their names, as in {{'SO_RCVBUF': 65536}}")
    return tuple(read_option(name, each) for name, each in value.items())


_ACCESS_READERS: dict[str, Reader] = {"only_from": _networks, "no_access": _networks}

_OTHER_READERS: dict[str, Reader] = {
    "name": read_text,
    "settings": lambda value: value,
    "safe_replies": parse_bool,
    "socket_options": _options,
}


class _Reading:
    """Reads keywords, and collects what is wrong with them; *place* names the call."""

    def __init__(self, place: str, keywords: dict[str, Any]) -> None:
        self.place = place
        self.mistakes: list[str] = []
        self._left = keywords

    def read(self, name: str, reader: Reader, value: Any) -> Any:
        """Read one value."""
        try:
            return reader(value)
        except ValueError as error:
            self.mistakes.append(f"{self.place}: {name}: {error}")
            return None

    def take(self, readers: Mapping[str, Reader]) -> dict[str, Any]:
        """Read what is given of the keywords that have *readers*."""
        names = [each for each in readers if each in self._left]
        return {each: self.read(each, readers[each], self._left.pop(each)) for each in names}

    def check_rest(self, transport: str, service: Any, found: dict[str, Any]) -> None:
        """Check what keywords are left, and whether those that were found fit together."""
        known = list(ListenerKeywords.__annotations__)
        for each in self._left:
            near = get_close_matches(each, known, 1)
            instead = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            self._mistake(each, f"there is no such keyword; {instead}")
        own = not isinstance(service, str)
        if found.get("mode") is not None and transport != "unix":
            self._mistake("mode", "only the file of a unix socket has one")
        if own and found.get("settings") is not None:
            self._mistake("settings", "only a service that has a name takes them")
        if found.get("safe_replies") and not (own and transport == "udp"):
            self._mistake("safe_replies", "only for a DatagramProtocol; a named service has them")
        if own:
            self.read("service", lambda value: check_service_object(transport, value), service)

    def _mistake(self, name: str, text: str) -> None:
        self.mistakes.append(f"{self.place}: {name}: {text}")
