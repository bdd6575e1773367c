"""The configuration of a command line.

Its options give all of its listeners the same settings, and what they say of the whole server
overrides the file.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from attrs import evolve

from netsrv.config.combinations import duplicate_addresses
from netsrv.config.document import DocumentReader
from netsrv.config.errors import Source
from netsrv.config.model import (
    LISTENER_SETTINGS,
    NO_CONFIGURATION,
    SERVER_SETTINGS,
    TABLE_SETTINGS,
    Configuration,
    ListenerSettings,
    Transport,
)
from netsrv.config.service_options import OPTION, split_settings
from netsrv.registry import Registry
from netsrv.settings import KeyPath, Setting, quote_value
from netsrv.sockets.addresses import SAME, split_service

OPTIONS: dict[str, Setting] = {
    name: setting
    for name, setting in (LISTENER_SETTINGS | SERVER_SETTINGS | TABLE_SETTINGS).items()
    if setting.option is not None
}
"""The settings that are options of the command line."""


def from_command_line(
    listeners: Sequence[tuple[str, str]],
    options: Mapping[str, Any] | None = None,
    file: Configuration = NO_CONFIGURATION,
    service_settings: Sequence[str] = (),
    registry: Registry | None = None,
) -> Configuration:
    """Make the configuration from a command line as the user wrote it.

    *listeners* are pairs of a transport and ``[SERVICE=]ADDRESS``; they come after those of
    *file*.  *options* are arguments of options by the names of the settings: texts, lists of texts
    of the repeatable ones, and True or False of flags.  *service_settings* have the form
    ``SERVICE.KEY=VALUE``, and need the *registry*.

    Raises `ConfigurationError` with a line for each error, which begins with the option.
    """
    own = split_settings(service_settings)
    source = Source(_locate, OPTIONS, "option", " ", options=True)
    reader = DocumentReader(source, registry if own else None)
    document = reader.make_document(options or {}, {})
    shared = reader.listener_values(document["listener"][0], ())
    server = reader.server_values(document, file)
    added, served = [], set()
    for transport, text in listeners:
        service, address = split_service(text, Transport(transport).default_service)
        table: dict[str, Any] = {"service": service, transport: address}
        if service in own:
            table["settings"] = own[service]
        added.append(reader.listener(table, (service,) if service in own else (), shared))
        served.add(service)
    for service in own.keys() - served:
        reader.errors.add((service, "settings"), "there is no such listener on the command line")
    if "tls" in shared and not any(transport == Transport.TCP for transport, _ in listeners):
        reader.errors.add(("tls", "certificate"), "needs a --tcp listener to serve TLS on")
    reader.errors.raise_all()
    for fault in shared.get("fault", ()):
        if not any(fault.settings(Transport(transport).is_stream) for transport, _ in listeners):
            text = f"{quote_value(fault.type)}: no listener of the command line has such a fault"
            reader.errors.add(("fault",), text)
    every = (*file.listeners, *filter(None, added))
    reader.errors.add_lines([*duplicate_addresses(every), *_misplaced_same(every)])
    reader.errors.raise_all()
    if "log_level" in server:  # it overrides the file's key quiet too
        server.setdefault("quiet", False)
    return evolve(file, listeners=every, **server)


def _locate(keys: KeyPath) -> str:
    """Return the option for a key path: ``--max-connections``."""
    names = list(map(str, keys))
    if names[:1] == ["fault"] and names[2:] not in ([], ["type"]):
        return f"{OPTIONS['fault'].option} {names[2]}"
    if "settings" in names[1:]:
        place = names.index("settings", 1)
        return f"{OPTION} {'.'.join([names[place - 1], *names[place + 1 :]])}"
    for key in [*map("_".join, pairwise(names)), *names]:  # tls_certificate is one of tls
        if key in OPTIONS:
            return str(OPTIONS[key].option)
        if key in list(Transport):
            return f"--{key}"
    return ""


def _misplaced_same(listeners: Sequence[ListenerSettings]) -> Iterator[str]:
    """Yield a line for each listener with the same port as a TCP listener that is not there."""
    streams = (listener for listener in listeners if listener.transport is Transport.TCP)
    first = next(streams, None)
    for listener in listeners:
        if listener.port == SAME and (first is None or first is listener):
            text = f"{SAME!r} is the port of the first TCP listener, and there is none before it"
            yield f"{listener.option_label}: {text}"
