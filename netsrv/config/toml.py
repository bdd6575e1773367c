"""The configuration file: TOML, turned into a configuration.

cattrs maps each table to a class, and finds all mistakes at once; the rules for single
values are those of the command line, in `netsrv.config.model`.  What is a listener's service
is looked up here, because its settings are of its own class.
"""

import tomllib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import attrs
from attrs import frozen
from cattrs import ClassValidationError, Converter

from netsrv.config.model import (
    LIMIT_READERS,
    SERVER_READERS,
    Configuration,
    ConfigurationError,
    ListenerSettings,
    Reader,
    default_service,
    shown,
    twice,
)
from netsrv.config.readers import (
    ADDRESS_READERS,
    SOCKET_READERS,
    read_option,
    read_table,
    read_text,
)
from netsrv.config.structuring import (
    Mistakes,
    at_key,
    class_hook,
    hook,
    make_converter,
    mistake_line,
)
from netsrv.files import read_text_file
from netsrv.guards.access import Network, parse_network
from netsrv.guards.limits import NO_LIMITS, Limits
from netsrv.registry import Registry
from netsrv.sockets.addresses import Address, printable
from netsrv.sockets.options import SocketOption

LONGEST_FILE = 2**20
"""Bytes."""

TRANSPORTS = tuple(ADDRESS_READERS)


@frozen
class FileTable:
    """The file's top level."""

    listener: list[dict[str, Any]] = attrs.field(factory=list)
    shutdown_timeout: float | None = None
    log_rate: int | None = None
    access_log: str | None = None
    access_log_datagrams: bool | None = None


@frozen
class AccessTable:
    """``[listener.access]``."""

    only_from: tuple[Network, ...] = ()
    no_access: tuple[Network, ...] = ()


@frozen
class ListenerTable:
    """``[[listener]]``."""

    service: str | None = None
    tcp: Address | None = None
    udp: Address | None = None
    unix: Address | None = None
    mode: int | None = None
    backlog: int = 1024
    reuse_address: bool | None = None
    reuse_port: bool = False
    socket_options: tuple[SocketOption, ...] = ()
    settings: dict[str, Any] = attrs.field(factory=dict)
    limits: Limits = NO_LIMITS
    access: AccessTable = AccessTable()


def read_configuration(path: str, registry: Registry, name: str | None = None) -> Configuration:
    """Read the file *path*, which messages call *name*, with the services of *registry*.

    Raises `ConfigurationError` with a line for each mistake.
    """
    name = path if name is None else name
    try:
        text = read_text_file(path, LONGEST_FILE)
    except ValueError as error:
        raise ConfigurationError(mistake_line(name, "", str(error))) from error
    return make_configuration(parse_document(text, name), registry, name)


def parse_document(text: str, name: str) -> dict[str, Any]:
    """Parse TOML, which messages call *name*.  Raises `ConfigurationError`."""
    try:
        return _parsed(text)
    except ValueError as error:
        raise ConfigurationError(mistake_line(name, "", str(error))) from error


def make_configuration(document: dict[str, Any], registry: Registry, name: str) -> Configuration:
    """Make the configuration of what TOML says; otherwise as `read_configuration`."""
    mistakes = Mistakes()
    top: dict[str, Any] = {}
    with mistakes.of():
        table = _CONVERTER.structure(document, FileTable)
        given = attrs.asdict(table, recurse=False)
        top = {each: value for each, value in given.items() if value is not None}
        del top["listener"]
    listeners: list[ListenerSettings] = []
    places: list[ListenerSettings] = []
    for index, each in _numbered_tables(document.get("listener")):
        origin = f"{name}: listener[{index}]"
        places.extend(_places(each, origin))
        with mistakes.of("listener", index):
            listeners.append(_listener(each, registry, origin))
    lines = [mistake_line(name, place, text) for place, text in mistakes.found]
    lines.extend(printable(each) for each in twice(places))
    if lines:
        raise ConfigurationError(*lines)
    return Configuration(tuple(listeners), **top)


def _numbered_tables(value: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    """Give the listeners' tables; what else stands there is named by the reader of them all."""
    for index, each in enumerate(value if isinstance(value, list) else ()):
        if isinstance(each, dict):
            yield index, each


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise ValueError("too many brackets within each other") from None
    except ValueError:
        raise ValueError("a number has too many digits") from None


# Values


def _tables(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise ValueError(f"{shown(value)}: each listener begins with [[listener]]")
    return value


def _options(value: Any) -> tuple[SocketOption, ...]:
    options, problems = [], []
    for name, each in read_table(value).items():
        try:
            options.append(read_option(name, each))
        except ValueError as error:
            problems.append(at_key(error, name))
    if problems:
        raise ClassValidationError("", problems, dict)
    return tuple(options)


LISTENER_READERS: dict[str, Reader] = {
    "service": read_text,
    **ADDRESS_READERS,
    **SOCKET_READERS,
    "socket_options": _options,
    "settings": read_table,
}
"""The keys of a listener that are no tables with classes of ours."""


# Tables


def _listener(table: dict[str, Any], registry: Registry, origin: str) -> ListenerSettings:
    """Read one listener.  Raises what cattrs does, with all mistakes in it."""
    problems: list[Exception] = []
    transports = [each for each in TRANSPORTS if each in table]
    settings = None
    made = ListenerTable()
    try:
        made = _CONVERTER.structure(table, ListenerTable)
    except ClassValidationError as error:
        problems.extend(error.exceptions)
    if len(transports) != 1:
        problems.append(
            ValueError("give it one address: tcp, udp or unix, as in tcp = '127.0.0.1:7'")
        )
    else:
        if "mode" in table and "unix" not in table:
            problems.append(at_key(ValueError("only the file of a unix socket has one"), "mode"))
        try:
            settings = _settings(table, transports[0], registry)
        except Exception as error:
            problems.append(error)
    if problems:
        raise ClassValidationError("", problems, ListenerTable)
    (transport,) = transports
    return ListenerSettings(
        transport,
        made.service or default_service(transport),
        getattr(made, transport),
        made.backlog,
        made.reuse_address,
        made.reuse_port,
        made.socket_options,
        attrs.evolve(made.limits, **attrs.asdict(made.access, recurse=False)),
        settings,
        made.mode,
        origin,
    )


def _places(table: dict[str, Any], origin: str) -> Iterator[ListenerSettings]:
    """Give a listener by its address alone, whatever else is wrong with it."""
    for transport in TRANSPORTS:
        with suppress(ValueError, KeyError):
            address = LISTENER_READERS[transport](table[transport])
            yield ListenerSettings(transport, "", address, config_location=origin)


def _settings(table: dict[str, Any], transport: str, registry: Registry) -> Any:
    """Make a service's own settings, with its own class."""
    name = table.get("service", default_service(transport))
    given = table.get("settings", {})
    if not isinstance(name, str) or not isinstance(given, dict):
        return None  # their readers say it
    find = registry.datagram if transport == "udp" else registry.stream
    try:
        kind = getattr(find(name), "settings", None)
    except LookupError as error:
        raise at_key(ValueError(error.args[0]), "service") from error
    if kind is None:
        if given:
            raise at_key(ValueError(f"the service {name!r} has no settings"), "settings")
        return None
    try:
        return _CONVERTER.structure(given, kind)
    except Exception as error:
        raise at_key(error, "settings") from error
    except SystemExit as error:  # it is somebody else's code
        raise at_key(ValueError(f"SystemExit: {error}"), "settings") from error


def _own_converter() -> Converter:
    """Make a converter that knows our own tables, and leaves others to their classes."""
    converter = make_converter()
    network = hook(lambda value: parse_network(read_text(value)))
    converter.register_structure_hook(Network, network)
    limits = class_hook(Limits, converter, LIMIT_READERS)
    converter.register_structure_hook(Limits, limits)
    listener = class_hook(ListenerTable, converter, LISTENER_READERS)
    converter.register_structure_hook(ListenerTable, listener)
    top = class_hook(FileTable, converter, {**SERVER_READERS, "listener": _tables})
    converter.register_structure_hook(FileTable, top)
    return converter


_CONVERTER = _own_converter()
