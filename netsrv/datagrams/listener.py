"""A datagram listener: a UDP socket, the gate and a datagram service, put together.

A datagram takes this way::

    port -> [PROXY header] -> datagram gate (guard) -> service protocol
"""

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import DatagramProtocol

from netsrv.datagrams.gate import DatagramGate
from netsrv.datagrams.port import DatagramPort
from netsrv.datagrams.proxied import ProxiedDatagrams
from netsrv.datagrams.refusing import accept_datagrams, refuse_datagrams
from netsrv.gate import Gate
from netsrv.guards.datagrams import DatagramGuard
from netsrv.guards.limits import Limits
from netsrv.guards.proxies import NO_PROXY_PROTOCOL, ProxyProtocolSettings
from netsrv.interfaces import DropReason, IDatagrams
from netsrv.sockets.steps import SocketError

REOPEN_INTERVAL = 1.0
"""Seconds from one attempt to reopen a failed socket to the next, at least."""


class DatagramListener:
    """Receives datagrams on *sock*, and has *protocol* answer them.

    A socket that fails is replaced by the result of *reopen*, which raises `SocketError` if it
    cannot open one.  With *proxy_protocol*, each datagram begins with a header.
    """

    failed = False
    limit_reached = ""

    def __init__(
        self,
        reactor: Any,
        sock: socket.socket,
        gate: Gate,
        protocol: DatagramProtocol,
        guard: DatagramGuard,
        reopen: Callable[[], socket.socket],
        proxy_protocol: ProxyProtocolSettings = NO_PROXY_PROTOCOL,
    ) -> None:
        self.gate = gate
        self.failure = ""
        """Why the socket has failed; empty if it has not, or is open again."""
        self._reactor = reactor
        self._protocol = DatagramGate(gate, protocol, guard)
        proxied = proxy_protocol.enabled
        self._proxied = ProxiedDatagrams(self._protocol, proxy_protocol) if proxied else None
        self._port = DatagramPort(
            reactor,
            sock,
            self._proxied or self._protocol,
            self._on_drop,
            self._on_exception,
            on_dead_socket=self._socket_failed,
            on_sent=self._on_sent,
        )
        self._guard = guard
        self._reopen = reopen
        self._refused_at: Any = None
        self._not_before = 0.0
        self._next_attempt: Any = None
        self._reason = ""

    @property
    def kernel_drops(self) -> int | None:
        """Datagrams that the kernel has dropped at the present socket; None if unknown."""
        return self._port.kernel_drops

    # Operations of a listener

    def start(self) -> None:
        """Start the protocol, and receive.  A closed socket is opened again first."""
        self.gate.open()
        if self._port.fileno() == -1:
            self._port.prepare_restart()
            self._try_reopening()
        self._port.startListening()

    def suspend(self) -> None:
        """Stop receiving; datagrams wait in the socket's buffer while there is space."""
        self._port.suspend()

    def resume(self) -> None:
        """Receive again."""
        self._port.resume()

    def take_down(self) -> None:
        """Refuse datagrams, as if there were no server; `bring_up` ends that."""
        self.suspend()
        if self._port.fileno() != -1:
            self._refused_at = refuse_datagrams(self._port.getHandle())

    def bring_up(self, _backlog: int) -> None:
        """Receive from all peers again.  The listener is suspended still."""
        if self._refused_at is not None and self._port.fileno() != -1:
            accept_datagrams(self._port.getHandle(), self._refused_at)
        self._refused_at = None

    def drain(self) -> None:
        """Receive one last batch, and stop the protocol."""
        self._cancel_attempt()
        self._port.doRead()
        self._port.stopListening()
        self.gate.close()

    def detach(self) -> None:
        """Stop receiving, leave the socket to another listener, and stop the protocol."""
        self._cancel_attempt()
        self._port.detach()
        self.gate.close()

    def set_limits(self, limits: Limits) -> None:
        """Serve by other rules."""
        self.gate.set_limits(limits)
        self._guard.set_rules(limits.access, limits.refuse_source_ports, limits.datagram_rate)

    def interpose(self, make: Callable[[Any, Any], Any] | None) -> None:
        """Put what *make* returns between the port and the gate; with None, nothing any more.

        *make* gets the gate, a protocol, and the port, its transport.
        """
        between: Any = None if make is None else make(self._protocol, self._port)
        self._protocol.interpose(between or self._port)
        if self._proxied is not None:
            self._proxied.pass_to(between or self._protocol)
        else:
            self._port.pass_to(between or self._protocol)

    # A socket that fails

    def _socket_failed(self, error: OSError) -> None:
        self.failure = error.strerror or str(error)
        self.gate.observer.listener_failed(self.gate.listener_info, error, True)
        self._reason = ""
        wait = max(0.0, self._not_before - self.gate.now())
        self._next_attempt = self._reactor.callLater(wait, self._try_reopening)

    def _try_reopening(self) -> None:
        """Replace the socket, or try again later; each new reason is reported once."""
        self._next_attempt = None
        self._not_before = self.gate.now() + REOPEN_INTERVAL
        observer, info = self.gate.observer, self.gate.listener_info
        try:
            self._port.replace_socket(self._reopen())
        except (SocketError, OSError) as error:
            if str(error) != self._reason:
                self._reason = str(error)
                observer.listener_reopen_failed(info, self._reason)
            self._next_attempt = self._reactor.callLater(REOPEN_INTERVAL, self._try_reopening)
            return
        self.failure = ""
        observer.listener_reopened(info)

    def _cancel_attempt(self) -> None:
        if self._next_attempt is not None:
            self._next_attempt.cancel()
            self._next_attempt = None

    # What the port reports

    def _on_drop(self, reason: DropReason, error: OSError | None) -> None:
        self.gate.observer.datagram_dropped(self.gate.listener_info, reason, error)

    def _on_sent(self, datagrams: IDatagrams) -> None:
        self.gate.observer.datagrams_sent(self.gate.listener_info, datagrams)

    def _on_exception(self) -> None:
        self.gate.report_failure("datagram protocol")
