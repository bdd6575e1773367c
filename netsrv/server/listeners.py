"""A running listener.

It keeps its identity while its transport and address stay the same.  Its service and its limits
can change while its socket stays open.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, cast

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from netsrv.config.model import ConfigurationError, ListenerSettings
from netsrv.gate import Gate
from netsrv.guards.admission import Admission
from netsrv.interfaces import IObserver, ListenerInfo, ListenerState
from netsrv.observers.counters import Counts, plain_counts
from netsrv.registry import Registry, find_services
from netsrv.server.assembly import same_way, stages_of
from netsrv.server.certificates import load_certificates
from netsrv.server.factories import build_factory
from netsrv.server.listening import Listener
from netsrv.server.prepare import PreparedListener
from netsrv.settings import count_of

if TYPE_CHECKING:
    from netsrv.faults.table import FaultTable
    from netsrv.server.faulting import Faulting
    from netsrv.streams.listener import StreamListener
    from netsrv.tls.store import CertificateStore


class ListenerOwner(Protocol):
    """The set that a running listener belongs to."""

    observer: IObserver
    counts: Callable[[ListenerInfo], Counts]
    """Returns the counters of a listener."""

    def build(self, prepared: PreparedListener, admission: Admission) -> Listener:
        """Put a listener together; it is not started yet."""

    def make_faulting(self, running: RunningListener, find: Callable[[], Any]) -> Faulting:
        """Return what applies faults to the listener that *find* returns."""

    def remove(self, listener: RunningListener) -> Deferred[None]:
        """Take a listener's backlog and close it; fire when its last connection has ended."""

    def retire(self, gate: Gate) -> Deferred[None]:
        """Keep a gate until it is drained."""


class NoFaulting:
    """Stands for the faults of a listener that has had none: see `netsrv.server.faulting`."""

    holds = False

    def describe(self) -> list[dict[str, Any]]:
        """Return no fault."""
        return []

    def _do_nothing(self) -> None:
        """Do nothing."""

    stop = let_in = keep_out = reapply = _do_nothing


NO_FAULTING = NoFaulting()


class RunningListener:
    """The handle of one running listener: its operations, and its parts.

    `Server.add_listener` and `Server.listener_for` return it.
    """

    log = Logger()

    def __init__(self, owner: ListenerOwner, prepared: PreparedListener, admission: Admission):
        self._owner = owner
        self._prepared = prepared
        self._listener = owner.build(prepared, admission)
        self.suspended = False
        """True while the listener is suspended by its owner; a limit does not count."""
        self._faulting: Faulting | NoFaulting = NO_FAULTING

    @property
    def settings(self) -> ListenerSettings:
        """The settings in effect."""
        return self._prepared.settings

    @property
    def service(self) -> Any:
        """The factory or DatagramProtocol that serves."""
        return self._prepared.service

    @property
    def socket(self) -> Any:
        """The bound socket with its options, a `netsrv.sockets.OpenSocket`."""
        return self._prepared.socket

    @property
    def listener_info(self) -> ListenerInfo:
        """The identity in events, logs and metrics."""
        return self._prepared.info

    @property
    def name(self) -> str:
        """The listener in the log, with the address in effect: ``tcp 127.0.0.1:7 (echo)``."""
        return self._prepared.name

    @property
    def certificates(self) -> CertificateStore | None:
        """The certificates for TLS; None without TLS."""
        return self._prepared.certificates

    @property
    def host(self) -> str:
        """The numeric address in effect; empty for a unix socket."""
        return str(self.socket.host)

    @property
    def port(self) -> int:
        """The port in effect; 0 for a unix socket."""
        return int(self.socket.port)

    @property
    def faults(self) -> FaultTable:
        """The faults in effect, which may be changed at any time."""
        if isinstance(self._faulting, NoFaulting):
            self._faulting = self._owner.make_faulting(self, lambda: self._listener)
        return self._faulting.table

    def describe_faults(self) -> list[dict[str, Any]]:
        """Describe the faults in effect in plain values, ready for JSON."""
        return self._faulting.describe()

    @property
    def gate(self) -> Gate:
        """The gate, which has the live connections."""
        return self._listener.gate

    @property
    def connections(self) -> int:
        """The number of live connections."""
        return len(self.gate.connections)

    @property
    def failed(self) -> bool:
        """True if the socket has failed for good."""
        return self._listener.failed

    @property
    def kernel_drops(self) -> int | None:
        """Datagrams that the kernel has dropped; None for streams, or if unknown."""
        return self._listener.kernel_drops

    @property
    def state(self) -> tuple[ListenerState, str]:
        """Whether the listener serves, and if not, the error or the limit that is the reason."""
        if self.failed or self._listener.failure:
            return ListenerState.FAILED, self._listener.failure
        if self.suspended:
            return ListenerState.SUSPENDED, ""
        limit = self._listener.limit_reached
        return (ListenerState.FULL, limit) if limit else (ListenerState.SERVING, "")

    # Operations

    def start(self, suspended: bool) -> None:
        """Start to serve, but suspended at once if *suspended*.

        Raises what the service raises when it is started.
        """
        self._listener.start()
        self._replace_faults()
        if suspended:
            self.suspend()

    def suspend(self) -> None:
        """Stop accepting: the socket stays bound, and peers wait in the kernel."""
        self.suspended = True
        self._listener.suspend()
        self._owner.observer.suspended(self.listener_info, None)

    def resume(self) -> None:
        """Accept again, first the peers that have waited."""
        self.suspended = False
        if not self._faulting.holds:
            self._listener.resume()
        self._owner.observer.resumed(self.listener_info)

    def update(self, settings: ListenerSettings, registry: Registry | None = None) -> list[str]:
        """Serve by other *settings* on the same socket; return what needs a restart, a line each.

        Peers that wait are served by the new settings; live connections keep the old ones.
        Raises `ConfigurationError` if the transport or the address is another, or the service
        cannot be built; and what the service raises when it is started.  Then nothing changes
        but socket options.
        """
        if settings.address_label != self.settings.address_label:
            raise ConfigurationError(
                f"{settings.address_label}: the listener has the address "
                f"{self.settings.address_label}; add a listener for another address"
            )
        service, certificates = (
            self.service_for(settings, registry),
            self.certificates_for(settings),
        )
        return self.apply(settings, service, certificates)

    def close(self) -> Deferred[None]:
        """Take the backlog, then close; fire when the last connection has ended."""
        drained = self._owner.remove(self)
        self.report_closed()
        return drained

    def info(self) -> dict[str, Any]:
        """Describe the listener: its address and options in effect, and its counts.

        Plain values, ready for JSON.  Bytes are those of closed and live connections, and of
        datagrams.
        """
        store = self.certificates
        counts = plain_counts(self._owner.counts(self.listener_info))
        for connection in self.gate.connections:
            counts["received_bytes"] += connection.received
            counts["sent_bytes"] += connection.sent - connection.unsent
        return {
            "name": self.name,
            "transport": self.settings.transport,
            "address": self.socket.address,
            "service": self.settings.service_name,
            "options": {
                option.name: {"asked": option.asked, "in_effect": option.in_effect}
                for option in self.socket.options
            },
            "counts": counts,
            "pending": dict(self.gate.pending),
            "certificates": [] if store is None else store.describe(),
            "renewals": {} if store is None else dict(store.renewals),
            "kernel_drops": self.kernel_drops,
            "faults": self.describe_faults(),
        }

    # What a reload and a drain need beyond these

    def service_for(self, settings: ListenerSettings, registry: Registry | None = None) -> Any:
        """Return the service for *settings*: the present one, unless they ask for another."""
        before = self.settings
        if (before.service, before.settings) == (settings.service, settings.settings):
            return self.service
        if registry is None:
            registry = Registry() if settings.embedded else find_services()
        return build_factory(settings, registry)

    def certificates_for(self, settings: ListenerSettings) -> CertificateStore | None:
        """Return the certificates for *settings*: the present ones, unless TLS differs.

        Raises `ConfigurationError`.
        """
        if self.settings.tls == settings.tls:
            return self.certificates
        return load_certificates((settings,)).get(settings.tls)

    def apply(
        self, settings: ListenerSettings, service: Any, certificates: CertificateStore | None
    ) -> list[str]:
        """Serve with *service* and *certificates* by *settings*: see `update`."""
        problems = self._update_socket(settings)
        prepared = PreparedListener(settings, service, self.socket, certificates=certificates)
        if self._same_service(prepared):
            self._listener.set_limits(settings.limits)
            if settings.transport.is_stream:
                cast("StreamListener", self._listener).set_stages(stages_of(prepared))
            self._prepared = evolve(prepared, info=self.listener_info)
        else:
            self._replace_service(prepared)
        self._replace_faults()
        return problems

    def _replace_faults(self) -> None:
        """Have the faults of the settings; without any, nothing of faults is made."""
        if self.settings.faults or self._faulting is not NO_FAULTING:
            self.faults.replace(self.settings.faults)

    def drain(self) -> None:
        """Take the backlog, and close the socket; live connections go on."""
        self._faulting.stop()
        self._listener.drain()
        self.socket.close()

    def report_closed(self) -> None:
        """Log that the listener is closed."""
        connections = count_of(self.connections, "connection")
        line = "Closed {listener}; {connections} may go on"
        self.log.info(line, listener=self.listener_info, connections=connections)

    def _same_service(self, prepared: PreparedListener) -> bool:
        """True if only limits and socket options differ."""
        return (
            self.service is prepared.service
            and self.name == prepared.name
            and self.settings.safe_replies is prepared.settings.safe_replies
            and self.settings.context_factory is prepared.settings.context_factory
            and same_way(self._prepared, prepared)
        )

    def _replace_service(self, prepared: PreparedListener) -> None:
        """Give the socket to a new listener, which shares the admission of the old one."""
        old, gate = self._listener, self.gate
        admission, now = gate.admission, gate.now
        new = self._owner.build(prepared, admission)
        self._faulting.let_in()
        old.detach()
        if not prepared.settings.transport.is_stream:  # the options were restored too
            self.socket.update_options(prepared.settings.all_options(), ())
        admission.set_limits(prepared.settings.limits, now())
        try:
            new.start()
        except BaseException:
            admission.set_limits(self.settings.limits, now())
            old.start()
            self._faulting.keep_out()
            raise
        self._listener, self._prepared = new, prepared
        self._faulting.reapply()
        self._owner.retire(gate)
        self._owner.observer.listener_started(self.listener_info)
        if self.suspended:
            self.suspend()
        else:
            self._owner.observer.resumed(self.listener_info)  # the old one may have been full

    def _update_socket(self, settings: ListenerSettings) -> list[str]:
        """Set the options that differ; return a line for each that needs a restart."""
        before, opened = self.settings, self.socket
        names = opened.update_options(settings.all_options(), before.all_options())
        if settings.backlog != before.backlog and opened.sock.type == socket.SOCK_STREAM:
            opened.update_backlog(settings.backlog)
        if settings.mode != before.mode and not opened.chmod(settings.mode):
            names.append("mode")
        return [f"{opened.label}: {name} changes with a restart" for name in names]
