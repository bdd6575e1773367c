"""Listeners: a socket, the gate, and a service, put together.

A listener is given its socket, bound and ready, and never asks where it came
from.  The way of a peer is put together in each class's `__init__`.
"""

import socket
from contextlib import suppress
from typing import Any

from twisted.internet.interfaces import IProtocolFactory

from netsrv.gate import Gate
from netsrv.guards.limits import Limits, Overload
from netsrv.interfaces import RejectReason
from netsrv.sockets.addresses import show_credentials
from netsrv.streams.connection import GatedFactory
from netsrv.uvreactor.acceptor import accept_streams


class StreamListener:
    """Accepts connections on *sock*, and has *factory* serve them."""

    kernel_drops = None

    def __init__(
        self,
        reactor: Any,
        sock: socket.socket,
        gate: Gate,
        factory: IProtocolFactory,
        overload: Overload = Overload.PAUSE,
    ) -> None:
        self.gate = gate
        self._reactor = reactor
        self._sock = sock
        self._factory = GatedFactory(gate, factory)
        self._local = sock.family == socket.AF_UNIX
        self._loop = accept_streams(
            reactor, sock, self._welcome, self._failed, self._gone, self._may_accept
        )
        self._overload = overload
        self._open = False
        self._next_token: Any = None

    def start(self) -> None:
        """Start the factory, and accept."""
        self._factory.doStart()
        self.resume()

    def suspend(self) -> None:
        """Accept nobody; newcomers wait in the backlog."""
        self._open = False
        self._loop.suspend()
        self._stop_waiting()

    def resume(self) -> None:
        """Accept again."""
        if not self.gone:
            self._open = True
            self._loop.resume()

    def finish(self) -> None:
        """Accept those in the backlog for whom there is a place, and stop the factory."""
        self._loop.drain()
        self._end()

    def limit(self, limits: Limits) -> None:
        """Accept by other limits, first those who have waited because of the old ones."""
        self.gate.limit(limits)
        self._overload = limits.overload
        if self._open and not self._loop.accepting:
            self._place_left()

    @property
    def gone(self) -> bool:
        """Whether nobody can be accepted here any more."""
        return self._sock.fileno() == -1

    def release(self) -> None:
        """Accept nobody, and stop the factory."""
        self._loop.detach()
        self._end()

    def _end(self) -> None:
        self._open = False
        self._stop_waiting()
        if self._loop.pending:
            self.gate.expect()
            self._reactor.callLater(0, self.gate.close)
        else:
            self.gate.close()
        try:
            self._factory.doStop()
        except BaseException:
            self.gate.observer.service_failed(self.gate.listener, "stopFactory")

    def _welcome(self, connection: Any, sockaddr: Any) -> None:
        """Serve an accepted connection if it is admitted; else close or reset it."""
        if self._local:
            sockaddr = show_credentials(connection.getHandle())
        if self.gate.admit(sockaddr) is None:
            try:
                connection.serve(self._factory)
            except BaseException:
                self.gate.withdraw()
                raise
        elif self._overload is Overload.RESET:
            connection.reset()
        else:
            connection.close()

    def _may_accept(self) -> bool:
        """Whether there is a place for whoever comes; if not, and we pause, wait for one."""
        admission = self.gate.admission
        if admission.open or self._overload is not Overload.PAUSE:
            return True
        if admission.full:
            for each in admission.slots:
                if each.full:
                    each.on_release(self._place_left)
            return self._pause(RejectReason.MAX_CONNECTIONS)
        wait = admission.wait(self.gate.now())
        if wait:
            self._next_token = self._reactor.callLater(wait, self._place_left)
            return self._pause(RejectReason.CONNECTION_RATE)
        return True

    def _pause(self, reason: RejectReason) -> bool:
        self._loop.suspend()
        self.gate.observer.suspended(self.gate.listener, reason)
        return False

    def _place_left(self) -> None:
        self._stop_waiting()
        if self._open:
            self.gate.observer.resumed(self.gate.listener)
            self._loop.resume()

    def _stop_waiting(self) -> None:
        if self._next_token is not None and self._next_token.active():
            self._next_token.cancel()
        self._next_token = None

    def _failed(self, error: OSError) -> None:
        self.gate.observer.accept_failed(self.gate.listener, error)

    def _gone(self, error: OSError) -> None:
        self._open = False
        with suppress(OSError):
            self._sock.close()  # nobody shall wait there in vain
        self.gate.observer.listener_failed(self.gate.listener, error)
