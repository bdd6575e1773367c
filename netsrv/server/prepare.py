"""What is made before there is a reactor: services found, sockets opened, all or none.

It may need root, and it is the part of a start that can fail for the user's reasons.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from attrs import NOTHING, evolve, fields, frozen, has
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import DatagramProtocol

from netsrv.config.model import (
    Configuration,
    ConfigurationError,
    ListenerSettings,
    check_service_object,
)
from netsrv.files import LogFile
from netsrv.registry import Registry, find_services
from netsrv.sockets.addresses import SAME, InternetAddress, UnixPath
from netsrv.sockets.opening import (
    OpenSocket,
    open_datagram,
    open_datagram_at,
    open_stream,
    open_unix,
    resolve,
)
from netsrv.sockets.steps import (
    AddressUnavailable,
    OptionInEffect,
    OptionRefused,
    create,
    set_options,
)

SPARE_DESCRIPTORS = 16
"""What must be left beside the sockets: the reactor's own, the log, modules being imported."""

SAME_PORT_TRIES = 16
"""How often a port that is free on TCP and UDP is looked for."""


@frozen
class PreparedListener:
    """What a listener is made of: its settings, its service, and its open socket."""

    settings: ListenerSettings
    service: IProtocolFactory | DatagramProtocol
    socket: OpenSocket

    @property
    def name(self) -> str:
        """The listener in the log, with the address in effect: ``tcp 0.0.0.0:7 (echo)``."""
        return f"{self.settings.transport} {self.socket.address} ({self.settings.service_name})"


@frozen
class Prepared:
    """All that can be made without a reactor."""

    listeners: tuple[PreparedListener, ...]
    problems: tuple[str, ...]
    """The plugins that could not be used, a line each."""
    access_log: LogFile | None = None

    def close(self) -> None:
        """Close all sockets, and the access log."""
        close_all([each.socket for each in self.listeners])
        if self.access_log is not None:
            self.access_log.close()


def prepare(configuration: Configuration, registry: Registry | None = None) -> Prepared:
    """Find all services and open all sockets, in the configuration's order.

    Raises `ConfigurationError` or `netsrv.sockets.SocketError`, and then no socket is open.
    """
    listeners = configuration.listeners
    registry = registry or find_services()
    services = [build_factory(each, registry) for each in listeners]
    check_protocols(listeners, services)
    sockets = _open_all(listeners)
    try:
        _check_spare()
        taken = zip(listeners, (each.options for each in sockets), strict=True)
        check_options_fit(listeners, taken)
        access_log = open_access_log(configuration)
    except (AddressUnavailable, ConfigurationError):
        close_all(sockets)
        raise
    made = map(PreparedListener, listeners, services, sockets)
    return Prepared(tuple(made), tuple(registry.problems), access_log)


def open_access_log(configuration: Configuration) -> LogFile | None:
    """Open the access log, if one is asked for.  Raises `ConfigurationError`."""
    path = configuration.access_log
    if path is None:
        return None
    try:
        return LogFile(path)
    except (OSError, ValueError) as error:
        words = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"access log {path}: {words}") from error


def close_all(sockets: list[OpenSocket]) -> None:
    """Close what has been opened."""
    for each in sockets:
        each.close()


def build_factory(
    settings: ListenerSettings, registry: Registry
) -> IProtocolFactory | DatagramProtocol:
    """Have a listener's service make its factory or protocol; a program's own is one already.

    Raises `ConfigurationError`.
    """
    if settings.embedded:
        return _own_service(settings)
    try:
        if settings.transport == "udp":
            found = registry.datagram(settings.service)
            service: Any = found.datagram(_service_settings(settings, found))
        else:
            found = registry.stream(settings.service)
            service = found.stream(_service_settings(settings, found))
    except LookupError as error:
        raise ConfigurationError(f"{settings.address_label}: {error.args[0]}") from error
    except ConfigurationError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigurationError(
            f"{settings.address_label}: the service {settings.service!r} failed: "
            f"{type(error).__name__}: {error}"
        ) from error
    method = "datagramReceived" if settings.transport == "udp" else "buildProtocol"
    if not hasattr(service, method):
        kind = "a DatagramProtocol" if settings.transport == "udp" else "a Factory"
        raise ConfigurationError(
            f"{settings.address_label}: the service {settings.service!r} gave {service!r} "
            f"instead of {kind}"
        )
    with suppress(AttributeError):  # a frozen one stays noisy
        service.noisy = False  # the line that says what we wait for is enough
    return service  # type: ignore[no-any-return]


def _own_service(settings: ListenerSettings) -> IProtocolFactory | DatagramProtocol:
    try:
        return check_service_object(settings.transport, settings.service)
    except ValueError as error:
        raise ConfigurationError(f"{settings.address_label}: service: {error}") from error


def _service_settings(listener: ListenerSettings, service: Any) -> Any:
    """Give the service's own settings; those of a service that has any are never None."""
    kind = getattr(service, "settings", None)
    if listener.settings is not None or kind is None:
        return listener.settings
    required = [each.name for each in fields(kind) if each.default is NOTHING] if has(kind) else []
    if required:
        how = (
            "give them as settings="
            if listener.config_location
            else "they stand in a file, see --config"
        )
        raise ConfigurationError(
            f"{listener.address_label}: the service {listener.service!r} needs the settings "
            f"{', '.join(required)}: {how}"
        )
    return kind()


def check_protocols(listeners: tuple[ListenerSettings, ...], services: list[Any]) -> None:
    """A factory may serve many listeners, a datagram protocol has one transport only."""
    seen: set[int] = set()
    for settings, service in zip(listeners, services, strict=True):
        if settings.transport == "udp":
            if id(service) in seen:
                raise ConfigurationError(
                    f"{settings.address_label}: the service {settings.service_name!r} gave a "
                    "DatagramProtocol that it has given to another listener"
                )
            seen.add(id(service))


def _open_all(listeners: tuple[ListenerSettings, ...]) -> list[OpenSocket]:
    """Open every socket or none; where `SAME` follows a port 0, look for one free on all."""
    tries = SAME_PORT_TRIES if _kernel_chooses_for_many(listeners) else 1
    while True:
        tries -= 1
        try:
            return _open_each(listeners)
        except AddressUnavailable as error:
            if not (tries and error.in_use):
                raise


def _kernel_chooses_for_many(listeners: tuple[ListenerSettings, ...]) -> bool:
    ports = [getattr(each.address, "port", None) for each in listeners]
    first = next((each.address for each in listeners if each.transport == "tcp"), None)
    return SAME in ports and getattr(first, "port", None) == 0


def _open_each(listeners: tuple[ListenerSettings, ...]) -> list[OpenSocket]:
    """Open the sockets, those whose port depends on another's last."""
    opened: dict[int, OpenSocket] = {}
    order = opening_order(listeners)
    first_tcp = next((i for i in order if listeners[i].transport == "tcp"), None)
    try:
        for index in order:
            same = opened[first_tcp].port if first_tcp in opened else None
            opened[index] = open_socket(listeners[index], same)
    except BaseException:
        close_all(list(opened.values()))
        raise
    return [opened[index] for index in range(len(listeners))]


def opening_order(listeners: tuple[ListenerSettings, ...]) -> list[int]:
    """The listeners' indices, those whose port is `SAME` as another's last."""
    return sorted(
        range(len(listeners)),
        key=lambda index: getattr(listeners[index].address, "port", None) == SAME,
    )


def open_socket(settings: ListenerSettings, same: int | None = None) -> OpenSocket:
    """Open one listener's socket; *same* is the port that `SAME` stands for."""
    address, options = settings.address, settings.all_options()
    if isinstance(address, UnixPath):
        return open_unix(address, options, settings.backlog, settings.mode)
    if address.port == SAME:
        address = evolve(address, port=same or 0)
    if settings.transport == "udp":
        return open_datagram(address, options)
    return open_stream(address, options, settings.backlog)


def try_options(settings: ListenerSettings) -> tuple[OptionInEffect, ...]:
    """Set the options on a socket that never gets the address.  Raises as a start would."""
    address, family = settings.address, socket.AF_UNIX
    kind = socket.SOCK_DGRAM if settings.transport == "udp" else socket.SOCK_STREAM
    if isinstance(address, InternetAddress):
        family, _ = resolve(settings.address_label, evolve(address, port=0), kind)
    with create(family, kind) as sock:
        try:
            return tuple(set_options(sock, settings.all_options()))
        except OptionRefused as error:
            raise OptionRefused(f"{settings.address_label}: {error}") from error


def reopener(prepared: PreparedListener) -> Callable[[], socket.socket]:
    """Give what opens a datagram listener's socket anew, at the address now in effect.

    It takes the place of the old one, which must be closed.  Raises `netsrv.sockets.SocketError`.
    """
    opened, options = prepared.socket, prepared.settings.all_options()
    place = f"{prepared.settings.transport} {opened.address}"
    family, sockaddr = opened.sock.family, opened.sockaddr

    def reopen() -> socket.socket:
        opened.sock = open_datagram_at(place, socket.AddressFamily(family), sockaddr, options).sock
        return opened.sock

    return reopen


def _check_spare() -> None:
    """Beside the sockets a reactor needs descriptors, and so does Python for its modules."""
    spare: list[int] = []
    try:
        while len(spare) < SPARE_DESCRIPTORS:
            spare.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        raise AddressUnavailable(
            f"{error.strerror}: the sockets leave {len(spare)} descriptors, and the server "
            f"needs {SPARE_DESCRIPTORS}; raise the limit (ulimit -n)"
        ) from error
    finally:
        for each in spare:
            os.close(each)


def check_options_fit(
    listeners: tuple[ListenerSettings, ...],
    taken: Iterable[tuple[ListenerSettings, Sequence[OptionInEffect]]],
) -> None:
    """An option that no socket has *taken* is a mistake of whoever asked for it.

    The command line asks for all of its listeners at once, a file for each.
    """
    found = {
        (listener.config_location, each.name) for listener, options in taken for each in options
    }
    for each in listeners:
        for option in each.socket_options:
            if (each.config_location, option.name) not in found:
                place = (
                    f"{each.config_location}.socket_options."
                    if each.config_location
                    else "--socket-option "
                )
                raise ConfigurationError(
                    f"{place}{option.name}: fits none of the sockets that are asked for"
                )
