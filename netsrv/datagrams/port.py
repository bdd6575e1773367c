"""The datagram port: receive datagrams, and send back::

    while True:
        data, address = sock.recvfrom(65535)
        sock.sendto(answer(data), address)

That is the loop of every UDP server.  Here the reactor runs it: it waits until
something has arrived and calls `doRead`, which receives a batch of datagrams, in one call
where the system has one, and hands it to a `DatagramProtocol`.  What that sends meanwhile
goes out together at the end of the batch.  The port lives through whatever a network does
to it: an error in receiving or sending concerns one datagram and is counted.
"""

import errno
import os
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IListeningPort,
    IMulticastTransport,
    IReadDescriptor,
    ISystemHandle,
)
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.udp import MulticastMixin  # type: ignore[attr-defined]
from zope.interface import implementer

from netsrv.batches import Datagrams, accepts_batches
from netsrv.datagrams.batch import Batch, Serve, SingleDatagram
from netsrv.datagrams.pktinfo import host_and_port
from netsrv.datagrams.sender import Sender, Socket
from netsrv.datagrams.single import ReceivedBatch
from netsrv.guards.sources import Flow
from netsrv.interfaces import DropReason

BATCH_SIZE = 64
"""How many datagrams are received, empty ones too, before other events get their turn."""

MAX_DATAGRAM_SIZE = 65_535
"""Bytes; no UDP payload is longer (65,507 on IPv4, 65,527 on IPv6)."""

RETRY_DELAY = 0.1
"""Seconds without receiving after an error that would only come again at once."""

_SO_MEMINFO = 55
_MEMINFO = struct.Struct("=9I")
_DROPS = 8  # SK_MEMINFO_DROPS of linux/sock_diag.h

EARLIER_SEND = frozenset(
    getattr(errno, name)
    for name in "ECONNREFUSED ECONNRESET EHOSTDOWN EHOSTUNREACH ENETDOWN ENETUNREACH EPROTO".split()
)
"""The network's late answer to something sent before; receiving goes on at once."""

DEAD = frozenset({errno.EBADF, errno.ENOTSOCK, errno.ENOTCONN, errno.EOPNOTSUPP})
"""The descriptor is closed, or has become something else than a UDP socket."""


@implementer(IListeningPort, IMulticastTransport, IReadDescriptor, ISystemHandle)
class DatagramPort(Sender, MulticastMixin):  # type: ignore[override]
    """Receives from a bound UDP socket that it is given, and is its protocol's transport.

    *on_drop* is called with the reason, and the error if there was one, for each datagram
    that is lost here.  *on_exception* is called while an exception of the protocol is handled.
    *on_dead_socket* is told that the socket is dead: the port has parted with it, and goes on when
    it is given another by `replace_socket`.  Without it a dead socket is like any other error.
    *on_sent* is told of datagrams that went out.
    """

    def __init__(
        self,
        reactor: Any,
        sock: Socket,
        protocol: DatagramProtocol,
        on_drop: Callable[[DropReason, OSError | None], None],
        on_exception: Callable[[], None],
        largest: int = MAX_DATAGRAM_SIZE,
        on_dead_socket: Callable[[OSError], None] | None = None,
        on_sent: Callable[[Datagrams], None] = lambda datagrams: None,
    ) -> None:
        super().__init__(sock, on_drop, on_sent)
        self.reactor = reactor
        self._protocol = protocol
        self._on_exception = on_exception
        self._on_dead_socket = on_dead_socket
        self._largest = largest
        self._receiving = False
        self._pause: Any = None
        self._stopped = False
        self.single = SingleDatagram(self)
        """The datagram that is being served by itself, for a service that takes batches."""
        self._later: list[Callable[[], None]] = []
        self._held: tuple[Sequence[Flow], Sequence[bytes], Serve] | None = None
        self._batched = accepts_batches(protocol)

    def _take(self, sock: Socket) -> None:
        super()._take(sock)
        self._descriptor = sock.fileno()
        self._identity = _identity(self._descriptor)

    def startListening(self) -> None:
        """Tell the protocol its transport, and receive from now on."""
        self._stopped = False
        self._protocol.makeConnection(self)
        self.resume()

    def resume(self) -> None:
        """Receive, after `suspend`."""
        self._receiving = True
        if self._held is not None and self._pause is None:
            self._pause = self.reactor.callLater(0, self._end_pause)
        elif self.fileno() != -1:
            self.reactor.addReader(self)

    def suspend(self) -> None:
        """Receive no more.  The socket stays open: what comes waits in its buffer."""
        self._receiving = False
        self.reactor.removeReader(self)
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    def stopListening(self) -> Deferred[None]:
        """Stop for good: tell the protocol, and close the socket."""
        if not self._stopped:
            self.detach()
            self._socket.close()
        return succeed(None)

    def detach(self) -> None:
        """Stop for good: tell the protocol, and leave the socket open for somebody else."""
        self._stopped = True
        self.suspend()
        try:
            self._protocol.doStop()
        except BaseException:
            self._on_exception()
        self._flush()
        self._serving = False
        if self._held is not None:
            held, self._held = self._held, None
            self._hold(*held)

    def doRead(self) -> None:
        """Receive what has arrived, up to `BATCH_SIZE` datagrams, and serve it."""
        self._turning = True
        try:
            self._serve_held()
            self._receive()
        finally:
            self._turning = False
            later, self._later = self._later, []
            for call in later:
                call()
            self._tell_sent()

    def at_turn_end(self, call: Callable[[], None]) -> None:
        """Call *call* at the end of this turn of the reactor at the port."""
        self._later.append(call)

    def _receive(self) -> None:
        left = BATCH_SIZE
        while left > 0 and self._receiving and self._socket.fileno() != -1:
            try:
                if self._io.prefer_single:
                    one = self._io.receive_one(self._largest)
                    received = None
                else:
                    received = self._io.receive(left, self._largest)
            except BlockingIOError:
                return
            except OSError as error:
                if not self._receive_failed(error):
                    return
                left -= 1
                continue
            if received is None:
                left -= 1
                self._io.prefer_single -= 1
                self._serve_one(*one)
                continue
            left -= len(received.sizes)
            try:
                self._serve(received)
            finally:
                received.free()

    def _serve_one(self, datagram: bytes, flow: Flow, size: int) -> None:
        if size > self._largest:
            self._on_drop(DropReason.TOO_LONG, None)
            return
        before = self._serving, self.flow
        self._serving, self.flow, self.datagram = True, flow, datagram
        try:
            self._protocol.datagramReceived(datagram, flow.peer)
        except BaseException:  # as Twisted: not even SystemExit ends the server
            self._on_exception()
        if self._packets:
            self._flush()
        self._serving, self.flow = before[0] and not self._stopped, before[1]
        self.datagram = None

    def _serve(self, received: ReceivedBatch) -> None:
        if max(received.sizes) > self._largest:
            for size in received.sizes:
                if size > self._largest:
                    self._on_drop(DropReason.TOO_LONG, None)
            indices = [each for each, size in enumerate(received.sizes) if size <= self._largest]
            if not indices:
                return
            received = received.only(indices)
        before, self._serving = self._serving, not self._stopped
        if self._batched:
            batch = Batch(self, received)
            try:
                self._protocol.datagramsReceived(batch)  # type: ignore[attr-defined]
            except BaseException:  # as Twisted: not even SystemExit ends the server
                self._on_exception()
            batch.end()
        else:
            self.serve_each(received.flows, received.data(), self._protocol.datagramReceived)
        self._flush()
        self._serving = before and not self._stopped

    def serve_each(self, flows: Sequence[Flow], data: Sequence[bytes], serve: Serve) -> None:
        """Have *serve* called for each datagram; those after a `suspend` wait for `resume`."""
        before = self.flow
        for index, flow in enumerate(flows):
            if not self._receiving:
                self._hold(flows[index:], data[index:], serve)
                break
            self.flow = flow
            try:
                serve(data[index], flow.peer)
            except BaseException:  # as Twisted: not even SystemExit ends the server
                self._on_exception()
        self.flow = before

    def _hold(self, flows: Sequence[Flow], data: Sequence[bytes], serve: Serve) -> None:
        """Keep what was received and cannot be served now."""
        if self._stopped:
            for _ in data:
                self._on_drop(DropReason.STOPPED, None)
        else:
            self._held = flows, data, serve

    def _serve_held(self) -> None:
        if self._held is None or not self._receiving or self._serving:
            return
        held, self._held = self._held, None
        self._serving = True
        self.serve_each(*held)
        self._flush()
        self._serving = False

    def _receive_failed(self, error: OSError) -> bool:
        """Count it, and tell whether to receive on at once."""
        self._on_drop(DropReason.RECEIVE_ERROR, error)
        if error.errno in EARLIER_SEND:
            self._refused()
            return self._receiving
        if error.errno in DEAD and self._on_dead_socket is not None:
            self._abandon_socket()
            self._on_dead_socket(error)
            return False
        self.reactor.removeReader(self)
        self._pause = self.reactor.callLater(RETRY_DELAY, self._end_pause)
        return False

    def _end_pause(self) -> None:
        self._pause = None
        self._serve_held()
        if self._receiving:
            self.resume()

    def _abandon_socket(self) -> None:
        """Let go of a dead socket.  Its number may by now be somebody else's descriptor."""
        self._socket.detach()
        try:
            self.reactor.removeReader(self)
        except OSError:  # epoll forgets a closed descriptor by itself, and Twisted then does not
            self.reactor._reads.discard(self._descriptor)
        if self._identity is not None and _identity(self._descriptor) == self._identity:
            os.close(self._descriptor)

    def replace_socket(self, sock: Socket) -> None:
        """Go on with *sock*, bound and ready, in place of one that has died."""
        if self._stopped:
            sock.close()
            return
        self._take(sock)
        if self._receiving:
            self.reactor.addReader(self)

    def _refused(self) -> None:
        """Only a connected protocol can know whom the refusal is from."""
        if self._connected and isinstance(self._protocol, DatagramProtocol):
            try:
                self._protocol.connectionRefused()
            except BaseException:
                self._on_exception()

    # What else Twisted's interfaces ask for

    def getHost(self) -> IPv4Address | IPv6Address:
        """The address that the port is bound to."""
        kind = IPv6Address if self.addressFamily == socket.AF_INET6 else IPv4Address
        return kind("UDP", *host_and_port(self._socket.getsockname()))

    def getHandle(self) -> Socket:
        """The socket."""
        return self.socket

    def setBroadcastAllowed(self, enabled: bool) -> None:
        """Set SO_BROADCAST: whether datagrams may be sent to broadcast addresses."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, int(enabled))

    def getBroadcastAllowed(self) -> bool:
        """Whether datagrams may be sent to broadcast addresses."""
        return bool(self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST))

    def fileno(self) -> int:
        """The descriptor that the reactor watches."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """How the reactor names this port when it logs."""
        return "DatagramPort"

    def connectionLost(self, reason: Any) -> None:
        """The reactor gives the descriptor up: at its end, or for an error that waits there.

        poll and epoll tell of such an error, the late answer to something sent, as they
        tell of the end of a connection.  Receiving collects it, and goes on.
        """
        if self._receiving and self.reactor.running and self.fileno() != -1:
            self.reactor.addReader(self)
            self.doRead()


def _identity(descriptor: int) -> tuple[int, int] | None:
    """What an open file is, whatever its number; None if the number is nobody's."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def kernel_drops(sock: socket.socket) -> int | None:
    """Return how many datagrams the kernel dropped at this socket, mostly for lack of space.

    ``ss -u -m`` shows the same number after ``d`` (sock_diag(7)).  None if the kernel does not
    report it, or the socket is closed.
    """
    if sys.platform != "linux":
        return None
    try:
        info = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        return int(_MEMINFO.unpack(info)[_DROPS])
    except (OSError, struct.error):
        return None
