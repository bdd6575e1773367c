"""The listeners that are running, and the gates that still have connections.

A listener is the same as before if its transport and address are.  What it serves, and
within which limits, can change while its socket stays open.
"""

import socket
import time
from collections.abc import Callable
from typing import Any, Protocol

from attrs import frozen
from twisted.internet.defer import Deferred

from netsrv.datagrams.listener import DatagramListener
from netsrv.gate import Gate
from netsrv.guards.access import Access
from netsrv.guards.admission import Admission
from netsrv.guards.capacity import ConnectionSlots
from netsrv.guards.datagrams import DatagramGuard
from netsrv.guards.limits import Limits
from netsrv.interfaces import IObserver
from netsrv.server.prepare import PreparedListener, reopener
from netsrv.streams.listener import StreamListener


class Listener(Protocol):
    """What the server asks of a listener, whatever it listens for."""

    gate: Gate

    @property
    def kernel_drops(self) -> int | None:
        """How many datagrams the kernel has dropped; None for streams, or if unknown."""

    def start(self) -> None:
        """Start the service, and receive or accept."""

    def suspend(self) -> None:
        """Stop receiving or accepting; the socket stays open, and peers wait in the kernel."""

    def resume(self) -> None:
        """Receive or accept again, first the peers that waited."""

    def drain(self) -> None:
        """Serve the peers that wait in the kernel, then stop.  Live connections go on."""

    def detach(self) -> None:
        """Stop, and leave the socket and the peers that wait there to another listener."""

    def set_limits(self, limits: Limits) -> None:
        """Apply other limits to the peers that come from now on."""

    @property
    def failed(self) -> bool:
        """True if the socket has failed for good."""


@frozen
class Post:
    """A listener that is running, and what it was made of."""

    prepared: PreparedListener
    listener: Listener

    @property
    def gate(self) -> Gate:
        """Where its peers come in."""
        return self.listener.gate

    @property
    def name(self) -> str:
        """The listener in the log, with the address in effect: ``tcp 127.0.0.1:7 (echo)``."""
        return self.prepared.name

    @property
    def host(self) -> str:
        """The address in effect, as a number; empty for a unix socket."""
        return self.prepared.socket.host

    @property
    def port(self) -> int:
        """The port in effect; 0 for a unix socket."""
        return self.prepared.socket.port

    @property
    def connections(self) -> int:
        """How many connections are being served."""
        return len(self.gate.connections)


class Roster:
    """Starts, changes and ends listeners.

    *places* are those of the whole process: its descriptors.  *now* gives seconds that
    never go back.
    """

    def __init__(
        self,
        reactor: Any,
        observer: IObserver,
        places: ConnectionSlots,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.posts: list[Post] = []
        self._now = now
        self._reactor = reactor
        self._observer = observer
        self._places = places
        self._leaving: list[Gate] = []
        self._own_ports: set[int] = set()
        self._suspended = False

    @property
    def gates(self) -> list[Gate]:
        """The gates of all listeners, and of those that are gone and still have peers."""
        return [*(each.gate for each in self.posts), *self._occupied()]

    @property
    def connections(self) -> int:
        """How many connections there are, also of listeners that are gone."""
        return sum(len(each.connections) for each in self.gates)

    def add(self, prepared: PreparedListener) -> Post:
        """Serve on one more socket.  Raises what the service raises when it is started."""
        admission = Admission(prepared.settings.limits, self._places, self._now())
        post = Post(prepared, self._listener(prepared, admission))
        self.posts.append(post)
        self._count_own_ports()
        try:
            self._start(post)
        except BaseException:
            self.posts.remove(post)
            self._count_own_ports()
            raise
        return post

    def change(self, post: Post, prepared: PreparedListener) -> Post:
        """Have a listener serve something else, or by other limits, on the same socket.

        Who waits is served as it is then; live connections keep what they have.  Raises
        what the service raises when it is started, and then the old one goes on.
        """
        if _served_alike(prepared, post.prepared):
            post.listener.set_limits(prepared.settings.limits)
            new = Post(prepared, post.listener)
            self.posts[self.posts.index(post)] = new
            return new
        return self._replace(post, prepared)

    def _replace(self, post: Post, prepared: PreparedListener) -> Post:
        admission = post.gate.admission
        new = Post(prepared, self._listener(prepared, admission))
        post.listener.detach()
        admission.change(prepared.settings.limits, self._now())
        try:
            self._start(new)
        except BaseException:
            admission.change(post.prepared.settings.limits, self._now())
            self._start(post)
            raise
        self.posts[self.posts.index(post)] = new
        self._leaving = [*self._occupied(), post.gate]
        if not self._suspended:
            self._observer.resumed(new.gate.listener)  # the old one may have been at a limit
        return new

    def remove(self, post: Post) -> Deferred[None]:
        """Close a listener; fire when its last connection has ended.

        Who waits by now is taken in.
        """
        post.listener.drain()
        post.prepared.socket.close()
        self.posts.remove(post)
        self._leaving = [*self._occupied(), post.gate]
        self._count_own_ports()
        return post.gate.when_empty()

    def suspend(self) -> None:
        """Have nobody taken in: newcomers wait in the kernel."""
        self._suspended = True
        for post in self.posts:
            post.listener.suspend()
            self._observer.suspended(post.gate.listener, None)

    def resume(self) -> None:
        """Take in again, those who have waited first."""
        self._suspended = False
        for post in self.posts:
            post.listener.resume()
            self._observer.resumed(post.gate.listener)

    def _start(self, post: Post) -> None:
        post.listener.start()
        if self._suspended:
            post.listener.suspend()
            self._observer.suspended(post.gate.listener, None)

    def _occupied(self) -> list[Gate]:
        return [each for each in self._leaving if each.occupied]

    def _listener(self, prepared: PreparedListener, admission: Admission) -> Listener:
        reactor, sock = self._reactor, prepared.socket.sock
        limits = prepared.settings.limits
        gate = Gate(reactor, prepared.name, self._observer, admission, limits, self._now)
        service: Any = prepared.service
        if prepared.settings.transport == "udp":
            safe = prepared.settings.safe_replies or not prepared.settings.embedded
            access = Access(limits.only_from, limits.no_access)
            rate, refused = limits.datagram_rate, limits.refuse_source_ports
            guard = DatagramGuard(access, refused, self._own_ports, rate, safe)
            return DatagramListener(reactor, sock, gate, service, guard, reopener(prepared))
        return StreamListener(reactor, sock, gate, service, limits.overload)

    def _count_own_ports(self) -> None:
        sockets = [each.prepared.socket for each in self.posts]
        self._own_ports.clear()
        self._own_ports.update(each.port for each in sockets if each.sock.type == socket.SOCK_DGRAM)


def _served_alike(one: PreparedListener, other: PreparedListener) -> bool:
    """Whether only limits, and options of the socket, are different."""
    rules = one.settings.safe_replies is other.settings.safe_replies
    return one.service is other.service and one.name == other.name and rules
