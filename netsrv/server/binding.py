"""Binds listeners: opens the socket of each, all or none.

No service is needed for it, and no reactor.  A port ``same`` follows the first TCP listener.
"""

import socket
from collections.abc import Callable, Iterable, Sequence

from attrs import evolve

from netsrv.config.model import ConfigurationError, ListenerSettings, Transport
from netsrv.interfaces import ListenerInfo
from netsrv.server.descriptors import check_spare_descriptors
from netsrv.sockets.addresses import SAME, Address, InheritedName, InternetAddress, UnixPath
from netsrv.sockets.inherited import claimed_socket, inherited_sockets, open_inherited
from netsrv.sockets.opening import (
    OpenSocket,
    Resolver,
    open_datagram,
    open_datagram_at,
    open_stream,
    open_unix,
)
from netsrv.sockets.steps import (
    AddressUnavailable,
    OptionInEffect,
    OptionRefused,
    create,
    set_options,
)

MAX_SAME_PORT_TRIES = 16
"""How often to look for a port that is free on TCP and UDP."""


def bind(listeners: Sequence[ListenerSettings]) -> list[OpenSocket]:
    """Open the sockets of *listeners*, in their order.

    Raises `ConfigurationError` or `netsrv.sockets.SocketError`, and then no socket is open.
    """
    sockets = _open_all(listeners)
    try:
        check_spare_descriptors()
        options = (opened.options for opened in sockets)
        check_options_fit(listeners, zip(listeners, options, strict=True))
    except (AddressUnavailable, ConfigurationError):
        close_all(sockets)
        raise
    return sockets


def close_all(sockets: Iterable[OpenSocket]) -> None:
    """Close sockets."""
    for opened in sockets:
        opened.close()


def info_of(settings: ListenerSettings, opened: OpenSocket) -> ListenerInfo:
    """Return a new identity for a listener, with the address in effect."""
    return ListenerInfo(settings.transport, opened.address, settings.service_name)


def expand(listeners: Iterable[ListenerSettings]) -> list[ListenerSettings]:
    """Return a listener for each socket: systemd may pass several of one name."""
    expanded = []
    for settings in listeners:
        address = settings.address
        addresses: Sequence[Address] = (address,)
        if isinstance(address, InheritedName) and address.occurrence is None:
            count = len(inherited_sockets().find(settings.transport, address.name))
            if count > 1:
                addresses = [evolve(address, occurrence=number) for number in range(count)]
        expanded += [
            settings if chosen is address else evolve(settings, address=chosen)
            for chosen in addresses
        ]
    return expanded


def opening_order(listeners: Sequence[ListenerSettings]) -> list[int]:
    """Return the listeners' indices, those last whose port is `SAME` as another's."""
    return sorted(
        range(len(listeners)),
        key=lambda index: listeners[index].port == SAME,
    )


def open_socket(
    settings: ListenerSettings, same: int | None = None, resolver: Resolver | None = None
) -> OpenSocket:
    """Open one listener's socket; *same* is the port that `SAME` stands for."""
    address, options = settings.address, settings.all_options()
    if (claimed := claimed_socket(settings.address_label)) is not None:
        return claimed
    if isinstance(address, InheritedName):
        return open_inherited(settings.transport, address, options, settings.backlog)
    if isinstance(address, UnixPath):
        return open_unix(address, options, settings.backlog, settings.mode)
    if address.port == SAME:
        address = evolve(address, port=same or 0)
    if settings.transport.is_stream:
        return open_stream(address, options, settings.backlog, resolver)
    return open_datagram(address, options, resolver)


def make_reopener(settings: ListenerSettings, opened: OpenSocket) -> Callable[[], socket.socket]:
    """Return a function that reopens a UDP listener's socket at its current address.

    It closes the old socket first.  The function raises `netsrv.sockets.SocketError`.
    """
    options = settings.all_options()
    label = f"{settings.transport} {opened.address}"
    family, sockaddr = socket.AddressFamily(opened.sock.family), opened.sockaddr

    def reopen() -> socket.socket:
        opened.sock.close()
        if isinstance(settings.address, InheritedName):
            opened.sock = open_socket(settings).sock
        else:
            opened.sock = open_datagram_at(label, family, sockaddr, options).sock
        return opened.sock

    return reopen


def try_options(
    settings: ListenerSettings, resolver: Resolver | None = None
) -> tuple[OptionInEffect, ...]:
    """Set the options on a socket that is never bound.  Raises as `open_socket` would."""
    with create(*look_up(settings, resolver or Resolver())) as sock:
        try:
            return tuple(set_options(sock, settings.all_options()))
        except OptionRefused as error:
            raise OptionRefused(f"{settings.address_label}: {error}") from error


def look_up(
    settings: ListenerSettings, resolver: Resolver
) -> tuple[socket.AddressFamily, socket.SocketKind]:
    """Look up the listener's host; return family and kind of its socket.

    Raises `AddressUnavailable`.
    """
    kind = socket.SOCK_STREAM if settings.transport.is_stream else socket.SOCK_DGRAM
    address, family = settings.address, socket.AF_UNIX
    if isinstance(address, InheritedName) and settings.transport.takes_port:
        family = _inherited_family(settings.transport, address)
    if isinstance(address, InternetAddress):
        family, _ = resolver.resolve(settings.address_label, evolve(address, port=0), kind)
    return family, kind


def _inherited_family(transport: Transport, address: InheritedName) -> socket.AddressFamily:
    """Return the family of an inherited socket; IPv4 if there is no such socket."""
    for passed in inherited_sockets().find(transport, address.name):
        if passed.sock is not None:
            return socket.AddressFamily(passed.sock.family)
    return socket.AF_INET


def check_options_fit(
    listeners: Sequence[ListenerSettings],
    applied: Iterable[tuple[ListenerSettings, Sequence[OptionInEffect]]],
) -> None:
    """Raise `ConfigurationError` for an option that fits none of the sockets it is meant for.

    The command line gives an option to all of its listeners at once, a file to each.
    *applied* has the options that each socket took.
    """
    fitting = {
        (settings.config_location, option.name)
        for settings, options in applied
        for option in options
    }
    for settings in listeners:
        location = settings.config_location
        for option in settings.socket_options:
            if (location, option.name) not in fitting:
                label = f"{location}.socket_options." if location else "--socket-option "
                raise ConfigurationError(
                    f"{label}{option.name}: fits none of the sockets that are asked for"
                )


def _open_all(listeners: Sequence[ListenerSettings]) -> list[OpenSocket]:
    """Open every socket or none; where `SAME` follows port 0, look for one free on all."""
    tries = MAX_SAME_PORT_TRIES if _same_follows_any_port(listeners) else 1
    while True:
        tries -= 1
        try:
            return _open_in_order(listeners)
        except AddressUnavailable as error:
            if not (tries and error.in_use):
                raise


def _same_follows_any_port(listeners: Sequence[ListenerSettings]) -> bool:
    first = next((settings for settings in listeners if settings.transport is Transport.TCP), None)
    is_any = first is not None and first.port == 0
    return is_any and any(settings.port == SAME for settings in listeners)


def _open_in_order(listeners: Sequence[ListenerSettings]) -> list[OpenSocket]:
    opened: dict[int, OpenSocket] = {}
    order = opening_order(listeners)
    first_tcp = next(
        (index for index in order if listeners[index].transport is Transport.TCP), None
    )
    try:
        for index in order:
            same = opened[first_tcp].port if first_tcp in opened else None
            opened[index] = open_socket(listeners[index], same)
    except BaseException:
        close_all(opened.values())
        raise
    return [opened[index] for index in range(len(listeners))]
