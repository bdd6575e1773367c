"""The output of --check and --list-services.

A check goes through the four steps for each listener, shows what is in effect, and leaves nothing
behind.  An address in use is only a note: the server that uses it may be the one whose settings
are checked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from attrs import frozen

from netsrv import __version__
from netsrv.config.model import (
    SERVER_SETTINGS,
    SERVER_TABLES,
    Configuration,
    ListenerSettings,
    Transport,
)
from netsrv.config.showing import limits_in_effect, plain_value, show_plain
from netsrv.control.opening import open_control
from netsrv.files import STANDARD_OUTPUT
from netsrv.registry import Registry
from netsrv.server.binding import (
    check_options_fit,
    expand,
    open_socket,
    opening_order,
    try_options,
)
from netsrv.server.certificates import certificate_warnings, load_certificates
from netsrv.server.descriptors import (
    RESERVED_DESCRIPTORS,
    connection_limit,
    descriptor_limit,
    show_max_connections,
)
from netsrv.server.factories import build_factory
from netsrv.sockets.addresses import printable
from netsrv.sockets.options import show_value
from netsrv.sockets.steps import AddressUnavailable, OptionInEffect
from netsrv.status.opening import open_status

if TYPE_CHECKING:
    from netsrv.tls.store import CertificateStore


@frozen
class CheckedListener:
    """A listener whose socket was opened for a check, and closed again."""

    settings: ListenerSettings
    address: str
    """The address in effect; as it was asked for, if it is in use."""
    note: str
    """Why the socket could not be bound; empty if it could."""
    options: Sequence[OptionInEffect]
    certificates: CertificateStore | None


def check(configuration: Configuration, registry: Registry, as_json: bool = False) -> Iterator[str]:
    """Check a configuration; yield the report line by line.

    Raises `ConfigurationError` or `netsrv.sockets.SocketError`, as a start would.
    """
    checked = _check_listeners(configuration, registry)
    notes = _check_tables(configuration)
    descriptors = descriptor_limit()
    if as_json:
        report = _report(configuration, checked, descriptors, notes)
        yield from json.dumps(report, indent=2).splitlines()
        return
    for listener in checked:
        yield from _show_listener(listener, descriptors)
        yield ""
    yield from _show_server(configuration, descriptors, notes)


def _check_listeners(configuration: Configuration, registry: Registry) -> list[CheckedListener]:
    listeners = expand(configuration.listeners)
    for settings in listeners:
        build_factory(settings, registry)
    stores = load_certificates(configuration.listeners)
    checked: list[CheckedListener] = []
    same: int | None = None
    with ExitStack() as stack:
        for index in opening_order(listeners):
            settings = listeners[index]
            port = settings.port
            try:
                opened = open_socket(settings, same)
            except AddressUnavailable as error:
                if not (error.in_use or error.at_start):
                    raise
                address, note, options = str(settings.address), str(error), try_options(settings)
            else:
                stack.callback(opened.close)
                port = opened.port
                address, note, options = opened.address, "", opened.options
            if settings.transport is Transport.TCP and same is None and isinstance(port, int):
                same = port
            store = stores.get(settings.tls)
            checked.append(CheckedListener(settings, address, note, options, store))
        in_effect = [(listener.settings, listener.options) for listener in checked]
        check_options_fit(listeners, in_effect)
    return checked


def _check_tables(configuration: Configuration) -> dict[str, str | None]:
    """Open the sockets of status and control; return a note for each about an address in use."""
    notes: dict[str, str | None] = {"status": None, "control": None}
    opening = {
        "status": lambda: open_status(configuration.status),
        "control": lambda: open_control(configuration.control),
    }
    for table, open_sockets in opening.items():
        try:
            open_sockets().close()  # type: ignore[attr-defined]
        except AddressUnavailable as error:
            if not error.in_use:
                raise
            notes[table] = str(error)
    return notes


# As text


def _show_listener(listener: CheckedListener, descriptors: int) -> Iterator[str]:
    settings = listener.settings
    yield f"{settings.transport} {listener.address} ({settings.service_name})"
    if listener.note:
        yield f"  note: {listener.note}"
    yield f"  {'option':<20} {'asked for':>12} {'in effect':>12}"
    for option in listener.options:
        in_effect = "unknown" if option.in_effect is None else show_value(option.in_effect)
        yield f"  {option.name:<20} {show_value(option.asked):>12} {in_effect:>12}"
    yield ""
    for setting, value in limits_in_effect(settings).items():
        text = show_plain(plain_value(setting.kind.plain(value)))
        if setting.name == "max_connections":
            text = show_max_connections(value, descriptors)
        elif value is None or value == ():
            text = setting.default_text if value == setting.default else "none"
        yield _row(setting.keyword, text)
    for name, value in _own_values(settings).items():
        yield _row(name, show_plain(value))
    for fault in settings.faults:
        yield _row("fault", printable(str(fault)))
    yield from _show_certificates(listener.certificates)


def _show_certificates(store: CertificateStore | None) -> Iterator[str]:
    if store is None:
        return
    for certificate in store.current.certificates:
        file = certificate.files.certificate
        yield _row("certificate", f"{certificate.name} until {certificate.expiry}, {file}")
    for line in certificate_warnings([store]):
        yield f"  note: {line}"


def _own_values(settings: ListenerSettings) -> dict[str, Any]:
    """Return the mode of a unix socket's file, and the service's own settings."""
    values = {}
    if settings.mode is not None:
        values["mode"] = f"0{settings.mode:o}"
    own = plain_value(settings.settings)
    if isinstance(own, dict):
        values |= {f"settings.{name}": value for name, value in own.items()}
    return values


def _show_server(
    configuration: Configuration, descriptors: int, notes: dict[str, str | None]
) -> Iterator[str]:
    yield "the server"
    yield _row("version", __version__)
    yield _row("configuration", configuration.file or "none")
    limit = connection_limit(descriptors)
    yield _row("descriptors", f"{descriptors}, {RESERVED_DESCRIPTORS} reserved: {limit} for peers")
    for name, value in _server_values(configuration).items():
        yield _row(name, SERVER_SETTINGS[name].default_text if value is None else show_plain(value))
    for table, values in _table_values(configuration).items():
        settings = SERVER_TABLES[table][1]
        for name, value in values.items():
            text = settings[name].default_text if value in (None, []) else show_plain(value)
            yield _row(f"{table}.{name}", text)
    for note in filter(None, notes.values()):
        yield f"  note: {note}"


def _server_values(configuration: Configuration) -> dict[str, Any]:
    """Return the settings of the whole server, with the access log's absolute path."""
    values = {name: plain_value(getattr(configuration, name)) for name in SERVER_SETTINGS}
    if values["access_log"] not in (None, STANDARD_OUTPUT):
        values["access_log"] = os.path.abspath(values["access_log"])
    return values


def _table_values(configuration: Configuration) -> dict[str, dict[str, Any]]:
    """Return the settings of the tables at the top of a file."""
    return {
        table: {
            name: plain_value(setting.kind.plain(getattr(getattr(configuration, table), name)))
            for name, setting in settings.items()
        }
        for table, (_, settings) in SERVER_TABLES.items()
    }


def _row(name: str, text: str) -> str:
    return f"  {name:<20} {text}"


# As JSON


def _report(
    configuration: Configuration,
    checked: Sequence[CheckedListener],
    descriptors: int,
    notes: dict[str, str | None],
) -> dict[str, Any]:
    return {
        "version": __version__,
        "configuration": configuration.file,
        "descriptors": {
            "limit": descriptors,
            "reserved": RESERVED_DESCRIPTORS,
            "connections": connection_limit(descriptors),
        },
        **_server_values(configuration),
        **{
            table: {**values, "note": notes[table]}
            for table, values in _table_values(configuration).items()
        },
        "listeners": [_listener_report(listener, descriptors) for listener in checked],
    }


def _listener_report(listener: CheckedListener, descriptors: int) -> dict[str, Any]:
    settings = listener.settings
    names = ("limits", "access", "proxy_protocol", "tls")
    tables: dict[str, dict[str, Any]] = {name: {} for name in names}
    for setting, value in limits_in_effect(settings).items():
        tables[setting.section.table][setting.name] = plain_value(setting.kind.plain(value))
    if "max_connections" in tables["limits"]:
        asked, most = settings.limits.max_connections, connection_limit(descriptors)
        tables["limits"]["max_connections"] = most if asked is None else min(asked, most)
    return {
        "transport": settings.transport.value,
        "address": listener.address,
        "service": settings.service_name,
        "configured_at": settings.config_location or None,
        "note": listener.note or None,
        "mode": None if settings.mode is None else f"0{settings.mode:o}",
        "options": [
            {
                "name": option.name,
                "asked": plain_value(option.asked),
                "in_effect": plain_value(option.in_effect),
            }
            for option in listener.options
        ],
        **tables,
        "certificates": [] if listener.certificates is None else listener.certificates.describe(),
        "settings": plain_value(settings.settings),
        "fault": [plain_value(fault.table()) for fault in settings.faults],
    }


def list_services(registry: Registry) -> Iterator[str]:
    """Yield name, transports and one line of each service that is installed."""
    for name, service in sorted(registry.services.items()):
        description = printable(service.description)
        yield f"{name:<12} {registry.transports(name):<8} {description}"
