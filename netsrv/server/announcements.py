"""The lines that a server logs when it starts: its version, its limits, what it waits for."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from twisted.logger import Logger

from netsrv import __version__
from netsrv.config.model import Configuration, ListenerSettings
from netsrv.config.showing import limits_in_effect, plain_value, show_plain
from netsrv.server.descriptors import show_max_connections
from netsrv.server.listeners import RunningListener
from netsrv.settings import count_of
from netsrv.sockets.addresses import InternetAddress, printable
from netsrv.tls.settings import TLS

Announcement = tuple[str, dict[str, Any]]
"""The format of a log line, and its fields."""


class Announcer:
    """Logs announcements once *reactor* handles signals: a reader of the last one may send one.

    Without a *log* it logs none: another process announces what this one serves.
    """

    def __init__(self, reactor: Any, log: Logger | None) -> None:
        self._reactor = reactor
        self._log = log
        self._waiting: list[Announcement] = []

    def add(self, announcements: Iterable[Announcement]) -> None:
        """Log these lines as soon as that may be."""
        if added := list(announcements):
            self._waiting += added
            self._reactor.callWhenRunning(self._log_waiting)

    def forget(self) -> None:
        """Log none of the lines that still wait."""
        self._waiting = []

    def _log_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        if self._log is not None:
            for line, fields in waiting:
                self._log.info(line, **fields)


def announce_start(
    reactor: Any,
    configuration: Configuration,
    listeners: Sequence[RunningListener],
    descriptors: int,
) -> Iterator[Announcement]:
    """Yield the lines of a start; the process may have so many *descriptors*."""
    line = "netsrv {version} on {reactor}"
    fields = {"version": __version__, "reactor": type(reactor).__name__}
    if configuration.file is not None:
        line += ", configuration {file}"
        fields["file"] = printable(configuration.file)
    yield line, fields
    yield from _announce_limits(listeners, descriptors)
    yield from announce_listeners(listeners)


def announce_listeners(listeners: Iterable[RunningListener]) -> Iterator[Announcement]:
    """Yield the lines of each listener: the address of its name, and what it waits for."""
    for listener in listeners:
        asked, host = listener.settings.address, listener.host
        if isinstance(asked, InternetAddress) and asked.host not in ("", host):
            yield "{asked} is {host}", {"asked": printable(asked.host), "host": host}
        what = "connections" if listener.settings.transport.is_stream else "datagrams"
        yield "Waiting for {what} on {listener}", {"what": what, "listener": listener.name}


def _announce_limits(
    listeners: Sequence[RunningListener], descriptors: int
) -> Iterator[Announcement]:
    """Yield one line for all listeners with the same limits."""
    groups: dict[str, list[str]] = {}
    for listener in listeners:
        if limits := show_limits(listener.settings, descriptors):
            groups.setdefault(limits, []).append(listener.name)
    for limits, names in groups.items():
        fields = {"listener": names[0], "others": len(names) - 1, "limits": limits}
        if len(names) == len(listeners):
            yield "Limits: {limits}", {"limits": limits}
        elif len(names) == 1:
            yield "Limits of {listener}: {limits}", fields
        else:
            yield "Limits of {listener} and {others} more: {limits}", fields


def show_limits(settings: ListenerSettings, descriptors: int) -> str:
    """Return the limits in effect that are not the default ones, and ``max_connections``."""
    shown = []
    for setting, value in limits_in_effect(settings).items():
        if setting.name == "max_connections":
            shown.append(f"{setting.name} {show_max_connections(value, descriptors)}")
        elif value != setting.default and setting.section is not TLS:
            plain = plain_value(setting.kind.plain(value))
            networks = count_of(len(plain), "network") if isinstance(plain, list) else ""
            shown.append(f"{setting.keyword} {networks or show_plain(plain)}")
    return ", ".join(shown)
