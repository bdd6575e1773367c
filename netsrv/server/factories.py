"""Builds services: a listener's settings turned into a factory or a datagram protocol.

No socket is needed for it, and none is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from attrs import NOTHING, fields, has
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import DatagramProtocol

from netsrv.config.model import (
    ConfigurationError,
    ListenerSettings,
    Transport,
    check_service_object,
)
from netsrv.registry import Registry
from netsrv.settings import MAX_QUOTED_LENGTH, exception_text, quote_value, shorten


def build_factory(
    settings: ListenerSettings, registry: Registry
) -> IProtocolFactory | DatagramProtocol:
    """Return what serves a listener: a factory, or a datagram protocol for UDP.

    The service of *registry* makes it; an embedded service is one already.  Raises
    `ConfigurationError`.
    """
    if settings.embedded:
        return _embedded_service(settings)
    find = registry.stream if settings.transport.is_stream else registry.datagram
    try:
        plugin = find(settings.service)
    except LookupError as error:
        raise ConfigurationError(f"{settings.address_label}: {error.args[0]}") from error
    try:
        return make_service(plugin, settings.transport, settings.settings)
    except SettingsMissing as error:
        how = "give them as settings="
        if not settings.config_location:
            how = f"give --setting {settings.service}.{error.keys[0]}=VALUE"
        raise ConfigurationError(f"{settings.address_label}: {error}: {how}") from error
    except BaseException as error:  # a third party's service may raise anything at all
        raise ConfigurationError(
            f"{settings.address_label}: the service {quote_value(settings.service)} failed: "
            f"{exception_text(error)}"
        ) from error


class SettingsMissing(Exception):
    """A service has no settings, and its class of settings has not only defaults.

    *keys* are those without one.
    """

    def __init__(self, text: str, keys: Sequence[str]) -> None:
        super().__init__(text)
        self.keys = keys


def make_service(
    plugin: Any, transport: Transport, settings: Any = None
) -> IProtocolFactory | DatagramProtocol:
    """Return what the service *plugin* gives for *transport*, by default with default settings.

    Raises `SettingsMissing`, TypeError if that cannot serve a listener, and whatever the service
    raises.
    """
    kind = getattr(plugin, "settings", None)
    if settings is None and kind is not None:
        required = (
            [field.name for field in fields(kind) if field.default is NOTHING] if has(kind) else []
        )
        if required:
            name = quote_value(plugin.name)
            text = f"the service {name} needs the settings {', '.join(required)}"
            raise SettingsMissing(text, required)
        settings = kind()
    make = plugin.stream if transport.is_stream else plugin.datagram
    return _checked(make(settings), transport.is_stream)


def _checked(service: Any, is_stream: bool) -> IProtocolFactory | DatagramProtocol:
    """Return what a service gave.  Raises TypeError if it cannot serve a listener."""
    if not hasattr(service, "buildProtocol" if is_stream else "datagramReceived"):
        kind = "a Factory" if is_stream else "a DatagramProtocol"
        raise TypeError(f"it gave {shorten(repr(service), MAX_QUOTED_LENGTH)} instead of {kind}")
    with suppress(AttributeError):  # a frozen service stays noisy
        service.noisy = False  # our own line says what the listener waits for
    return service  # type: ignore[no-any-return]


def check_protocols(listeners: Sequence[ListenerSettings], services: Sequence[Any]) -> None:
    """Raise `ConfigurationError` if two listeners have one datagram protocol.

    A factory may serve many listeners; a datagram protocol has one transport only.
    """
    seen: set[int] = set()
    for settings, service in zip(listeners, services, strict=True):
        if not settings.transport.is_stream:
            if id(service) in seen:
                raise ConfigurationError(
                    f"{settings.address_label}: the service {settings.service_name!r} gave a "
                    "DatagramProtocol that it has given to another listener"
                )
            seen.add(id(service))


def _embedded_service(settings: ListenerSettings) -> IProtocolFactory | DatagramProtocol:
    try:
        return check_service_object(settings.transport, settings.service)
    except ValueError as error:
        raise ConfigurationError(f"{settings.address_label}: service: {error}") from error
