"""What a new configuration changes about the listeners that are running.

Whatever can fail is done first, and undone where something else fails: a change happens
as a whole or not at all.  Sockets of unchanged addresses are not touched.
"""

import os
import socket
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from attrs import define, field, frozen

from netsrv.config.model import Configuration, ListenerSettings
from netsrv.registry import Registry
from netsrv.server.listeners import Post, Roster
from netsrv.server.prepare import (
    PreparedListener,
    build_factory,
    check_options_fit,
    check_protocols,
    close_all,
    open_socket,
    opening_order,
    try_options,
)
from netsrv.sockets.addresses import SAME, UnixPath
from netsrv.sockets.opening import OpenSocket
from netsrv.sockets.steps import (
    AddressUnavailable,
    OptionInEffect,
    OptionRefused,
    SocketError,
    listen,
    set_options,
)


@frozen
class Addition:
    """A listener that is to be added."""

    settings: ListenerSettings
    service: Any
    socket: OpenSocket | None
    """None where the address is free only once one of *before* is gone."""
    before: tuple[Post, ...] = ()
    same: int | None = None
    """The port that `SAME` stands for."""


@define
class Change:
    """What is to be done, in this order; nothing of it is done yet."""

    removed: list[Post] = field(factory=list)
    changed: list[tuple[Post, PreparedListener]] = field(factory=list)
    added: list[Addition] = field(factory=list)
    kept: list[Post] = field(factory=list)

    def undo(self) -> None:
        """Close the sockets that were opened for it."""
        close_all([each.socket for each in self.added if each.socket is not None])

    def apply(self, roster: Roster) -> tuple[list[Post], list[str]]:
        """Do it; give the listeners that serve anew, and what could not be done, a line each."""
        serving, problems = [], []
        for post in self.removed:
            roster.remove(post)
        for post, prepared in self.changed:
            try:
                problems += _retune(post.prepared.settings, prepared)
                serving.append(roster.change(post, prepared))
            except Exception as error:
                problems.append(_not_started(prepared.settings, error))
        for each in self.added:
            try:
                serving.append(_added(each, roster))
            except Exception as error:
                problems.append(_not_started(each.settings, error))
                serving += _restored(each.before, roster)
        return serving, problems


def _added(addition: Addition, roster: Roster) -> Post:
    """Add a listener.  Raises what opening its socket or starting its service does."""
    opened = addition.socket or open_socket(addition.settings, addition.same)
    try:
        return roster.add(PreparedListener(addition.settings, addition.service, opened))
    except BaseException:
        opened.close()
        raise


def _restored(posts: Iterable[Post], roster: Roster) -> list[Post]:
    """Open the listeners again that have made way for one that is not to be had."""
    restored = []
    for post in posts:
        with suppress(Exception):  # then both addresses have somebody else
            old = post.prepared
            restored.append(_added(Addition(old.settings, old.service, None), roster))
    return restored


def _not_started(settings: ListenerSettings, error: Exception) -> str:
    if isinstance(error, SocketError):
        return str(error)
    words = f"{type(error).__name__}: {error}"
    name = settings.service_name
    return f"{settings.address_label}: the service {name!r} cannot be started: {words}"


def plan(configuration: Configuration, posts: Sequence[Post], registry: Registry) -> Change:
    """Find out what *configuration* changes, and open the sockets that it adds.

    Raises `ConfigurationError` or `netsrv.sockets.SocketError`, and then nothing is open.
    """
    listeners = configuration.listeners
    alive = [each for each in posts if not each.listener.failed]
    there = dict(zip(_keys([each.prepared.settings for each in alive]), alive, strict=True))
    wanted = dict(zip(_keys(listeners), listeners, strict=True))
    services = {key: _service(each, there.get(key), registry) for key, each in wanted.items()}
    check_protocols(listeners, list(services.values()))
    taken = [(each, _options(each, there.get(key))) for key, each in wanted.items()]
    check_options_fit(listeners, taken)
    staying = [post for key, post in there.items() if key in wanted]
    change = Change([post for post in posts if post not in staying])
    for key, settings in wanted.items():
        post = there.get(key)
        if post is not None and settings == post.prepared.settings:
            change.kept.append(post)
        elif post is not None:
            prepared = PreparedListener(settings, services[key], post.prepared.socket)
            change.changed.append((post, prepared))
    first_tcp: Any = next((key for key, each in wanted.items() if each.transport == "tcp"), None)
    try:
        for index in opening_order(listeners):
            key = list(wanted)[index]
            if key not in there:
                same = _port(change, there.get(first_tcp), wanted.get(first_tcp))
                _add(change, wanted[key], services[key], same)
    except BaseException:
        change.undo()
        raise
    return change


def addition(
    settings: ListenerSettings, posts: Sequence[Post], registry: Registry
) -> PreparedListener:
    """Make one more listener, beside those that are running, and open its socket.

    Raises `ConfigurationError` or `netsrv.sockets.SocketError`, and then nothing is open.
    """
    service = build_factory(settings, registry)
    there = [each.prepared for each in posts]
    check_protocols(
        (*(each.settings for each in there), settings), [*(each.service for each in there), service]
    )
    check_options_fit((settings,), [(settings, try_options(settings))])
    ports = [each.port for each in posts if each.prepared.settings.transport == "tcp"]
    return PreparedListener(settings, service, open_socket(settings, *ports[:1]))


def _options(settings: ListenerSettings, post: Post | None) -> Sequence[OptionInEffect]:
    """The options that a listener's socket takes: tried only where they are new."""
    if post is not None and settings.all_options() == post.prepared.settings.all_options():
        return post.prepared.socket.options
    return try_options(settings)


def _port(change: Change, there: Post | None, wanted: ListenerSettings | None) -> int | None:
    """The port of a listener that stays or is added: the one in effect, if that is known."""
    if there is not None:
        return there.prepared.socket.port
    added = [each.socket for each in change.added if each.settings is wanted]
    if added and added[0] is not None:
        return added[0].port
    return getattr(wanted and wanted.address, "port", None)


def _add(change: Change, settings: ListenerSettings, service: Any, same: int | None) -> None:
    """Open a socket that is wanted, unless a listener that goes has to go first."""
    opened, before = None, [each for each in change.removed if _in_the_way(each, settings, same)]
    try:
        opened = open_socket(settings, same)
    except AddressUnavailable as error:
        if not (error.in_use and before):
            raise
    change.added.append(Addition(settings, service, opened, () if opened else tuple(before), same))


def _in_the_way(post: Post, settings: ListenerSettings, same: int | None) -> bool:
    """Whether a listener may have the address that another one is to have."""
    there = post.prepared
    if there.settings.transport != settings.transport:
        return False
    if isinstance(settings.address, UnixPath):
        return there.socket.unix_identity is not None and (
            there.socket.unix_identity[0] == os.path.abspath(settings.address.path)
        )
    port = settings.address.port
    return there.socket.port == (same if port == SAME else port)


def _retune(before: ListenerSettings, prepared: PreparedListener) -> list[str]:
    """Set on an open socket what has changed; tell what waits for a restart."""
    settings, opened = prepared.settings, prepared.socket
    options, old = settings.all_options(), before.all_options()
    names = {each.name for each in options}
    waiting = [each.name for each in old if each.name not in names]
    in_effect = {each.name: each for each in opened.options}
    for option in options:
        if option not in old:
            try:
                in_effect.update((each.name, each) for each in set_options(opened.sock, [option]))
            except OptionRefused:
                waiting.append(option.name)
    if settings.backlog != before.backlog and opened.sock.type == socket.SOCK_STREAM:
        backlog = listen(opened.sock, settings.backlog)
        in_effect[backlog.name] = backlog
    opened.options = tuple(in_effect.values())
    if settings.mode != before.mode and not opened.chmod(settings.mode):
        waiting.append("mode")
    return [f"{opened.label}: {name} changes with a restart" for name in waiting]


def _keys(listeners: Iterable[ListenerSettings]) -> list[tuple[str, int]]:
    """What a listener is known by: transport and address; which of them, with port 0."""
    listeners = list(listeners)
    first = next((each for each in listeners if each.transport == "tcp"), None)
    seen: Counter[str] = Counter()
    keys = []
    for each in listeners:
        place = each.address_label
        if getattr(each.address, "port", None) == SAME and first is not None:
            place = f"{place} as {first.address_label}"
        keys.append((place, seen[place]))
        seen[place] += 1
    return keys


def _service(settings: ListenerSettings, post: Post | None, registry: Registry) -> Any:
    """Keep the service that is there, with all that it knows, unless another is asked for."""
    if post is not None:
        before = post.prepared.settings
        if (before.service, before.settings) == (settings.service, settings.settings):
            return post.prepared.service
    return build_factory(settings, registry)
