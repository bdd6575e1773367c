"""The output of --check and --list-services.

A check goes through the four steps for each listener, shows the value in effect of each
option, and leaves nothing behind.  An address in use is only a note: the server that uses it
may be the one whose settings are checked.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from netsrv.config.model import Configuration, ListenerSettings, Transport
from netsrv.registry import Registry
from netsrv.server.binding import (
    check_options_fit,
    open_socket,
    opening_order,
    try_options,
)
from netsrv.server.factories import build_factory
from netsrv.sockets.addresses import printable
from netsrv.sockets.options import show_value
from netsrv.sockets.steps import AddressUnavailable, OptionInEffect


def check(configuration: Configuration, registry: Registry) -> Iterator[str]:
    """Check a configuration; yield the report line by line.

    Raises `ConfigurationError` or `netsrv.sockets.SocketError`, as a start would.
    """
    for settings in configuration.listeners:
        build_factory(settings, registry)
    in_effect: list[tuple[ListenerSettings, Sequence[OptionInEffect]]] = []
    same: int | None = None
    with ExitStack() as stack:
        for index in opening_order(configuration.listeners):
            settings = configuration.listeners[index]
            port = settings.port
            try:
                opened = open_socket(settings, same)
            except AddressUnavailable as error:
                if not error.in_use:
                    raise
                yield f"{settings.address_label} ({settings.service_name})"
                yield f"  note: {error}"
                options = try_options(settings)
            else:
                stack.callback(opened.close)
                port = opened.port
                yield f"{settings.transport} {opened.address} ({settings.service_name})"
                options = opened.options
            if settings.transport is Transport.TCP and same is None and isinstance(port, int):
                same = port
            in_effect.append((settings, options))
            yield from _table(options)
        check_options_fit(configuration.listeners, in_effect)


def _table(options: tuple[OptionInEffect, ...]) -> Iterator[str]:
    yield f"  {'option':<20} {'asked for':>12} {'in effect':>12}"
    for option in options:
        in_effect = "unknown" if option.in_effect is None else show_value(option.in_effect)
        yield f"  {option.name:<20} {show_value(option.asked):>12} {in_effect:>12}"


def list_services(registry: Registry) -> Iterator[str]:
    """Yield name, transports and one line of each service that is installed."""
    for name, service in sorted(registry.services.items()):
        description = printable(service.description)
        yield f"{name:<12} {registry.transports(name):<8} {description}"
