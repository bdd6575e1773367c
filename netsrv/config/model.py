"""The configuration of a server: one frozen value, checked when it is made.

What the command line says is turned into it here, and the rules stand here for what a
value may be, whether an option or a file (`netsrv.config.toml`) gives it.  No socket is
opened and no service looked for: that is the server's work.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from math import isfinite
from typing import Any, TypeVar

from attrs import evolve, field, frozen
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import DatagramProtocol, Factory, ServerFactory

from netsrv.guards.access import Network, parse_network
from netsrv.guards.datagrams import parse_ports
from netsrv.guards.limits import NO_LIMITS, Limits, Overload
from netsrv.guards.rates import Rate, parse_rate
from netsrv.sockets.addresses import (
    SAME,
    Address,
    InternetAddress,
    parse_internet,
    parse_unix,
    printable,
    split_service,
)
from netsrv.sockets.options import SocketOption, named_option, parse_option

T = TypeVar("T")

LONGEST_SECONDS = 10**9
LONGEST_SHOWN = 60
"""Characters of a value that a message shows."""

Reader = Callable[[Any], Any]
"""Turns a value as TOML has it into what it means.  Raises ValueError with what would be right."""


class ConfigurationError(Exception):
    """What was asked for cannot be: one line for each mistake, with its place."""

    def __init__(self, *lines: str) -> None:
        super().__init__(*lines)
        self.lines = lines

    def __str__(self) -> str:
        return "\n".join(map(printable, self.lines))


@frozen
class ListenerSettings:
    """One socket and the service on it."""

    transport: str
    """``tcp``, ``udp`` or ``unix``."""
    service: Any
    """The name of a service that is installed, or a program's own: an IProtocolFactory, or a
    DatagramProtocol for ``udp``."""
    address: Address
    backlog: int = 1024
    """Connections that may wait to be accepted; UDP has no such thing."""
    reuse_address: bool | None = None
    """SO_REUSEADDR; None means on for TCP and off for UDP."""
    reuse_port: bool = False
    """SO_REUSEPORT: other processes may share the port."""
    socket_options: tuple[SocketOption, ...] = ()
    """The options asked for by name; they have the last word."""
    limits: Limits = NO_LIMITS
    settings: Any = None
    """The service's own, an instance of its class; None for the defaults."""
    mode: int | None = None
    """Permissions of a unix socket's file; None leaves them to the umask."""
    config_location: str = field(default="", eq=False)
    """Where it stands in a file: ``netsrv.toml: listener[0]``; empty for the command line."""
    name: str = ""
    """How the log names a service of a program's own; empty for its class."""
    safe_replies: bool = False
    """Whether a DatagramProtocol of a program's own is held to the rules for datagrams."""

    @property
    def embedded(self) -> bool:
        """Whether the service is a program's own, and not one that is installed."""
        return not isinstance(self.service, str)

    @property
    def service_name(self) -> str:
        """How the log names the service.  A plain factory goes by its protocol's class."""
        if not self.embedded:
            return str(self.service)
        kind = type(self.service)
        if kind in (Factory, ServerFactory) and isinstance(self.service.protocol, type):
            kind = self.service.protocol
        return self.name or kind.__name__

    @property
    def address_label(self) -> str:
        """How messages name the listener: ``tcp 0.0.0.0:7``."""
        return f"{self.transport} {self.address}"

    @property
    def option_label(self) -> str:
        """How messages name what the user wrote: ``--tcp 0.0.0.0:7``."""
        if self.config_location:
            return f"{self.config_location}.{self.transport}: {self.address}"
        return f"--{self.transport} {self.address}"

    def all_options(self) -> list[SocketOption]:
        """The options asked for by name, after those that every such socket gets."""
        options: dict[str, SocketOption] = {}
        for option in (*self._usual_options(), *self.socket_options):
            options.pop(option.name, None)
            options[option.name] = option
        return list(options.values())

    def _usual_options(self) -> list[SocketOption]:
        if self.transport == "unix":
            return []
        reuse = self.transport == "tcp" if self.reuse_address is None else self.reuse_address
        options = [named_option("SO_REUSEADDR", int(reuse))]
        if self.reuse_port:
            options.append(named_option("SO_REUSEPORT", 1))
        if self.transport == "tcp":
            options.append(named_option("TCP_NODELAY", 1))
        if isinstance(self.address, InternetAddress) and self.address.host == "::":
            options.append(named_option("IPV6_V6ONLY", 0))
        return options


def check_service_object(transport: str, service: Any) -> IProtocolFactory | DatagramProtocol:
    """Give a program's own service.  Raises ValueError if *transport* does not take it."""
    if transport == "udp":
        if not isinstance(service, DatagramProtocol):
            raise ValueError(f"{service!r} is no DatagramProtocol")
    elif isinstance(service, type) or not callable(getattr(service, "buildProtocol", None)):
        raise ValueError(f"{service!r} is no Factory")
    return service  # type: ignore[no-any-return]


@frozen
class Configuration:
    """All that a server is made of."""

    listeners: tuple[ListenerSettings, ...]
    log_rate: int = 1000
    """Log lines a second about single peers."""
    shutdown_timeout: float = 8.0
    """Seconds that live connections have at the end, before they are aborted."""
    access_log: str | None = None
    """The file that gets a line for each connection; ``-`` is standard output."""
    access_log_datagrams: bool = False
    """Whether it gets a line for each datagram too."""


def from_command_line(
    listeners: Sequence[tuple[str, str]],
    *,
    backlog: str = "1024",
    reuse_address: bool | None = None,
    reuse_port: bool = False,
    socket_options: Sequence[str] = (),
    log_rate: str | None = None,
    shutdown_timeout: str | None = None,
    access_log: str | None = None,
    access_log_datagrams: bool = False,
    limits: Limits = NO_LIMITS,
    file: Configuration = Configuration(()),
) -> Configuration:
    """Make the configuration from options as the user wrote them, None where one was not given.

    *listeners* are pairs of a transport and ``[SERVICE=]ADDRESS``; those of *file* come
    before them, and what it says of the whole server holds where no option does.  Raises
    `ConfigurationError` with the option that is wrong, and what would be right.
    """
    options = tuple(_parsed("--socket-option", parse_option, text) for text in socket_options)
    queue = _parsed("--backlog", read_backlog, parse_scalar(backlog))
    made = list(file.listeners)
    for transport, text in listeners:
        service, address = _address(transport, text)
        made.append(
            ListenerSettings(
                transport, service, address, queue, reuse_address, reuse_port, options, limits
            )
        )
    mistakes = [*twice(made), *_same_as_none(made)]
    if mistakes:
        raise ConfigurationError(*mistakes)
    of_server = {"log_rate": log_rate, "shutdown_timeout": shutdown_timeout}
    return evolve(
        file,
        listeners=tuple(made),
        access_log=file.access_log if access_log is None else access_log,
        access_log_datagrams=access_log_datagrams or file.access_log_datagrams,
        **_read(SERVER_READERS, of_server),
    )


def limits_from_command_line(options: Mapping[str, str | None]) -> Limits:
    """Make the limits from the options of their names, None where one was not given.

    Raises `ConfigurationError`.
    """
    readers = {**LIMIT_READERS, "only_from": _networks, "no_access": _networks}
    return Limits(**_read(readers, {name: options[name.replace("_", "-")] for name in readers}))


def _read(readers: Mapping[str, Reader], texts: Mapping[str, str | None]) -> dict[str, Any]:
    """Read the options that are given, by the names of their readers."""
    return {
        name: _parsed(f"--{name.replace('_', '-')}", readers[name], parse_scalar(text))
        for name, text in texts.items()
        if text is not None
    }


def _parsed(option: str, parse: Callable[[Any], T], value: Any) -> T:
    """Parse an option's value; what the parser says is wrong with it gets its place."""
    try:
        return parse(value)
    except ValueError as error:
        raise ConfigurationError(f"{option} {error}") from error


def parse_scalar(text: str) -> int | float | str:
    """Give the number that an option's text is, or the text, as a file would have it."""
    if re.fullmatch("-?[0-9]{1,400}", text):
        return int(text)
    with suppress(ValueError):
        if isfinite(number := float(text)):
            return number
    return text


def shown(value: Any) -> str:
    """Show a value of a file or an option in a message, in a few words if it is long."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    text = repr(value) if isinstance(value, str | int | float) else str(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


# The rules, for options and files alike


def whole_number(least: int, most: int) -> Callable[[Any], int]:
    """Make the reader of a whole number within bounds."""

    def read(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"{shown(value)}: a whole number from {least} to {most}")
        return value

    return read


def read_seconds(value: Any) -> float:
    """Read a duration."""
    if type(value) not in (int, float) or not 0 < value <= LONGEST_SECONDS:
        raise ValueError(
            f"{shown(value)}: a number of seconds, more than 0 and at most {LONGEST_SECONDS}"
        )
    return float(value)


def _or(word: str, read: Callable[[Any], T]) -> Callable[[Any], T | None]:
    """Make a reader to which *word* means None."""

    def read_or(value: Any) -> T | None:
        try:
            return None if value == word else read(value)
        except ValueError as error:
            raise ValueError(f"{error}, or {word!r}") from None

    return read_or


def _overload(value: Any) -> Overload:
    try:
        return Overload(value)
    except ValueError:
        words = ", ".join(repr(each.value) for each in Overload)
        raise ValueError(f"{shown(value)}: one of {words}") from None


def _rate(value: Any) -> Rate:
    if type(value) not in (int, float, str):
        raise ValueError(f"{shown(value)}: a rate is a number, or a text like '50:100'")
    return parse_rate(str(value))


def _ports(value: Any) -> frozenset[int]:
    parts = value if isinstance(value, list) else [value]
    for each in parts:
        if type(each) not in (int, str):
            raise ValueError(f"{shown(each)}: write ports as '0-1023,2049', or 'none'")
    return parse_ports(",".join(map(str, parts)) if parts else "none")


def _networks(text: Any) -> tuple[Network, ...]:
    return tuple(parse_network(each) for each in str(text).split(","))


read_backlog = whole_number(0, 2**31 - 1)
_count = whole_number(1, 10**9)

SERVER_READERS: dict[str, Reader] = {
    "log_rate": whole_number(0, 10**9),
    "shutdown_timeout": read_seconds,
}
"""What concerns the whole server, by the names in `Configuration`."""

LIMIT_READERS: dict[str, Reader] = {
    "max_connections": _or("auto", _count),
    "overload": _overload,
    "per_source": _count,
    "connection_rate": _rate,
    "datagram_rate": _or("none", _rate),
    "refuse_source_ports": _ports,
    "idle_timeout": read_seconds,
    "lifetime": read_seconds,
    "write_timeout": _or("none", read_seconds),
    "close_grace": read_seconds,
}
"""The limits but for access, by their names in `Limits`."""


def _address(transport: str, text: str) -> tuple[str, Address]:
    service, address = split_service(text, default_service(transport))
    parse: Callable[[str], Address] = parse_unix if transport == "unix" else parse_internet
    return service, _parsed(f"--{transport}", parse, address)


def default_service(transport: str) -> str:
    """The service of a listener for which none is named."""
    return "echo" if transport == "udp" else "accept"


def twice(listeners: Sequence[ListenerSettings]) -> Iterator[str]:
    """Name the listeners whose address another one before them has."""
    seen: dict[str, ListenerSettings] = {}
    for each in listeners:
        first = seen.setdefault(each.address_label, each)
        if first is not each and getattr(each.address, "port", None) != 0:
            before = f", before in {first.config_location}" if first.config_location else ""
            yield f"{each.option_label}: stands twice{before}"


def _same_as_none(listeners: Sequence[ListenerSettings]) -> Iterator[str]:
    """Name those that would have the port of a TCP listener, where there is no such port."""
    first = next((each for each in listeners if each.transport == "tcp"), None)
    for each in listeners:
        port = getattr(each.address, "port", None)
        if port == SAME and (first is None or first is each):
            yield (
                f"{each.option_label}: {SAME!r} is the port of the first TCP listener, "
                "and there is none before it"
            )
