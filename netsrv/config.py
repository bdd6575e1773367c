"""The configuration of a server: one frozen value, checked when it is made.

What the command line says is turned into it here.  No socket is opened and no service
looked for: that is the server's work.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from attrs import frozen

from netsrv.addresses import (
    SAME,
    Address,
    InternetAddress,
    parse_internet,
    parse_unix,
    split_service,
)
from netsrv.guards.access import Network, parse_network
from netsrv.guards.datagrams import parse_ports
from netsrv.guards.rates import parse_rate
from netsrv.limits import NO_LIMITS, Limits, Overload
from netsrv.socketoptions import SocketOption, named_option, parse_option

T = TypeVar("T")

LONGEST_SECONDS = 10**9
LARGEST_BACKLOG = 2**31 - 1


class ConfigurationError(Exception):
    """What was asked for cannot be; the text is one line that names the place."""


@frozen
class ListenerSettings:
    """One socket and the service on it."""

    transport: str
    """``tcp``, ``udp`` or ``unix``."""
    service: str
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
    """The service's own."""

    @property
    def place(self) -> str:
        """How messages name the listener: ``tcp 0.0.0.0:7``."""
        return f"{self.transport} {self.address}"

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
    log_rate: str = "1000",
    shutdown_timeout: str = "8",
    access_log: str | None = None,
    access_log_datagrams: bool = False,
    limits: Limits = NO_LIMITS,
) -> Configuration:
    """Make the configuration from options as the user wrote them.

    *listeners* are pairs of a transport and ``[SERVICE=]ADDRESS``.  Raises
    `ConfigurationError` with the option that is wrong, and what would be right.
    """
    options = tuple(_parsed("--socket-option", parse_option, text) for text in socket_options)
    queue = _parsed("--backlog", _whole_number(0, LARGEST_BACKLOG), backlog)
    made: list[ListenerSettings] = []
    for transport, text in listeners:
        service, address = _address(transport, text)
        made.append(
            ListenerSettings(
                transport, service, address, queue, reuse_address, reuse_port, options, limits
            )
        )
    _check_listeners(made)
    return Configuration(
        tuple(made),
        _parsed("--log-rate", _whole_number(0, 10**9), log_rate),
        _parsed("--shutdown-timeout", _seconds, shutdown_timeout),
        access_log,
        access_log_datagrams,
    )


def limits_from_command_line(options: Mapping[str, str | None]) -> Limits:
    """Make the limits from the options of their names, None where one was not given.

    Raises `ConfigurationError`.
    """
    number = _whole_number(1, 10**9)
    parsers: dict[str, Callable[[str], Any]] = {
        "max-connections": lambda text: None if text == "auto" else number(text),
        "overload": _overload,
        "per-source": number,
        "connection-rate": parse_rate,
        "only-from": _networks,
        "no-access": _networks,
        "datagram-rate": lambda text: None if text == "none" else parse_rate(text),
        "refuse-source-ports": parse_ports,
        "idle-timeout": _seconds,
        "lifetime": _seconds,
        "write-timeout": lambda text: None if text == "none" else _seconds(text),
        "close-grace": _seconds,
    }
    values = {}
    for name, parse in parsers.items():
        text = options[name]
        if text is not None:
            values[name.replace("-", "_")] = _parsed(f"--{name}", parse, text)
    return Limits(**values)


def _parsed(option: str, parse: Callable[[str], T], text: str) -> T:
    """Parse an option's value; what the parser says is wrong with it gets its place."""
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigurationError(f"{option} {error}") from error


def _overload(text: str) -> Overload:
    try:
        return Overload(text)
    except ValueError:
        raise ValueError(f"{text}: one of pause, close and reset") from None


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(parse_network(each) for each in text.split(","))


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 < seconds <= LONGEST_SECONDS:
        raise ValueError(f"{text}: seconds, more than 0 and at most {LONGEST_SECONDS}")
    return seconds


def _whole_number(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or not least <= int(text[:20]) <= most:
            raise ValueError(f"{text}: a whole number from {least} to {most}")
        return int(text)

    return parse


def _address(transport: str, text: str) -> tuple[str, Address]:
    service, address = split_service(text, "echo" if transport == "udp" else "accept")
    parse: Callable[[str], Address] = parse_unix if transport == "unix" else parse_internet
    return service, _parsed(f"--{transport}", parse, address)


def _check_listeners(listeners: Sequence[ListenerSettings]) -> None:
    """No address twice, and a first TCP port for ``same`` to be the same as."""
    seen = set()
    first_tcp = next((each for each in listeners if each.transport == "tcp"), None)
    for each in listeners:
        port = getattr(each.address, "port", None)
        if port == SAME and (first_tcp is None or first_tcp is each):
            raise ConfigurationError(
                f"--{each.transport} {each.address}: {SAME!r} is the port of the first --tcp, "
                "and there is none before it"
            )
        if port != 0 and each.place in seen:
            raise ConfigurationError(f"--{each.transport} {each.address}: stands twice")
        seen.add(each.place)
