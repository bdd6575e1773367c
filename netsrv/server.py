"""The server: the only place that puts everything together, and takes it apart again.

A start has two steps: `netsrv.preparation` opens every socket, without a reactor; then
the `Server` here serves on them.
"""

import resource
import socket
import time
from collections.abc import Iterator
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from netsrv.addresses import InternetAddress
from netsrv.admission import Admission
from netsrv.config import Configuration
from netsrv.gate import Gate
from netsrv.guards.access import Access
from netsrv.guards.capacity import Places
from netsrv.guards.datagrams import DatagramGuard
from netsrv.listeners import DatagramListener, Listener, StreamListener
from netsrv.observers.log import LogObserver
from netsrv.preparation import Prepared, PreparedListener, close_all, prepare, reopener
from netsrv.sockets import OpenSocket

RESERVE = 64
"""Descriptors that connections leave to everything else."""

FD_SETSIZE = 1024


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
            listener = DatagramListener(reactor, sock, gate, service, guard, reopener(prepared))
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
