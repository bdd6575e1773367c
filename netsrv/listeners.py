"""Listeners: a socket, the gate, and a service, put together.

A listener is given its socket, bound and ready, and never asks where it came
from.  The way of a peer is put together in each class's `__init__`.
"""

import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from netsrv.addresses import show_credentials
from netsrv.gate import Gate
from netsrv.guards.access import Access
from netsrv.guards.datagrams import DatagramGuard
from netsrv.interfaces import IDatagrams, Refusal
from netsrv.limits import Limits, Overload
from netsrv.sockets import SocketError, kernel_drops
from netsrv.transports.accept import AcceptLoop
from netsrv.transports.datagrams import DatagramPort
from netsrv.uvreactor.interfaces import IStreamAcceptor

AGAIN = 1.0
"""Seconds from one try to open a dead socket again to the next, at least."""


class Listener(Protocol):
    """What the server asks of a listener, whatever it listens for."""

    gate: Gate

    @property
    def kernel_drops(self) -> int | None:
        """How many datagrams the kernel has dropped; None for streams, or if unknown."""

    def start(self) -> None:
        """Serve from now on."""

    def suspend(self) -> None:
        """Take nothing in; the socket stays bound, and peers wait in the kernel."""

    def resume(self) -> None:
        """Serve again, those who waited first."""

    def finish(self) -> None:
        """Take in who waits by now, and then nobody any more.  Live connections go on."""

    def release(self) -> None:
        """Leave the socket, and who waits there, to another listener."""

    def limit(self, limits: Limits) -> None:
        """Take in by other limits from now on."""

    @property
    def gone(self) -> bool:
        """Whether the socket has failed for good."""


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
        self._factory = gate.stream(factory)
        self._local = sock.family == socket.AF_UNIX
        self._loop = self._accept_loop()
        self._overload = overload
        self._open = False
        self._next_token: Any = None

    def _accept_loop(self) -> Any:
        """The reactor's own loop where it has one, and ours elsewhere."""
        told = (self._failed, self._gone, self._may_accept)
        acceptor: Any = IStreamAcceptor(self._reactor, None)
        if acceptor is not None:
            return acceptor.acceptStreams(self._sock, self._welcome, *told)
        return AcceptLoop(self._reactor, self._sock, self._serve, *told)

    def start(self) -> None:
        """Start the factory, and accept."""
        self._factory.doStart()
        self.resume()

    def suspend(self) -> None:
        """Accept nobody; newcomers wait in the backlog."""
        self._open = False
        self._loop.stop()
        self._stop_waiting()

    def resume(self) -> None:
        """Accept again."""
        if not self.gone:
            self._open = True
            self._loop.start()

    def finish(self) -> None:
        """Accept those in the backlog for whom there is a place, and stop the factory."""
        self._loop.finish()
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
        self._loop.leave()
        self._end()

    def _end(self) -> None:
        self._open = False
        self._stop_waiting()
        if self._loop.coming:
            self.gate.expect()
            self._reactor.callLater(0, self.gate.close)
        else:
            self.gate.close()
        try:
            self._factory.doStop()
        except BaseException:
            self.gate.observer.service_failed(self.gate.listener, "stopFactory")

    def _welcome(self, newcomer: Any, sockaddr: Any) -> None:
        """Have the reactor serve a connection that it has accepted, if it is admitted."""
        if self._local:
            sockaddr = show_credentials(newcomer.getHandle())
        if self.gate.admit(sockaddr) is None:
            newcomer.serve(self._factory)
        elif self._overload is Overload.RESET:
            newcomer.reset()
        else:
            newcomer.close()

    def _serve(self, connection: socket.socket, sockaddr: Any) -> None:
        """Hand an admitted connection to the reactor, which keeps a descriptor of its own."""
        if self._local:
            sockaddr = show_credentials(connection)
        if self.gate.admit(sockaddr) is not None:
            self._turn_away(connection)
            return
        try:
            self._reactor.adoptStreamConnection(
                connection.fileno(), connection.family, self._factory
            )
        except BaseException:
            self.gate.withdraw()
            raise
        connection.close()

    def _turn_away(self, connection: socket.socket) -> None:
        """Close a connection that is not served, or reset it."""
        if self._overload is Overload.RESET:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    def _may_accept(self) -> bool:
        """Whether there is a place for whoever comes; if not, and we pause, wait for one."""
        admission = self.gate.admission
        if admission.open or self._overload is not Overload.PAUSE:
            return True
        if admission.full:
            for each in admission.places:
                if each.full:
                    each.when_left(self._place_left)
            return self._pause(Refusal.MAX_CONNECTIONS)
        wait = admission.wait(self.gate.now())
        if wait:
            self._next_token = self._reactor.callLater(wait, self._place_left)
            return self._pause(Refusal.CONNECTION_RATE)
        return True

    def _pause(self, reason: Refusal) -> bool:
        self._loop.stop()
        self.gate.observer.suspended(self.gate.listener, reason)
        return False

    def _place_left(self) -> None:
        self._stop_waiting()
        if self._open:
            self.gate.observer.resumed(self.gate.listener)
            self._loop.start()

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
        self.gate.observer.listener_gone(self.gate.listener, error)


class DatagramListener:
    """Receives datagrams on *sock*, and has *protocol* answer them.

    A socket that has died is replaced by what *reopen* gives, which raises `SocketError` if
    it cannot.
    """

    log = Logger()

    gone = False

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
            gate.datagrams(protocol, guard),
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

    def finish(self) -> None:
        """Receive one last batch, and stop the protocol."""
        self._try_no_more()
        self._port.doRead()
        self._port.stopListening()

    def release(self) -> None:
        """Receive nothing, and stop the protocol."""
        self._try_no_more()
        self._port.release()

    def limit(self, limits: Limits) -> None:
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

    def _dropped(self, reason: str) -> None:
        self.gate.observer.datagram_dropped(self.gate.listener, reason)

    def _sent(self, datagrams: IDatagrams) -> None:
        self.gate.observer.datagrams_sent(self.gate.listener, datagrams)

    def _raised(self) -> None:
        self.gate.observer.service_failed(self.gate.listener, "datagram protocol")
