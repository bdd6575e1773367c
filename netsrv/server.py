"""The server: the only place that builds everything from a configuration.

Starting has two steps.  `prepare` finds every service and opens every socket, or none:
it needs no reactor, and may need root.  `Server` then serves on them.
"""

from __future__ import annotations

import os
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from attrs import evolve, frozen
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from netsrv.addresses import SAME, InternetAddress, UnixPath
from netsrv.admission import Admission
from netsrv.config import Configuration, ConfigurationError, ListenerSettings
from netsrv.gate import Gate
from netsrv.guards.access import Access
from netsrv.guards.capacity import Places
from netsrv.guards.datagrams import DatagramGuard
from netsrv.listeners import DatagramListener, Listener, StreamListener
from netsrv.observers.log import LogObserver
from netsrv.registry import Registry, find_services
from netsrv.sockets import (
    AddressUnavailable,
    OpenSocket,
    open_datagram,
    open_stream,
    open_unix,
)

SPARE_DESCRIPTORS = 16
"""What must be left beside the sockets: the reactor's own, the log, modules being imported."""

RESERVE = 64
"""Descriptors that connections leave to everything else."""

FD_SETSIZE = 1024

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
        return f"{self.settings.transport} {self.socket.address} ({self.settings.service})"


@frozen
class Prepared:
    """All that can be made without a reactor."""

    listeners: tuple[PreparedListener, ...]
    problems: tuple[str, ...]
    """The plugins that could not be used, a line each."""

    def close(self) -> None:
        """Close all sockets."""
        close_all([each.socket for each in self.listeners])


def prepare(configuration: Configuration, registry: Registry | None = None) -> Prepared:
    """Find all services and open all sockets, in the configuration's order.

    Raises `ConfigurationError` or `netsrv.sockets.SocketError`, and then no socket is open.
    """
    listeners = configuration.listeners
    registry = registry or find_services()
    services = [build_service(each, registry) for each in listeners]
    _check_protocols(listeners, services)
    sockets = _open_all(listeners)
    try:
        _check_spare()
        check_options_fit(listeners, {each.name for opened in sockets for each in opened.options})
    except (AddressUnavailable, ConfigurationError):
        close_all(sockets)
        raise
    made = map(PreparedListener, listeners, services, sockets)
    return Prepared(tuple(made), tuple(registry.problems))


def close_all(sockets: list[OpenSocket]) -> None:
    """Close what has been opened."""
    for each in sockets:
        each.close()


def build_service(
    settings: ListenerSettings, registry: Registry
) -> IProtocolFactory | DatagramProtocol:
    """Have a listener's service make its factory or protocol.  Raises `ConfigurationError`."""
    try:
        if settings.transport == "udp":
            service: Any = registry.datagram(settings.service).datagram(None)
        else:
            service = registry.stream(settings.service).stream(None)
    except LookupError as error:
        raise ConfigurationError(f"{settings.place}: {error.args[0]}") from error
    except (Exception, SystemExit) as error:
        raise ConfigurationError(
            f"{settings.place}: the service {settings.service!r} failed: "
            f"{type(error).__name__}: {error}"
        ) from error
    method = "datagramReceived" if settings.transport == "udp" else "buildProtocol"
    if not hasattr(service, method):
        kind = "a DatagramProtocol" if settings.transport == "udp" else "a Factory"
        raise ConfigurationError(
            f"{settings.place}: the service {settings.service!r} gave {service!r} instead of {kind}"
        )
    with suppress(AttributeError):  # a frozen one stays noisy
        service.noisy = False  # the line that says what we wait for is enough
    return service  # type: ignore[no-any-return]


def _check_protocols(listeners: tuple[ListenerSettings, ...], services: list[Any]) -> None:
    """A factory may serve many listeners, a datagram protocol has one transport only."""
    seen: set[int] = set()
    for settings, service in zip(listeners, services, strict=True):
        if settings.transport == "udp":
            if id(service) in seen:
                raise ConfigurationError(
                    f"{settings.place}: the service {settings.service!r} gave a DatagramProtocol "
                    "that it has given to another listener"
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
        return open_unix(address, options, settings.backlog)
    if address.port == SAME:
        address = evolve(address, port=same or 0)
    if settings.transport == "udp":
        return open_datagram(address, options)
    return open_stream(address, options, settings.backlog)


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


def check_options_fit(listeners: tuple[ListenerSettings, ...], taken: set[str]) -> None:
    """An option that no socket has *taken* is a mistake of whoever asked for it."""
    for each in listeners:
        for option in each.socket_options:
            if option.name not in taken:
                raise ConfigurationError(
                    f"--socket-option {option.name}: fits none of the sockets that are asked for"
                )


def most_connections(reactor: Any) -> int:
    """How many connections the process has descriptors for (getrlimit(2)).

    The select reactor cannot watch descriptors from FD_SETSIZE, 1,024, on (select(2)).
    """
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if type(reactor).__module__ == "twisted.internet.selectreactor":
        soft = min(soft, FD_SETSIZE)
    return max(1, soft - RESERVE)


class Server(Service):
    """Serves a configuration.  An `IService`, on its own or with a parent.

    *reactor* provides IReactorTime, IReactorFDSet and IReactorSocket.  *prepared*
    is what `prepare` gave; without it, sockets are opened by `startService`, which
    then raises what `prepare` does.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        configuration: Configuration,
        prepared: Prepared | None = None,
    ) -> None:
        self.configuration = configuration
        self.listeners: list[Listener] = []
        self.aborted = 0
        """Connections that had to be aborted at the end."""
        self._reactor = reactor
        self._prepared = prepared
        self.sockets: list[OpenSocket] = []
        self._news: list[tuple[str, dict[str, str]]] = []
        self._draining: list[Gate] = []
        self._hurry = False
        self._places = Places(most_connections(reactor))
        self._observer = LogObserver(reactor, configuration.log_rate)

    def startService(self) -> None:
        """Start all listeners, or none: what one of them raises is raised here."""
        prepared = self._prepared or prepare(self.configuration)
        self._prepared = None
        self.aborted = 0
        self._hurry = False
        self.sockets = [each.socket for each in prepared.listeners]
        for problem in prepared.problems:
            self.log.warn("{problem}", problem=problem)
        try:
            for each in prepared.listeners:
                self._start(each)
        except BaseException:
            for listener in self.listeners:
                listener.suspend()  # who waits was never served, and is not now
            self._close_listeners()
            raise
        super().startService()
        self._news = [news for each in prepared.listeners for news in _announcement(each)]
        # Whoever has read these lines may send a signal: the reactor's handlers are in place.
        self._reactor.callWhenRunning(self._announce)

    def stopService(self) -> Deferred[None]:
        """Drain: fire when the live connections have ended or are aborted.

        Who waits by now is taken in, and then all listeners are closed before
        anybody is waited for.  A second call waits for the same end.
        """
        super().stopService()
        self._news = []
        if self._prepared is not None:
            self._prepared.close()
            self._prepared = None
        gates = [each.gate for each in self.listeners]
        self._close_listeners()
        self._draining.extend(gates)
        left = sum(len(gate.connections) for gate in gates)
        limit = 0 if self._hurry else self.configuration.shutdown_timeout
        if left:
            self.log.info(
                "Draining: {left}, at most {limit:g} s; a second signal ends it now",
                left=_connections(left),
                limit=limit,
            )
        deadline = self._reactor.callLater(limit, self._abort, gates)

        def ended(_result: Any) -> None:
            if deadline.active():
                deadline.cancel()
            self._draining = [each for each in self._draining if each not in gates]
            if left:
                self.log.info(
                    "Drained: {ended} ended, {aborted} aborted",
                    ended=_connections(left - self.aborted),
                    aborted=self.aborted,
                )
            self._observer.close()

        return DeferredList([gate.when_empty() for gate in self._draining]).addCallback(ended)

    def abort(self) -> None:
        """End a drain now, also one that is yet to come: abort the connections that are left."""
        self._hurry = True
        self._abort(self._draining)

    def _abort(self, gates: list[Gate]) -> None:
        self.aborted += sum(gate.abort_all() for gate in gates)

    def _start(self, prepared: PreparedListener) -> None:
        reactor, sock = self._reactor, prepared.socket.sock
        service: Any = prepared.service
        limits = prepared.settings.limits
        admission = Admission(limits, self._places, time.monotonic())
        gate = Gate(reactor, prepared.name, self._observer, admission, limits)
        listener: Listener
        if prepared.settings.transport == "udp":
            guard = DatagramGuard(
                Access(limits.only_from, limits.no_access),
                limits.refuse_source_ports,
                self._own_ports(),
                limits.datagram_rate,
            )
            listener = DatagramListener(reactor, sock, gate, service, guard)
        else:
            listener = StreamListener(reactor, sock, gate, service, limits.overload)
        listener.start()
        self.listeners.append(listener)

    def _own_ports(self) -> frozenset[int]:
        datagrams = [each for each in self.sockets if each.sock.type == socket.SOCK_DGRAM]
        return frozenset(each.port for each in datagrams)

    def _announce(self) -> None:
        news, self._news = self._news, []
        for line, values in news:
            self.log.info(line, **values)

    def _close_listeners(self) -> None:
        for listener in self.listeners:
            listener.finish()
        self.listeners = []
        close_all(self.sockets)
        self.sockets = []


def _announcement(prepared: PreparedListener) -> Iterator[tuple[str, dict[str, str]]]:
    """Say what a name was resolved to, and who is waited for."""
    asked, found = prepared.settings.address, prepared.socket.host
    if isinstance(asked, InternetAddress) and asked.host not in ("", found):
        yield "{asked} is {found}", {"asked": asked.host, "found": found}
    what = "datagrams" if prepared.settings.transport == "udp" else "connections"
    yield "Waiting for {what} on {name}", {"what": what, "name": prepared.name}


def _connections(count: int) -> str:
    return f"{count} connection{'' if count == 1 else 's'}"
