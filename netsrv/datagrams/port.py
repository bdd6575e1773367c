"""The datagram port: receive datagrams, and send replies::

    while True:
        data, address = sock.recvfrom(65535)
        sock.sendto(reply(data), address)

That is the loop of every UDP server.  Here the reactor runs it: it waits until the socket is
readable and calls `doRead`, which receives a batch of datagrams, in one call where the system
has one, and passes it to a `DatagramProtocol`.  What the protocol sends meanwhile is sent
together at its end.  An error in receiving or sending concerns one datagram, and is reported.
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

from netsrv.batches import accepts_batches
from netsrv.datagrams.batch import BATCH_SIZE, Batch, Serve, SingleDatagram
from netsrv.datagrams.descriptors import forget_reader, identity
from netsrv.datagrams.pktinfo import host_and_port
from netsrv.datagrams.sender import OnDrop, OnSent, Sender, Socket
from netsrv.datagrams.single import as_os_error
from netsrv.guards.sources import Flow
from netsrv.interfaces import DropReason

MAX_DATAGRAM_SIZE = 65_535
"""Bytes; no UDP payload is longer (65,507 on IPv4, 65,527 on IPv6)."""

RETRY_DELAY = 0.1
"""Seconds without receiving after an error that would recur at once."""

EARLIER_SEND = frozenset(
    getattr(errno, name)
    for name in "ECONNREFUSED ECONNRESET EHOSTDOWN EHOSTUNREACH ENETDOWN ENETUNREACH EPROTO".split()
)
"""Errors by which the network answers an earlier datagram of ours; receiving goes on."""

DEAD = frozenset({errno.EBADF, errno.ENOTSOCK, errno.ENOTCONN, errno.EOPNOTSUPP})
"""Errors of a descriptor that is closed, or no longer a UDP socket."""

_SO_MEMINFO, _DROPS = 55, 8  # the latter is SK_MEMINFO_DROPS of linux/sock_diag.h
_MEMINFO = struct.Struct("=9I")


@implementer(IListeningPort, IMulticastTransport, IReadDescriptor, ISystemHandle)
class DatagramPort(Sender, MulticastMixin):  # type: ignore[override]
    """Receives from the bound UDP socket *sock*, and is the transport of *protocol*.

    The callbacks:

    - *on_drop*: a datagram is lost here, for a reason, with the error if there was one;
    - *on_exception*: the protocol raised the exception that is being handled;
    - *on_dead_socket*: the socket is dead.  The port has abandoned it, and goes on after
      `replace_socket`.  Without the callback a dead socket is like any other error;
    - *on_sent*: datagrams were sent.
    """

    def __init__(
        self,
        reactor: Any,
        sock: Socket,
        protocol: DatagramProtocol,
        on_drop: OnDrop,
        on_exception: Callable[[], None],
        max_size: int = MAX_DATAGRAM_SIZE,
        on_dead_socket: Callable[[OSError], None] | None = None,
        on_sent: OnSent = lambda datagrams: None,
    ) -> None:
        super().__init__(sock, on_drop, on_sent)
        self.reactor = reactor
        self.single = SingleDatagram(self)
        """The datagram that is being served by itself, for a service that accepts batches."""
        self._protocol = protocol
        self._batched = accepts_batches(protocol)
        self._on_exception = on_exception
        self._on_dead_socket = on_dead_socket
        self._max_size = max_size
        self._receiving = False
        self._stopped = False
        self._timer: Any = None
        self._turn_end_calls: list[Callable[[], None]] = []
        self._pending: list[tuple[Sequence[Flow], Sequence[bytes], Serve]] = []

    def _use_socket(self, sock: Socket) -> None:
        super()._use_socket(sock)
        self._descriptor = sock.fileno()
        self._identity = identity(self._descriptor)

    def pass_to(self, protocol: DatagramProtocol) -> None:
        """Pass datagrams to another protocol from now on, which is connected already."""
        self._protocol = protocol
        self._batched = accepts_batches(protocol)

    # Operations of a port

    def prepare_restart(self) -> None:
        """Allow `replace_socket` again, after `detach`."""
        self._stopped = False

    def startListening(self) -> None:
        """Connect the protocol to this transport, and receive."""
        self._stopped = False
        if self.fileno() != -1:
            self._use_socket(self._socket)  # another service may have changed it since
        self._protocol.makeConnection(self)
        self.resume()

    def resume(self) -> None:
        """Receive again, after `suspend`."""
        self._receiving = True
        if self._pending and self._timer is None:
            self._timer = self.reactor.callLater(0, self._end_pause)
        elif self.fileno() != -1:
            self.reactor.addReader(self)

    def suspend(self) -> None:
        """Stop receiving; the socket stays open, and datagrams wait in its buffer."""
        self._receiving = False
        self.reactor.removeReader(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def stopListening(self) -> Deferred[None]:
        """Stop the protocol, and close the socket."""
        if not self._stopped:
            self._stop()
            self._socket.close()
        return succeed(None)

    def detach(self) -> None:
        """Stop the protocol, and leave the socket to another port, in its initial state.

        It is closed if that state cannot be restored.
        """
        self._stop()
        self._restore_socket()

    def _stop(self) -> None:
        self._stopped = True
        self.suspend()
        try:
            self._protocol.doStop()
        except BaseException:
            self._on_exception()
        self._flush()
        self._serving = False
        pending, self._pending = self._pending, []
        for each in pending:
            self._keep_pending(*each)

    # Receiving

    def doRead(self) -> None:
        """Receive up to `BATCH_SIZE` datagrams, empty ones too, and serve them."""
        self._in_turn = True
        try:
            self._serve_pending()
            self._receive()
        except MemoryError as error:
            self._receive_failed(as_os_error(error))
        finally:
            self._end_turn()

    def serve_late(self, flows: Sequence[Flow], data: Sequence[bytes], serve: Serve) -> None:
        """Serve datagrams that were received before, in this turn or in one of its own."""
        before = self._serving, self._in_turn
        self._serving = self._in_turn = True
        try:
            self.serve_each(flows, data, serve)
            self._flush()
        finally:
            self._serving, self._in_turn = before
            if not self._in_turn:
                self._end_turn()

    def _end_turn(self) -> None:
        self._in_turn = False
        calls, self._turn_end_calls = self._turn_end_calls, []
        for call in calls:
            call()
        self._report_sent()

    def at_turn_end(self, call: Callable[[], None]) -> None:
        """Call *call* at the end of this `doRead`."""
        self._turn_end_calls.append(call)

    def _receive(self) -> None:
        left = BATCH_SIZE
        while left > 0 and self._receiving and self._socket.fileno() != -1:
            try:
                if self._io.prefer_single:
                    single = self._io.receive_one(self._max_size)
                    batch = None
                else:
                    batch = self._io.receive(left, self._max_size)
            except BlockingIOError:
                return
            except (OSError, MemoryError) as error:
                if not self._receive_failed(as_os_error(error)):
                    return
                left -= 1
                continue
            if batch is None:
                left -= 1
                self._io.prefer_single -= 1
                self._serve_single(*single)
                continue
            left -= batch.count
            try:
                self._serve(batch)
            finally:
                batch.close()

    def _serve_single(self, datagram: bytes, flow: Flow, size: int) -> None:
        if size > self._max_size:
            self._on_drop(DropReason.TOO_LONG, None)
            return
        before = self._serving, self.flow
        self._serving, self.flow, self.single.data = True, flow, datagram
        try:
            self._protocol.datagramReceived(datagram, flow.peer)
        except BaseException:  # as Twisted: not even SystemExit ends the server
            self._on_exception()
        if self._queued_packets:
            self._flush()
        self._serving, self.flow = before[0] and not self._stopped, before[1]
        self.single.data = None

    def _serve(self, batch: Batch) -> None:
        if batch.size > self._max_size and max(batch.sizes) > self._max_size:
            fitting = [index for index, size in enumerate(batch.sizes) if size <= self._max_size]
            for _ in range(batch.count - len(fitting)):
                self._on_drop(DropReason.TOO_LONG, None)
            if not fitting:
                return
            batch = batch.only(fitting)
        before, self._serving = self._serving, not self._stopped
        if self._batched:
            try:
                self._protocol.datagramsReceived(batch)  # type: ignore[attr-defined]
            except BaseException:  # as Twisted: not even SystemExit ends the server
                self._on_exception()
        else:
            batch.each(self._protocol.datagramReceived)
        self._flush()
        self._serving = before and not self._stopped

    def serve_each(self, flows: Sequence[Flow], data: Sequence[bytes], serve: Serve) -> None:
        """Call *serve* for each datagram; those after a `suspend` wait for `resume`."""
        before = self.flow
        for index, flow in enumerate(flows):
            if not self._receiving:
                self._keep_pending(flows[index:], data[index:], serve)
                break
            self.flow = flow
            try:
                serve(data[index], flow.peer)
            except BaseException:  # as Twisted: not even SystemExit ends the server
                self._on_exception()
        self.flow = before

    def _keep_pending(self, flows: Sequence[Flow], data: Sequence[bytes], serve: Serve) -> None:
        """Keep datagrams that were received and cannot be served now."""
        if self._stopped:
            for _ in data:
                self._on_drop(DropReason.STOPPED, None)
        else:
            self._pending.append((flows, data, serve))

    def _serve_pending(self) -> None:
        if self._pending and self._receiving and not self._serving:
            pending, self._pending = self._pending, []
            for each in pending:
                self.serve_late(*each)

    # Errors in receiving

    def _receive_failed(self, error: OSError) -> bool:
        """Report an error; return True to receive again in this turn."""
        self._on_drop(DropReason.RECEIVE_ERROR, error)
        if error.errno in EARLIER_SEND:
            self._connection_refused()
            return self._receiving
        if error.errno in DEAD and self._on_dead_socket is not None:
            self._abandon_socket()
            self._on_dead_socket(error)
            return False
        self.reactor.removeReader(self)
        self._timer = self.reactor.callLater(RETRY_DELAY, self._end_pause)
        return False

    def _end_pause(self) -> None:
        self._timer = None
        self._serve_pending()
        if self._receiving:
            self.resume()

    def _abandon_socket(self) -> None:
        """Let go of a dead socket, whose number may be that of another open file by now."""
        self._socket.detach()
        try:
            self.reactor.removeReader(self)
        except OSError:
            forget_reader(self.reactor, self._descriptor)
        if self._identity is not None and identity(self._descriptor) == self._identity:
            os.close(self._descriptor)

    def replace_socket(self, sock: Socket) -> None:
        """Go on with *sock*, bound and ready, in place of one that is closed or abandoned."""
        if self._stopped:
            sock.close()
            return
        self._use_socket(sock)
        if self._receiving:
            self.reactor.addReader(self)

    def _connection_refused(self) -> None:
        """Call the protocol; only a connected one can know which peer has refused."""
        if self._connected and isinstance(self._protocol, DatagramProtocol):
            try:
                self._protocol.connectionRefused()
            except BaseException:
                self._on_exception()

    @property
    def kernel_drops(self) -> int | None:
        """See the function `kernel_drops`."""
        return kernel_drops(self._socket)

    # The rest of Twisted's interfaces

    def getHost(self) -> IPv4Address | IPv6Address:
        """Return the address that the port is bound to."""
        kind = IPv6Address if self.addressFamily == socket.AF_INET6 else IPv4Address
        return kind("UDP", *host_and_port(self._socket.getsockname()))

    def getHandle(self) -> Socket:
        """Return the socket."""
        return self.socket

    def setBroadcastAllowed(self, enabled: bool) -> None:
        """Set SO_BROADCAST: allow sending to broadcast addresses."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, int(enabled))

    def getBroadcastAllowed(self) -> bool:
        """Return SO_BROADCAST."""
        return bool(self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST))

    def fileno(self) -> int:
        """Return the descriptor for the reactor to watch; -1 without a socket."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """Return the name of this port in the reactor's log lines."""
        return "DatagramPort"

    def connectionLost(self, reason: Any) -> None:
        """The reactor stops watching, at its end or for an error that waits in the socket.

        poll(2) and epoll(7) report such an error, the network's answer to an earlier datagram of
        ours, like the end of a connection.  Receiving collects it and goes on.
        """
        if self._receiving and self.reactor.running and self.fileno() != -1:
            self.reactor.addReader(self)
            self.doRead()


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
