"""The reader of configuration documents, which gives a `Configuration` or all errors at once.

A document has the form of the file: tables of settings.  `DocumentReader.make_document` puts the
options of a command line, the keywords of a program and the options of the test fixture into this
form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from attrs import evolve

from netsrv.config.combinations import duplicate_addresses, misfits
from netsrv.config.errors import ErrorCollector, Source
from netsrv.config.fault import Fault
from netsrv.config.model import (
    LISTENER_SETTINGS,
    NO_CONFIGURATION,
    SERVER_SETTINGS,
    SERVER_TABLES,
    TABLE_SETTINGS,
    Configuration,
    ListenerSettings,
    Transport,
    service_object,
)
from netsrv.config.service_options import plain_settings
from netsrv.guards.limits import Limits
from netsrv.guards.proxies import ProxyProtocolSettings
from netsrv.registry import Registry
from netsrv.settings import (
    TEXT,
    KeyPath,
    Kind,
    Setting,
    exception_text,
    parse_table,
    quote_value,
    resolve_paths,
    unknown_key,
)
from netsrv.sockets.addresses import Address, InheritedName
from netsrv.tls.settings import TLSSettings


def _settings_in(table: str) -> dict[str, Setting]:
    return {
        setting.name: setting
        for setting in LISTENER_SETTINGS.values()
        if setting.section.table == table
    }


_OWN_SETTINGS = _settings_in("")
_TABLES = {
    setting.section.table: _settings_in(setting.section.table)
    for setting in LISTENER_SETTINGS.values()
    if setting.section.table
}
"""The tables below a listener's, and their settings."""

_CLASSES: dict[str, tuple[str, type]] = {
    "limits": ("limits", Limits),
    "access": ("limits", Limits),
    "proxy_protocol": ("proxy_protocol", ProxyProtocolSettings),
    "tls": ("tls", TLSSettings),
}
"""The field of `ListenerSettings` that a table belongs to, and its class."""

LISTENER_KEYS = [
    "service",
    *Transport,
    *(name for name, setting in _OWN_SETTINGS.items() if setting.key),
    *_TABLES,
]
"""The keys of a listener's table in a file."""

BIND_SETTINGS = {
    "mode": "the socket unit has SocketMode=",
    "reuse_address": "systemd sets SO_REUSEADDR itself",
    "reuse_port": "the socket unit has ReusePort=",
}
"""Settings that only a socket which netsrv binds has, and what an inherited one has instead."""

FILE_NAMES = [
    *LISTENER_KEYS,
    *(setting.keyword for table in _TABLES.values() for setting in table.values()),
    *SERVER_SETTINGS,
]
"""All keys of a file, in whatever table."""


def _place_of(key: str) -> str:
    """Return where in a file a key belongs: ``in [listener.limits]``; empty if nowhere."""
    if key in SERVER_SETTINGS:
        return "at the top of the file"
    if key in _TABLES:
        return f"in a [[listener]], as [listener.{key}]"
    if key in LISTENER_KEYS:
        return "in a [[listener]]"
    tables = (table for table, settings in _TABLES.items() if key in settings)
    return next((f"in [listener.{table}]" for table in tables), "")


class DocumentReader:
    """Reads the parts of one document; the errors are in *errors*.

    With a *registry* a listener's ``settings`` are a table, which is turned into an instance of
    the service's own settings class.
    """

    def __init__(self, source: Source, registry: Registry | None = None) -> None:
        self.errors = ErrorCollector(source)
        self._addresses: list[ListenerSettings] = []
        """A listener for each address that was read, right or wrong in all other respects."""
        self._source = source
        self._registry = registry

    def make_document(
        self, values: Mapping[str, Any], listener: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Make a document of one listener from values by the names of settings.

        *listener* are further keys of the listener.  A name that the source does not have is an
        error.
        """
        table = dict(listener)
        document: dict[str, Any] = {"listener": [table]}
        for name, value in values.items():
            setting = LISTENER_SETTINGS.get(name)
            inner = setting.section.table if setting is not None else ""
            if name not in self._source.names:
                text = unknown_key(name, self._source.names, self._source.noun)
                self.errors.add((name,), text)
            elif name in SERVER_SETTINGS:
                document[name] = value
            elif name in TABLE_SETTINGS and setting is None:
                below_top = TABLE_SETTINGS[name]
                document.setdefault(below_top.section.table, {})[below_top.name] = value
            elif setting is None or not inner:
                table[name] = value
            elif isinstance(below := table.setdefault(inner, {}), dict):
                below[setting.name] = value
        return document

    def configuration(self, document: dict[str, Any]) -> Configuration:
        """Read a whole document.  Raises `ConfigurationError` with a line for each error."""
        server = self.server_values(document)
        listeners = [
            self.listener(table, ("listener", index))
            for index, table in self._listener_tables(document)
        ]
        self.errors.add_lines(duplicate_addresses(self._addresses))
        self.errors.raise_all()
        return Configuration(tuple(filter(None, listeners)), **server)

    def server_values(
        self, document: dict[str, Any], base: Configuration = NO_CONFIGURATION
    ) -> dict[str, Any]:
        """Read the settings of the whole server; what a table lacks is that of *base*."""
        values = self._values(document, SERVER_SETTINGS, ())
        for name in filter(document.__contains__, SERVER_TABLES):
            settings = SERVER_TABLES[name][1]
            with self.errors.at(name):
                table = parse_table(document[name])
                values[name] = evolve(getattr(base, name), **self._values(table, settings, (name,)))
                self._check_keys(table, settings, (name,))
        self._check_keys(document, ["listener", *SERVER_SETTINGS, *SERVER_TABLES], ())
        return values

    def _listener_tables(self, document: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the tables of the listeners with their indices."""
        tables = document.get("listener", [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            text = f"{quote_value(tables)}: each listener begins with [[listener]]"
            self.errors.add(("listener",), text)
        for index, table in enumerate(tables if isinstance(tables, list) else ()):
            if isinstance(table, dict):
                yield index, table

    def listener(
        self, table: dict[str, Any], path: KeyPath, shared: Mapping[str, Any] | None = None
    ) -> ListenerSettings | None:
        """Read one listener; return None if there are errors.

        *shared* are values that were read before, as `listener_values` returns them.
        """
        errors_before = self.errors.count
        location = self._source.locate(path)
        addresses = self._read_addresses(table, path)
        values = {**(shared or {}), **self.listener_values(table, path)}
        if len(transports := [transport for transport in Transport if transport in table]) != 1:
            text = "give it one address: tcp, udp or unix, as in tcp = '127.0.0.1:7'"
            self.errors.add(path, text)
            return None
        [transport] = transports
        if "service" not in table:
            values.setdefault("service", transport.default_service)
        self._check_together(transport, values, path)
        self._check_inherited(addresses.get(transport), table, path)
        if self._registry is not None and "service" in values:
            find = self._registry.stream if transport.is_stream else self._registry.datagram
            values["settings"] = self._service_settings(find, values, path)
        if self.errors.count > errors_before:
            return None
        return ListenerSettings(
            transport, address=addresses[transport], config_location=location, **values
        )

    def listener_values(self, table: dict[str, Any], path: KeyPath) -> dict[str, Any]:
        """Read all of a listener but its address: the fields of `ListenerSettings`."""
        values: dict[str, Any] = {}
        if "service" in table:
            with self.errors.at(*path, "service"):
                values["service"] = TEXT.parse(table["service"])
        values.update(self._values(table, _OWN_SETTINGS, path))
        nested: dict[tuple[str, type], dict[str, Any]] = {}
        for name in filter(table.__contains__, _TABLES):
            with self.errors.at(*path, name):
                inner = parse_table(table[name])
                below = nested.setdefault(_CLASSES[name], {})
                for key, value in self._values(inner, _TABLES[name], (*path, name)).items():
                    below[_TABLES[name][key].attribute] = value
                self._check_keys(inner, _TABLES[name], (*path, name))
        for (field, settings_class), given in nested.items():
            if given:
                values[field] = settings_class(**given)
        self._check_keys(table, LISTENER_KEYS, path)
        return values

    def _values(
        self, table: dict[str, Any], settings: Mapping[str, Setting], path: KeyPath
    ) -> dict[str, Any]:
        values = {}
        for name in filter(table.__contains__, settings):
            with self.errors.at(*path, name):
                values[name] = self._parse(settings[name].kind, table[name])
        return values

    def _parse(self, kind: Kind, value: Any) -> Any:
        if self._source.options:
            return kind.parse_argument(value)
        if kind.resolve is not None and self._source.folder:
            value = resolve_paths(kind.resolve, self._source.folder, value)
        return kind.parse(value)

    def _check_keys(self, table: dict[str, Any], known: Iterable[str], path: KeyPath) -> None:
        for key in table:
            if key not in known and key not in self._source.names:
                text: str | Callable[[], str] = partial(unknown_key, key, known)
                if not self._source.options and (place := _place_of(key)):
                    text = f"there is no such key here; it belongs {place}"
                self.errors.add((*path, key), text)

    def _read_addresses(self, table: dict[str, Any], path: KeyPath) -> dict[Transport, Address]:
        addresses = {}
        location = self._source.locate(path)
        for transport in filter(table.__contains__, Transport):
            with self.errors.at(*path, transport.value):
                address = self._parse(transport.address_kind, table[transport])
                addresses[transport] = address
                self._addresses.append(
                    ListenerSettings(transport, "", address, config_location=location)
                )
        return addresses

    def _check_together(self, transport: Transport, values: dict[str, Any], path: KeyPath) -> None:
        """Check settings that depend on the transport or on the service."""
        if self._source.options and transport is not Transport.TCP:
            values.pop("tls", None)
        for keys, text in misfits(transport, values):
            self.errors.add((*path, *keys), text)
        self._check_faults(transport, values.get("fault", ()), path)
        service = values.get("service", "")
        if not isinstance(service, str):
            with self.errors.at(*path, "service"):
                values["service"] = service_object(transport, service)

    def _check_faults(self, transport: Transport, faults: Sequence[Fault], path: KeyPath) -> None:
        """Check that a listener's transport has its faults; of options it takes those it has."""
        for index, fault in enumerate(faults):
            with self.errors.at(*path, "fault", index):
                if fault.settings(transport.is_stream) is None and not self._source.options:
                    kinds = "datagrams" if transport.is_stream else "streams"
                    raise ValueError(f"{quote_value(fault.type)} is a fault of {kinds}")

    def _check_inherited(
        self, address: Address | None, table: dict[str, Any], path: KeyPath
    ) -> None:
        """Check that a listener on an inherited socket has no settings of its ``bind``."""
        if isinstance(address, InheritedName):
            for name in BIND_SETTINGS.keys() & table.keys():
                self.errors.add((*path, name), f"{address} is bound already; {BIND_SETTINGS[name]}")

    def _service_settings(
        self, find: Callable[[str], Any], values: dict[str, Any], path: KeyPath
    ) -> Any:
        """Make a service's own settings with the class that the service has for them."""
        name, given = values["service"], values.get("settings", {})
        try:
            plugin = find(name)
        except LookupError as error:
            self.errors.add((*path, "service"), error.args[0])
            return None
        try:
            kind = getattr(plugin, "settings", None)
        except BaseException as error:  # a third party's property may raise anything at all
            self.errors.add((*path, "service"), exception_text(error))
            return None
        with self.errors.at(*path, "settings"):
            parse_table(given)
            if kind is not None and self._source.options:
                given = plain_settings(given, kind)
            if kind is not None:
                from netsrv.config.structuring import structure  # cattrs takes 25 ms to import

                return structure(given, kind, self._source.folder)
            if given:
                raise ValueError(f"the service {quote_value(name)} has no settings")
        return None
