"""forward, on datagrams: each client has a socket of its own that is connected to the upstream.

So the upstream's answers, and the errors of the network about it, belong to one client, and no
other host can answer for it.
"""

import socket
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IHostnameResolver, IReadDescriptor
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from netsrv.services.dial import Addresses
from netsrv.services.forward import ForwardSettings, Upstream

Client = tuple[str, int]

BATCH_SIZE = 64
"""Datagrams that a socket receives in one turn of the reactor, at most."""

MAX_SIZE = 65_535
"""Bytes: no datagram is longer."""

MAX_WAITING = 64
"""Datagrams that wait while the upstream's name is looked up."""

LOOKUP_INTERVAL = 30.0
"""Seconds for which the addresses of a name are used."""


@implementer(IReadDescriptor)
class FlowSocket:
    """The upstream socket of one client: *answer* is called with what comes back."""

    def __init__(
        self, reactor: Any, family: int, sockaddr: Any, answer: Callable[[bytes], None]
    ) -> None:
        self._reactor = reactor
        self._answer = answer
        self._sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            if family != socket.AF_UNIX:
                self._sock.connect(sockaddr)
            else:
                self._sock.bind("")  # an abstract name, to which the upstream can answer
                self._sock.connect(sockaddr)
        except BaseException:
            self._sock.close()
            raise
        reactor.addReader(self)

    def send(self, data: bytes) -> OSError | None:
        """Send a datagram; return the error if that is not possible."""
        try:
            self._sock.send(data)
        except OSError as error:
            return error
        return None

    def close(self) -> None:
        """Close the socket."""
        if self._sock.fileno() != -1:
            self._reactor.removeReader(self)
            self._sock.close()

    def fileno(self) -> int:
        return self._sock.fileno()

    def doRead(self) -> None:
        for _ in range(BATCH_SIZE):
            if self._sock.fileno() == -1:
                return
            try:
                data = self._sock.recv(MAX_SIZE)
            except BlockingIOError:
                return
            except OSError:
                continue  # the network's answer to an earlier datagram, such as ECONNREFUSED
            self._answer(data)

    def logPrefix(self) -> str:
        return "forward"

    def connectionLost(self, reason: Failure) -> None:
        """An error waits in the socket, which receiving takes; or the reactor ends."""
        if self._reactor.running and self._sock.fileno() != -1:
            self._reactor.addReader(self)
            self.doRead()
        else:
            self._sock.close()


class ForwardDatagrams(DatagramProtocol):
    """Passes the datagrams of clients on to the upstream, and its answers back."""

    log = Logger()
    noisy = False
    unlimited_replies = True
    """The answers are those of the upstream: their length is its business."""

    transport: Any

    def __init__(self, settings: ForwardSettings, address: Upstream | None = None) -> None:
        self._settings = settings
        self._upstream: Upstream = address or settings.address
        self._flows: OrderedDict[Client, tuple[FlowSocket, list[float]]] = OrderedDict()
        """The socket of each client and the time of its last datagram, the oldest first."""
        self._timer: Any = None
        self._targets: list[tuple[int, Any]] = []
        self._looked_up = 0.0
        self._looking_up = False
        self._waiting: deque[tuple[bytes, Client]] = deque()
        self._problem = ""

    def startProtocol(self) -> None:
        upstream = self._upstream
        if upstream.path:
            self._targets = [(socket.AF_UNIX, upstream.path)]
        elif upstream.is_numeric:
            family = socket.AF_INET6 if ":" in upstream.host else socket.AF_INET
            self._targets = [(family, (upstream.host, upstream.port))]
        else:
            self._look_up()

    def stopProtocol(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for flow, _ in self._flows.values():
            flow.close()
        self._flows.clear()
        self._waiting.clear()

    def datagramReceived(self, datagram: bytes, addr: Client) -> None:
        now = self.transport.reactor.seconds()
        flow = self._flows.get(addr)
        if flow is None:
            if not self._targets:
                self._wait(datagram, addr)
                return
            flow = self._open(addr)
            if flow is None:
                return
        else:
            self._flows.move_to_end(addr)
        flow[1][0] = now
        error = flow[0].send(datagram)
        if error is not None:
            self._report(f"{self._upstream}: {error.strerror}")

    def _open(self, addr: Client) -> tuple[FlowSocket, list[float]] | None:
        """Open the upstream socket of a client; return None if there is none to be had."""
        if len(self._flows) >= self._settings.max_flows:
            self._report(f"{len(self._flows)} flows are open; settings.max_flows changes that")
            return None
        reactor = self.transport.reactor
        family, sockaddr = self._targets[0]
        try:
            sock = FlowSocket(reactor, family, sockaddr, lambda data: self._answer(addr, data))
        except OSError as error:
            self._report(f"{self._upstream}: {error.strerror}")
            return None
        self._problem = ""
        flow = self._flows[addr] = sock, [0.0]
        if self._timer is None:
            self._timer = reactor.callLater(self._settings.flow_timeout, self._close_idle)
        if not self._upstream.is_numeric and not self._upstream.path:
            self._look_up_again()
        return flow

    def _answer(self, addr: Client, data: bytes) -> None:
        flow = self._flows.get(addr)
        if flow is not None:
            flow[1][0] = self.transport.reactor.seconds()
            self._flows.move_to_end(addr)
            self.transport.write(data, addr)

    def _close_idle(self) -> None:
        """Close the sockets of clients that have been idle, and wait for the next."""
        self._timer = None
        reactor, timeout = self.transport.reactor, self._settings.flow_timeout
        now = reactor.seconds()
        while self._flows:
            addr, (flow, last) = next(iter(self._flows.items()))
            if last[0] + timeout > now:
                self._timer = reactor.callLater(last[0] + timeout - now, self._close_idle)
                return
            del self._flows[addr]
            flow.close()

    def _report(self, problem: str) -> None:
        """Log a problem, once until a flow is opened again."""
        if problem != self._problem:
            self._problem = problem
            self.log.warn("forward: {problem}", problem=problem)

    # A name

    def _wait(self, datagram: bytes, addr: Client) -> None:
        """Keep a datagram until the upstream's addresses are known."""
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append((datagram, addr))
        self._look_up_again()

    def _look_up_again(self) -> None:
        if self.transport.reactor.seconds() - self._looked_up >= LOOKUP_INTERVAL:
            self._look_up()

    def _look_up(self) -> None:
        """Look the upstream's name up, in the reactor's resolver."""
        if self._looking_up:
            return
        self._looking_up = True
        reactor = self.transport.reactor
        self._looked_up = reactor.seconds()
        resolver: IHostnameResolver = reactor.nameResolver
        upstream = self._upstream
        resolver.resolveHostName(
            Addresses(self._found), upstream.host, upstream.port, transportSemantics="UDP"
        )

    def _found(self, targets: list[tuple[int, Any]]) -> None:
        self._looking_up = False
        if targets:
            self._targets = targets
        elif not self._targets:
            self._looked_up = 0.0
            self._waiting.clear()
            self._report(f"{self._upstream}: the name has no address")
        waiting, self._waiting = self._waiting, deque()
        for datagram, addr in waiting:
            self.datagramReceived(datagram, addr)
