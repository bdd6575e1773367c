"""The worker's side: a server that starts suspended, and serves, drains and ends as it is told."""

import ctypes
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred

from netsrv.config.model import Configuration, ConfigurationError, LogLevel
from netsrv.config.status import NO_STATUS
from netsrv.guards.admission import Admission
from netsrv.guards.capacity import ConnectionSlots
from netsrv.guards.limits import Limits
from netsrv.registry import Registry
from netsrv.server.drain import Drained
from netsrv.server.prepare import Prepared, prepare
from netsrv.server.server import Server
from netsrv.sockets.addresses import InheritedName
from netsrv.sockets.inherited import adopt
from netsrv.sockets.opening import OpenSocket
from netsrv.status.source import ServerState
from netsrv.workers.channel import Message, open_channel
from netsrv.workers.limits import is_limited, make_admissions
from netsrv.workers.memory import LimitMemory
from netsrv.workers.orders import Order
from netsrv.workers.process import SIGNALS
from netsrv.workers.sharing import Share
from netsrv.workers.state import StateReader

BEAT_INTERVAL = 1.0
"""Seconds from one heartbeat to the next."""

EXIT_DELAY = 1.0
"""Seconds in which a worker ends whose master is gone."""

_PR_SET_PDEATHSIG = 1


def leave_signals_to_master() -> None:
    """Ignore the master's signals, and have the kernel kill this process when the master ends.

    A frozen worker would otherwise keep the sockets of a master that was killed.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # `spawn` has blocked them
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


def configure(configuration: Configuration, order: Order) -> Configuration:
    """Return what this worker serves of a configuration: a listener for each of its sockets."""
    listeners = []
    for entry in order.sockets:
        if entry.listener >= len(configuration.listeners):
            raise ConfigurationError("the configuration has fewer listeners than the master")
        settings = configuration.listeners[entry.listener]
        if entry.occurrence is not None and isinstance(settings.address, InheritedName):
            address = evolve(settings.address, occurrence=entry.occurrence)
            settings = evolve(settings, address=address)
        listeners.append(evolve(settings, limits=evolve(settings.limits)))  # objects of its own
    access_log = None if order.access_log is None else f"/dev/fd/{order.access_log}"
    rate = configuration.log_rate
    return evolve(
        configuration,
        listeners=tuple(listeners),
        status=NO_STATUS,
        access_log=access_log,
        log_rate=-(-rate // order.workers),
    )


def open_memory(order: Order) -> LimitMemory | None:
    """Return the memory that workers share; None if they share none."""
    return None if order.memory is None else LimitMemory(*order.memory, order.sources)


def prepare_worker(
    configuration: Configuration, order: Order, registry: Registry, memory: LimitMemory | None
) -> Prepared:
    """Build the services for the sockets of a worker.

    Raises `ConfigurationError` or `netsrv.sockets.SocketError`.
    """
    sockets = []
    for settings, entry in zip(configuration.listeners, order.sockets, strict=True):
        sock = _as_socket(entry.descriptor)
        options = settings.all_options()
        opened = adopt(sock, settings.address_label, options, settings.backlog)
        if entry.shared and memory is not None and entry.block is not None:
            opened.share = Share(memory, entry.block, entry.column)
        sockets.append(_located(opened, entry.sockaddr))
    return prepare(configuration, registry, sockets)


def make_admissions_for(
    configuration: Configuration, order: Order, memory: LimitMemory | None, reactor: Any
) -> Callable[[Limits, ConnectionSlots, float], Admission]:
    """Return what makes the admission of each listener of `configure`."""
    if memory is None:
        return Admission
    places = {
        id(settings.limits): (entry.block, entry.column)
        for settings, entry in zip(configuration.listeners, order.sockets, strict=True)
        if entry.block is not None and is_limited(settings.limits)
    }
    return make_admissions(memory, places, reactor)


def _as_socket(descriptor: int) -> socket.socket:
    os.set_inheritable(descriptor, False)
    return socket.socket(fileno=descriptor)


def _located(opened: OpenSocket, sockaddr: Any) -> OpenSocket:
    """Return the socket with the address that the master knows: the path as it was asked for."""
    opened.sockaddr = tuple(sockaddr) if isinstance(sockaddr, list) else sockaddr
    return opened


class Worker:
    """Serves what the master says, on *server*, which is not started yet."""

    def __init__(self, reactor: Any, order: Order, server: Server) -> None:
        self._reactor = reactor
        self._order = order
        self._server = server
        self.serving = False
        """True once the master has said so."""
        self._released = self._ending = False
        self._state = None
        if order.status:
            self._state = StateReader(
                reactor, server, lambda state: self._channel.send(state=state)
            )
        self._channel = open_channel(reactor, order.control, self._received, self._channel_ended)

    @property
    def log_level(self) -> LogLevel:
        """The level of the log: until it serves, a worker has only errors to report."""
        return self._server.log_level if self.serving else LogLevel.WARN

    def start(self) -> None:
        """Start all listeners, suspended; raises what the start of a service raises."""
        self._server.suspend()
        self._server.startService()
        self._reactor.callWhenRunning(self._ready)

    def _ready(self) -> None:
        self._channel.send(ready=True)
        self._reactor.callLater(BEAT_INTERVAL, self._beat)

    def _beat(self) -> None:
        self._channel.send(beat=self._counts())
        if self._state is not None and self.serving:
            self._state.read()
        self._reactor.callLater(BEAT_INTERVAL, self._beat)

    def _counts(self) -> Message:
        counts = self._server.counters.listeners.values()
        return {
            "connections": self._server.connections,
            "accepted": sum(count.accepted for count in counts),
            "datagrams": sum(count.datagrams_received for count in counts),
        }

    def _received(self, message: Message) -> None:
        if "serve" in message:
            self._serve()
        elif "leaving" in message:
            self._server.status.state = ServerState.DRAINING
        elif "drain" in message:
            self._drain(message["drain"])
        elif "state" in message and self._state is not None:
            self._channel.send(beat=self._counts())
            self._state.read()
        elif "abort" in message:
            self._server.abort()
        elif "ask" in message:
            self.ask(message["ask"])

    def ask(self, question: Any) -> None:
        """Take a question of the master's program; overridden."""

    def tell(self, message: Any, at_once: bool = False) -> None:
        """Send a message to the master's program; *at_once* does not leave it to the reactor."""
        self._channel.send(told=message)
        if at_once:
            self._channel.write_now()

    def tell_last(self) -> None:
        """Tell what the master's program is to know before the end; overridden."""

    def _serve(self) -> None:
        self.serving = True
        self._server.resume()
        if self._state is not None:
            self._state.start()
            self._state.read()

    def _drain(self, timeout: float) -> None:
        if self._state is not None:
            self._state.begin_drain()
        drained: Deferred[Drained] = self._server.drain(timeout)
        self._released = True
        self._channel.send(released=True)
        drained.addCallback(self._drained)

    def _drained(self, drained: Drained) -> None:
        self.tell_last()
        result = {"ended": drained.ended, "aborted": drained.aborted}
        self._channel.send(drained=result, last=self._counts())
        if self._state is not None:
            self._state.end()
        if self._channel.connected:
            self._ending = True
            self._channel.close()
        else:
            self._stop()

    def _stop(self) -> None:
        self._reactor.callLater(0, self._reactor.stop)

    def _channel_ended(self) -> None:
        """End: all is sent, or else the master is gone, and nothing else would end this process."""
        if self._ending:
            self._stop()
        elif self._reactor.running:
            self._reactor.callLater(EXIT_DELAY, os._exit, 1)
            self._server.abort()
            if not self._released:
                self._drain(0)
