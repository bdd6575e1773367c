"""A configuration that is ready for a reload: a thread does what takes its time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from attrs import evolve, field, frozen

from netsrv.config.model import Configuration, ListenerSettings, Transport
from netsrv.registry import Registry
from netsrv.server.binding import expand, look_up
from netsrv.server.certificates import Stores, load_certificates
from netsrv.sockets.addresses import SAME
from netsrv.sockets.opening import Resolver

Key = tuple[str, int]
"""The identity of a listener across reloads: its address label, and a number among equals."""


@frozen
class CheckedConfiguration:
    """What a reload needs that takes its time, and that a thread can do."""

    configuration: Configuration
    registry: Registry
    resolver: Resolver
    """Has the answers for all host names that the reload needs."""
    certificates: Stores = field(factory=dict)
    """The certificates that are not in use yet."""


def check_configuration(
    configuration: Configuration, running: Sequence[ListenerSettings], registry: Registry
) -> CheckedConfiguration:
    """Do in a thread what a reload can do beside a server that runs with settings *running*.

    Host names are looked up, certificates are loaded, and settings that are equal to running
    ones become those, so that to compare them takes no time.

    Raises `ConfigurationError` or `netsrv.sockets.SocketError`.
    """
    present = dict(zip(keys_of(running), running, strict=True))
    resolver = Resolver()
    listeners = []
    wanted = expand(configuration.listeners)
    for key, settings in zip(keys_of(wanted), wanted, strict=True):
        before = present.get(key)
        if before is not None and before == settings:
            listeners.append(before)
            continue
        listeners.append(settings)
        if before is None or before.all_options() != settings.all_options():
            look_up(settings, resolver)
    configuration = evolve(configuration, listeners=tuple(listeners))
    in_use = {settings.tls for settings in running}
    new = [settings for settings in listeners if settings.tls not in in_use]
    return CheckedConfiguration(configuration, registry, resolver, load_certificates(new))


def keys_of(listeners: Iterable[ListenerSettings]) -> Iterator[Key]:
    """Yield the identity of each listener."""
    listeners = list(listeners)
    first = next((settings for settings in listeners if settings.transport is Transport.TCP), None)
    seen: Counter[str] = Counter()
    for settings in listeners:
        label = settings.address_label
        if settings.port == SAME and first is not None:
            label = f"{label} as {first.address_label}"
        yield label, seen[label]
        seen[label] += 1
