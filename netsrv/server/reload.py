"""A reload: the difference between the running listeners and a new configuration.

Whatever can fail is done first, and discarded if another part fails: a reload happens as a
whole or not at all.  Sockets of unchanged addresses stay open.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from attrs import define, evolve, field, frozen

from netsrv.config.model import Configuration, ListenerSettings, Transport
from netsrv.registry import Registry
from netsrv.server.binding import (
    check_options_fit,
    close_all,
    look_up,
    open_socket,
    opening_order,
    try_options,
)
from netsrv.server.factories import build_factory, check_protocols
from netsrv.server.listeners import Listeners, RunningListener
from netsrv.server.prepare import PreparedListener
from netsrv.settings import exception_text, quote_value
from netsrv.sockets.addresses import SAME, InternetAddress, UnixPath
from netsrv.sockets.opening import OpenSocket, Resolver
from netsrv.sockets.steps import AddressUnavailable, OptionInEffect, SocketError

Place = tuple[Transport, Any]
"""A port or a path, on a transport."""

Key = tuple[str, int]
"""The identity of a listener across reloads: its address label, and a number among equals."""


@frozen
class PlannedListener:
    """A listener that the reload adds."""

    settings: ListenerSettings
    service: Any
    socket: OpenSocket | None
    """None if the address is free only once the listeners of *blocked_by* are closed."""
    blocked_by: tuple[RunningListener, ...] = ()
    same: int | None = None
    """The port that `SAME` stands for."""


@define
class ReloadPlan:
    """The steps of a reload, in this order; `apply` takes them."""

    removed: list[RunningListener] = field(factory=list)
    changed: list[tuple[RunningListener, ListenerSettings, Any]] = field(factory=list)
    """Listeners with their new settings and service."""
    added: list[PlannedListener] = field(factory=list)
    kept: list[RunningListener] = field(factory=list)
    resolver: Resolver = field(factory=Resolver)
    """Answers for the host names."""

    def discard(self) -> None:
        """Close the sockets that were opened for the plan."""
        close_all(planned.socket for planned in self.added if planned.socket is not None)

    def apply(self, listeners: Listeners) -> tuple[list[RunningListener], list[str]]:
        """Return the listeners that serve something new, and a line for each step that failed."""
        serving, problems = [], []
        for listener in self.removed:
            listeners.remove(listener)
        for listener, settings, service in self.changed:
            try:
                problems += listener.apply(settings, service)
                serving.append(listener)
            except BaseException as error:  # whatever a service raises, the next step is taken
                problems.append(_not_started(settings, error))
        for planned in self.added:
            try:
                serving.append(_add(planned, listeners, self.resolver))
            except BaseException as error:
                problems.append(_not_started(planned.settings, error))
                serving += _restore(planned.blocked_by, listeners)
        return serving, problems


@frozen
class CheckedConfiguration:
    """What a reload needs that takes its time, and that a thread can do."""

    configuration: Configuration
    registry: Registry
    resolver: Resolver
    """Has the answers for all host names that the reload needs."""


def check_configuration(
    configuration: Configuration, running: Sequence[ListenerSettings], registry: Registry
) -> CheckedConfiguration:
    """Do in a thread what a reload can do beside a server that runs with settings *running*.

    Host names are looked up, and settings that are equal to running ones become those, so that
    to compare them takes no time.  Raises `netsrv.sockets.SocketError`.
    """
    present = dict(zip(_keys(running), running, strict=True))
    resolver = Resolver()
    listeners = []
    for key, settings in zip(_keys(configuration.listeners), configuration.listeners, strict=True):
        before = present.get(key)
        if before is not None and before == settings:
            listeners.append(before)
            continue
        listeners.append(settings)
        if before is None or before.all_options() != settings.all_options():
            look_up(settings, resolver)
    configuration = evolve(configuration, listeners=tuple(listeners))
    return CheckedConfiguration(configuration, registry, resolver)


def plan_reload(checked: CheckedConfiguration, running: Sequence[RunningListener]) -> ReloadPlan:
    """Compare a configuration with the running listeners, and open the sockets that it adds.

    Raises `ConfigurationError` or `netsrv.sockets.SocketError`, and then no socket stays open.
    """
    configuration, registry = checked.configuration, checked.registry
    healthy = [listener for listener in running if not listener.failed]
    present = dict(zip(_keys([each.settings for each in healthy]), healthy, strict=True))
    wanted = dict(zip(_keys(configuration.listeners), configuration.listeners, strict=True))
    services = {
        key: _service(settings, present.get(key), registry) for key, settings in wanted.items()
    }
    check_protocols(configuration.listeners, list(services.values()))
    options = [
        (settings, _options(settings, present.get(key), checked.resolver))
        for key, settings in wanted.items()
    ]
    check_options_fit(configuration.listeners, options)
    staying = {listener for key, listener in present.items() if key in wanted}
    plan = ReloadPlan(
        [listener for listener in running if listener not in staying], resolver=checked.resolver
    )
    for key, settings in wanted.items():
        listener = present.get(key)
        if listener is not None and settings == listener.settings:
            plan.kept.append(listener)
        elif listener is not None:
            plan.changed.append((listener, settings, services[key]))
    try:
        _plan_additions(plan, present, wanted, services)
    except BaseException:
        plan.discard()
        raise
    return plan


def _plan_additions(
    plan: ReloadPlan,
    present: dict[Key, RunningListener],
    wanted: dict[Key, ListenerSettings],
    services: dict[Key, Any],
) -> None:
    """Open the sockets of the listeners that are not present, and add them to the plan."""
    first_tcp: Any = next(
        (key for key, each in wanted.items() if each.transport is Transport.TCP), None
    )
    keys = list(wanted)
    removed = _by_address(plan.removed)
    first_added: PlannedListener | None = None
    for index in opening_order(list(wanted.values())):
        key = keys[index]
        if key not in present:
            same = _same_port(first_added, present.get(first_tcp), wanted.get(first_tcp))
            planned = _plan_listener(plan.resolver, removed, wanted[key], services[key], same)
            plan.added.append(planned)
            first_added = planned if key == first_tcp else first_added


def prepare_listener(
    settings: ListenerSettings, running: Sequence[RunningListener], registry: Registry
) -> PreparedListener:
    """Build the service of one more listener, and bind its socket.

    Raises `ConfigurationError` or `netsrv.sockets.SocketError`, and then no socket stays open.
    """
    service, resolver = build_factory(settings, registry), Resolver()
    if not settings.transport.is_stream:
        check_protocols(
            [*(listener.settings for listener in running), settings],
            [*(listener.service for listener in running), service],
        )
    check_options_fit((settings,), [(settings, try_options(settings, resolver))])
    tcp = (listener.port for listener in running if listener.settings.transport is Transport.TCP)
    same = next(tcp, None) if settings.port == SAME else None
    return PreparedListener(settings, service, open_socket(settings, same, resolver))


def _keys(listeners: Iterable[ListenerSettings]) -> list[Key]:
    listeners = list(listeners)
    first = next((settings for settings in listeners if settings.transport is Transport.TCP), None)
    seen: Counter[str] = Counter()
    keys = []
    for settings in listeners:
        label = settings.address_label
        if settings.port == SAME and first is not None:
            label = f"{label} as {first.address_label}"
        keys.append((label, seen[label]))
        seen[label] += 1
    return keys


def _service(
    settings: ListenerSettings, present: RunningListener | None, registry: Registry
) -> Any:
    """Keep the service of a present listener, with its state, unless another is asked for."""
    if present is not None:
        return present.service_for(settings, registry)
    return build_factory(settings, registry)


def _options(
    settings: ListenerSettings, present: RunningListener | None, resolver: Resolver
) -> Sequence[OptionInEffect]:
    """Return the options that a listener's socket takes, tried out only if they are new."""
    if present is not None and (
        settings is present.settings or settings.all_options() == present.settings.all_options()
    ):
        options: Sequence[OptionInEffect] = present.socket.options
        return options
    return try_options(settings, resolver)


def _same_port(
    added: PlannedListener | None, present: RunningListener | None, wanted: ListenerSettings | None
) -> int | None:
    """Return the port of the first TCP listener: the one in effect, if that is known."""
    if present is not None:
        return present.port
    if added is not None and added.socket is not None:
        return added.socket.port
    port = wanted.port if wanted is not None else None
    return port if isinstance(port, int) else None


def _plan_listener(
    resolver: Resolver,
    removed: Mapping[Place, Sequence[RunningListener]],
    settings: ListenerSettings,
    service: Any,
    same: int | None,
) -> PlannedListener:
    """Open a socket, unless a listener that the plan removes has to be closed first."""
    conflicts = removed.get(_place(settings, same), ())
    try:
        return PlannedListener(settings, service, open_socket(settings, same, resolver), (), same)
    except AddressUnavailable as error:
        if not (error.in_use and conflicts):
            raise
        return PlannedListener(settings, service, None, tuple(conflicts), same)


def _place(settings: ListenerSettings, same: int | None) -> Place:
    """Return the place that *settings* ask for: only one of it may be free."""
    if isinstance(settings.address, UnixPath):
        return settings.transport, os.path.abspath(settings.address.path)
    port = settings.address.port
    return settings.transport, same if port == SAME else port


def _by_address(listeners: Iterable[RunningListener]) -> Mapping[Place, list[RunningListener]]:
    """Return listeners by the place that they have."""
    places: defaultdict[Place, list[RunningListener]] = defaultdict(list)
    for listener in listeners:
        identity = listener.socket.unix_identity
        if listener.settings.transport.takes_port:
            places[listener.settings.transport, listener.port].append(listener)
        elif identity is not None:
            places[listener.settings.transport, identity[0]].append(listener)
    return places


def _add(planned: PlannedListener, listeners: Listeners, resolver: Resolver) -> RunningListener:
    """Add a listener.  Raises what opening its socket or starting its service raises."""
    opened = planned.socket or open_socket(planned.settings, planned.same, resolver)
    try:
        return listeners.add(PreparedListener(planned.settings, planned.service, opened))
    except BaseException:
        opened.close()
        raise


def _restore(closed: Iterable[RunningListener], listeners: Listeners) -> list[RunningListener]:
    """Reopen the listeners that were closed for one that cannot be added."""
    restored = []
    for listener in closed:
        with suppress(BaseException):  # another program has taken both addresses
            planned = PlannedListener(listener.settings, listener.service, None)
            resolver = Resolver()
            if isinstance(listener.settings.address, InternetAddress):
                resolver.remember(listener.settings.address, listener.socket)
            restored.append(_add(planned, listeners, resolver))
    return restored


def _not_started(settings: ListenerSettings, error: BaseException) -> str:
    if isinstance(error, SocketError):
        return str(error)
    name, text = quote_value(settings.service_name), exception_text(error)
    return f"{settings.address_label}: the service {name} cannot be started: {text}"
