"""A UDP socket, the gate and a datagram service, put together."""

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from netsrv.datagrams.gated import DatagramGate
from netsrv.datagrams.port import DatagramPort, kernel_drops
from netsrv.gate import Gate
from netsrv.guards.access import Access
from netsrv.guards.datagrams import DatagramGuard
from netsrv.guards.limits import Limits
from netsrv.interfaces import DropReason, IDatagrams
from netsrv.sockets.steps import SocketError

AGAIN = 1.0
"""Seconds from one try to open a dead socket again to the next, at least."""


class DatagramListener:
    """Receives datagrams on *sock*, and has *protocol* answer them.

    A socket that has died is replaced by what *reopen* gives, which raises `SocketError` if
    it cannot.
    """

    log = Logger()

    failed = False

    def __init__(
        self,
        reactor: Any,
        sock: socket.socket,
        gate: Gate,
        protocol: DatagramProtocol,
        guard: DatagramGuard,
        reopen: Callable[[], socket.socket],
    ) -> None:
        self.gate = gate
        self._reactor = reactor
        self._port = DatagramPort(
            reactor,
            sock,
            DatagramGate(gate, protocol, guard),
            self._dropped,
            self._raised,
            died=self._died,
            sent=self._sent,
        )
        self._guard = guard
        self._reopen = reopen
        self._not_before = 0.0
        self._next_try: Any = None
        self._why = ""

    @property
    def kernel_drops(self) -> int | None:
        """How many datagrams the kernel has dropped at the present socket; None if unknown."""
        return kernel_drops(self._port.socket)

    def start(self) -> None:
        """Start the protocol, and receive."""
        self._port.startListening()

    def suspend(self) -> None:
        """Receive nothing; datagrams wait in the socket's buffer while there is room."""
        self._port.suspend()

    def resume(self) -> None:
        """Receive again."""
        self._port.resume()

    def drain(self) -> None:
        """Receive one last batch, and stop the protocol."""
        self._try_no_more()
        self._port.doRead()
        self._port.stopListening()

    def detach(self) -> None:
        """Receive nothing, and stop the protocol."""
        self._try_no_more()
        self._port.release()

    def set_limits(self, limits: Limits) -> None:
        """Serve by other rules."""
        self.gate.limit(limits)
        access = Access(limits.only_from, limits.no_access)
        self._guard.change(access, limits.refuse_source_ports, limits.datagram_rate)

    def _try_no_more(self) -> None:
        if self._next_try is not None:
            self._next_try.cancel()
            self._next_try = None

    def _died(self, error: OSError) -> None:
        self.log.error(
            "{listener}: the socket failed: {error}; it is opened again",
            listener=self.gate.listener,
            error=error.strerror,
        )
        self._why = ""
        wait = max(0.0, self._not_before - self.gate.now())
        self._next_try = self._reactor.callLater(wait, self._try_to_reopen)

    def _try_to_reopen(self) -> None:
        """Go on with a new socket, or try again later; each new reason is one line."""
        self._next_try = None
        self._not_before = self.gate.now() + AGAIN
        try:
            self._port.replace(self._reopen())
        except (SocketError, OSError) as error:
            if str(error) != self._why:
                self._why = str(error)
                self.log.error(
                    "{listener}: cannot be opened again: {why}; tried every second",
                    listener=self.gate.listener,
                    why=self._why,
                )
            self._next_try = self._reactor.callLater(AGAIN, self._try_to_reopen)
            return
        self.log.info("{listener}: the socket is open again", listener=self.gate.listener)

    def _dropped(self, reason: DropReason, error: OSError | None) -> None:
        self.gate.observer.datagram_dropped(self.gate.listener, reason, error)

    def _sent(self, datagrams: IDatagrams) -> None:
        self.gate.observer.datagrams_sent(self.gate.listener, datagrams)

    def _raised(self) -> None:
        self.gate.observer.service_failed(self.gate.listener, "datagram protocol")
