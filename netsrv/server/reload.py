"""A reload: the difference between the running listeners and a new configuration.

Whatever can fail is done first, and discarded if another part fails: a reload happens as a
whole or not at all.  Sockets of unchanged addresses stay open.  Both parts are generators, since
thousands of listeners would take too long for one turn of the reactor.
"""

from __future__ import annotations

import os
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define, field, frozen

from netsrv.config.model import ListenerSettings, Transport
from netsrv.registry import Registry
from netsrv.server.binding import (
    check_options_fit,
    close_all,
    expand,
    open_socket,
    opening_order,
    try_options,
)
from netsrv.server.certificates import Stores, load_certificates
from netsrv.server.checked import CheckedConfiguration, Key, keys_of
from netsrv.server.factories import build_factory, check_protocols
from netsrv.server.listener_set import Listeners, certificates_in_use
from netsrv.server.listeners import RunningListener
from netsrv.server.prepare import PreparedListener
from netsrv.server.slices import Phase, Steps
from netsrv.settings import count_of, exception_text, quote_value
from netsrv.sockets.addresses import SAME, InheritedName, InternetAddress, UnixPath
from netsrv.sockets.opening import OpenSocket, Resolver
from netsrv.sockets.steps import AddressUnavailable, OptionInEffect, SocketError

if TYPE_CHECKING:
    from netsrv.tls.store import CertificateStore

Item = TypeVar("Item")

Place = tuple[Transport, Any]
"""A port or a path, on a transport."""


@frozen
class PlannedListener:
    """A listener that the reload adds."""

    settings: ListenerSettings
    service: Any
    certificates: CertificateStore | None
    socket: OpenSocket | None
    """None if the address is free only once the listeners of *blocked_by* are closed."""
    blocked_by: tuple[RunningListener, ...] = ()
    same: int | None = None
    """The port that `SAME` stands for."""


@define
class ReloadPlan:
    """What a reload changes; `apply` does it, and keeps the outcome."""

    removed: list[RunningListener] = field(factory=list)
    changed: list[tuple[RunningListener, ListenerSettings, ListenerSettings, Any, Any]] = field(
        factory=list
    )
    """Listeners with the settings that they had, and their new settings, service, certificates."""
    added: list[PlannedListener] = field(factory=list)
    kept: list[RunningListener] = field(factory=list)
    resolver: Resolver = field(factory=Resolver)
    """Answers for the host names."""
    closed: deque[RunningListener] = field(factory=deque, init=False)
    """Listeners that `apply` has closed."""
    serving: list[RunningListener] = field(factory=list, init=False)
    """Listeners that serve something new."""
    problems: list[str] = field(factory=list, init=False)
    """A line for each change that failed."""
    _started: set[int] = field(factory=set, init=False)
    """The ids of the planned listeners that were started, or have failed to."""

    def counts(self) -> dict[str, Any]:
        """Return how many listeners the reload kept, changed, added and closed, for the log."""
        return {
            "listeners": count_of(len(self.kept), "listener"),
            "kept": len(self.kept),
            "changed": len(self.changed),
            "added": len(self.added),
            "gone": len(self.closed),
        }

    def discard(self) -> None:
        """Close the sockets that were opened for the plan and for which no listener was started."""
        unused = (planned.socket for planned in self.added if id(planned) not in self._started)
        close_all(opened for opened in unused if opened is not None)

    def apply(self, listeners: Listeners) -> Steps[None]:
        """Change one listener in each step.

        One that the program has closed meanwhile stays so, and so does an update of one that the
        plan keeps or changes.
        """
        blocking = {listener for planned in self.added for listener in planned.blocked_by}
        for listener in self.removed:
            if listener not in blocking and listener in listeners.running:
                self._close(listener, listeners)
                yield Phase.APPLYING
        self.removed.clear()  # only `closed` keeps them, and lets them go one by one
        for listener, before, *change in self.changed:
            if listener in listeners.running and listener.settings is before:
                self._change(listener, *change)
                yield Phase.APPLYING
        for group in self._groups():
            closed = [each for each in group[0].blocked_by if each in listeners.running]
            for listener in closed:
                self._close(listener, listeners)
            for planned in group:
                self._start(planned, closed, listeners)
            yield Phase.APPLYING

    def _groups(self) -> list[list[PlannedListener]]:
        """Return the added listeners, those together that wait for the same ones to be closed.

        So the address of a closed one is free for a moment only.
        """
        groups: defaultdict[Any, list[PlannedListener]] = defaultdict(list)
        for planned in self.added:
            groups[planned.blocked_by or id(planned)].append(planned)
        return list(groups.values())

    def _close(self, listener: RunningListener, listeners: Listeners) -> None:
        listeners.remove(listener)
        self.closed.append(listener)

    def _change(
        self,
        listener: RunningListener,
        settings: ListenerSettings,
        service: Any,
        certificates: CertificateStore | None,
    ) -> None:
        try:
            self.problems += listener.apply(settings, service, certificates)
            self.serving.append(listener)
        except BaseException as error:  # whatever a service raises, the next step is taken
            self.problems.append(_not_started(settings, error))

    def _start(
        self, planned: PlannedListener, closed: Sequence[RunningListener], listeners: Listeners
    ) -> None:
        """Start a listener; reopen those that were *closed* for it if that fails."""
        self._started.add(id(planned))
        try:
            self.serving.append(_add(planned, listeners, self.resolver))
        except BaseException as error:
            self.problems.append(_not_started(planned.settings, error))
            self.serving += _restore(closed, listeners)


def plan_reload(
    checked: CheckedConfiguration, running: Sequence[RunningListener]
) -> Steps[ReloadPlan]:
    """Compare a configuration with the running listeners, and open the sockets that it adds.

    Raises `ConfigurationError` or `netsrv.sockets.SocketError`, and then no socket stays open;
    nor does one if the generator is ended.
    """
    settings = expand(checked.configuration.listeners)
    before = {listener: listener.settings for listener in running}
    healthy = [listener for listener in running if not listener.failed]
    running_keys = yield from _in_steps(keys_of([listener.settings for listener in healthy]))
    wanted_keys = yield from _in_steps(keys_of(settings))
    present = dict(zip(running_keys, healthy, strict=True))
    wanted = dict(zip(wanted_keys, settings, strict=True))
    services = yield from _plan_services(checked, present, wanted)
    stores = _plan_certificates(checked, running)
    staying = {listener for key, listener in present.items() if key in wanted}
    removed = [listener for listener in running if listener not in staying]
    plan = ReloadPlan(removed, resolver=checked.resolver)
    for key, listener_settings in wanted.items():
        listener = present.get(key)
        if listener is not None and listener_settings == before[listener]:
            plan.kept.append(listener)
        elif listener is not None:
            store = stores.get(listener_settings.tls)
            change = listener, before[listener], listener_settings, services[key], store
            plan.changed.append(change)
        yield Phase.PLANNING
    try:
        yield from _plan_additions(plan, present, wanted, services, stores)
    except BaseException:
        plan.discard()
        raise
    return plan


def _plan_services(
    checked: CheckedConfiguration,
    present: Mapping[Key, RunningListener],
    wanted: Mapping[Key, ListenerSettings],
) -> Steps[dict[Key, Any]]:
    """Build the services, and try the socket options out."""
    services = {}
    for key, settings in wanted.items():
        services[key] = _service(settings, present.get(key), checked.registry)
        yield Phase.PLANNING
    listeners = list(wanted.values())
    check_protocols(listeners, list(services.values()))
    options = []
    for key, settings in wanted.items():
        options.append((settings, _options(settings, present.get(key), checked.resolver)))
        yield Phase.PLANNING
    check_options_fit(listeners, options)
    return services


def _plan_additions(
    plan: ReloadPlan,
    present: dict[Key, RunningListener],
    wanted: dict[Key, ListenerSettings],
    services: dict[Key, Any],
    stores: Stores,
) -> Steps[None]:
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
            settings = wanted[key]
            parts = settings, services[key], stores.get(settings.tls)
            planned = _plan_listener(plan.resolver, removed, parts, same)
            plan.added.append(planned)
            first_added = planned if key == first_tcp else first_added
        yield Phase.PLANNING


def _plan_certificates(checked: CheckedConfiguration, running: Iterable[RunningListener]) -> Stores:
    """Return the certificates for all listeners; those in use stay."""
    present = {**checked.certificates, **certificates_in_use(running)}
    return load_certificates(checked.configuration.listeners, present)


def _in_steps(items: Iterable[Item]) -> Steps[list[Item]]:
    """Return the items of an iterator, each of which takes a step."""
    collected = []
    for item in items:
        collected.append(item)
        yield Phase.PLANNING
    return collected


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
    parts: tuple[ListenerSettings, Any, CertificateStore | None],
    same: int | None,
) -> PlannedListener:
    """Open a socket, unless a listener that the plan removes has to be closed first."""
    settings = parts[0]
    conflicts = removed.get(_place(settings, same), ())
    try:
        return PlannedListener(*parts, open_socket(settings, same, resolver), (), same)
    except AddressUnavailable as error:
        if not (error.in_use and conflicts):
            raise
        return PlannedListener(*parts, None, tuple(conflicts), same)


def _place(settings: ListenerSettings, same: int | None) -> Place:
    """Return the place that *settings* ask for: only one of it may be free."""
    if isinstance(settings.address, UnixPath):
        return settings.transport, os.path.abspath(settings.address.path)
    port = settings.port
    return settings.transport, same if port == SAME else port


def _by_address(listeners: Iterable[RunningListener]) -> Mapping[Place, list[RunningListener]]:
    """Return listeners by the place that they have, and that is free once they are closed."""
    places: defaultdict[Place, list[RunningListener]] = defaultdict(list)
    for listener in listeners:
        identity = listener.socket.unix_identity
        if isinstance(listener.settings.address, InheritedName):
            continue  # the service manager keeps the socket
        if listener.settings.transport.takes_port:
            places[listener.settings.transport, listener.port].append(listener)
        elif identity is not None:
            places[listener.settings.transport, identity[0]].append(listener)
    return places


def _add(planned: PlannedListener, listeners: Listeners, resolver: Resolver) -> RunningListener:
    """Add a listener.  Raises what opening its socket or starting its service raises."""
    opened = planned.socket or open_socket(planned.settings, planned.same, resolver)
    try:
        parts = planned.settings, planned.service, opened
        return listeners.add(PreparedListener(*parts, certificates=planned.certificates))
    except BaseException:
        opened.close()
        raise


def _restore(closed: Iterable[RunningListener], listeners: Listeners) -> list[RunningListener]:
    """Reopen the listeners that were closed for one that cannot be added."""
    restored = []
    for listener in closed:
        with suppress(BaseException):  # another program has taken both addresses
            parts = listener.settings, listener.service, listener.certificates
            planned = PlannedListener(*parts, None)
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
