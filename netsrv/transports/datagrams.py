"""The datagram port: receive datagrams, and send back::

    while True:
        data, address = sock.recvfrom(65535)
        sock.sendto(answer(data), address)

That is the loop of every UDP server.  Here the reactor runs it: it waits until
something has arrived and calls `doRead`, which hands each datagram to a
`DatagramProtocol`.  The port lives through whatever a network does to it: an error
in receiving or sending concerns one datagram and is counted.
"""

import errno
import os
import socket
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import InvalidAddressError
from twisted.internet.interfaces import (
    IListeningPort,
    IMulticastTransport,
    IReadDescriptor,
    ISystemHandle,
)
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.udp import MulticastMixin  # type: ignore[attr-defined]
from zope.interface import implementer

from netsrv.arrivals import Arrival, arrival_of, ask_kernel

AT_ONCE = 64
"""How many datagrams are received, empty ones too, before other events get their turn."""

LARGEST = 65_535
"""Bytes; no UDP payload is longer (65,507 on IPv4, 65,527 on IPv6)."""

PAUSE = 0.1
"""Seconds without receiving after an error that would only come again at once."""

EARLIER_SEND = frozenset(
    getattr(errno, name)
    for name in "ECONNREFUSED ECONNRESET EHOSTDOWN EHOSTUNREACH ENETDOWN ENETUNREACH EPROTO".split()
)
"""The network's late answer to something sent before; receiving goes on at once."""

DEAD = frozenset({errno.EBADF, errno.ENOTSOCK, errno.ENOTCONN, errno.EOPNOTSUPP})
"""The descriptor is closed, or has become something else than a UDP socket."""


@implementer(IListeningPort, IMulticastTransport, IReadDescriptor, ISystemHandle)
class DatagramPort(MulticastMixin):
    """Receives from a bound UDP socket that it is given, and is its protocol's transport.

    *dropped* is told why, in a word or an errno's name, whenever a datagram is lost
    here.  *raised* is told of an exception of the protocol, while it is being handled.
    *died* is told that the socket is dead: the port has parted with it, and goes on when
    it is given another by `replace`.  Without it a dead socket is like any other error.
    *sent* is told to whom a datagram went, and its size.
    """

    arrival: Arrival
    """How the datagram came in that is being served."""

    def __init__(
        self,
        reactor: Any,
        sock: socket.socket,
        protocol: DatagramProtocol,
        dropped: Callable[[str], None],
        raised: Callable[[], None],
        largest: int = LARGEST,
        died: Callable[[OSError], None] | None = None,
        sent: Callable[[tuple[str, int], int], None] = lambda peer, size: None,
    ) -> None:
        self.reactor = reactor
        self.addressFamily = sock.family
        self._protocol = protocol
        self._dropped = dropped
        self._raised = raised
        self._sent = sent
        self._died = died
        self._largest = largest
        self._receiving = False
        self._pause: Any = None
        self._from: tuple[str, int] | None = None
        self._connected: tuple[str, int] | None = None
        self._stopped = False
        self._take(sock)

    def _take(self, sock: socket.socket) -> None:
        self.socket = sock
        self._descriptor = sock.fileno()
        self._identity = _identity(self._descriptor)
        self._messages: list[tuple[int, int, bytes]] = []
        self._space, self.arrival = ask_kernel(sock)

    # Receiving

    def startListening(self) -> None:
        """Tell the protocol its transport, and receive from now on."""
        self._stopped = False
        self._protocol.makeConnection(self)
        self.resume()

    def resume(self) -> None:
        """Receive, after `suspend`."""
        self._receiving = True
        if self.fileno() != -1:
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
            self.release()
            self.socket.close()
        return succeed(None)

    def release(self) -> None:
        """Stop for good: tell the protocol, and leave the socket open for somebody else."""
        self._stopped = True
        self.suspend()
        try:
            self._protocol.doStop()
        except BaseException:
            self._raised()

    def doRead(self) -> None:
        """Receive what has arrived, up to `AT_ONCE` datagrams."""
        for _ in range(AT_ONCE if self._receiving and self.fileno() != -1 else 0):
            try:
                data, messages, flags, sockaddr = self.socket.recvmsg(self._largest, self._space)
            except BlockingIOError:
                return
            except OSError as error:
                if not self._receive_failed(error):
                    return
                continue
            if flags & socket.MSG_TRUNC:
                self._dropped("too long")
                continue
            if messages != self._messages:  # most come as the one before
                self._messages, self.arrival = messages, arrival_of(messages)
            self._from = address = _host_and_port(sockaddr)
            try:
                self._protocol.datagramReceived(data, address)
            except BaseException:  # as Twisted: not even SystemExit ends the server
                self._raised()
            self._from = None
            if not self._receiving:
                return

    def _receive_failed(self, error: OSError) -> bool:
        """Count it, and tell whether to receive on at once."""
        self._dropped(f"receive {_name(error)}")
        if error.errno in EARLIER_SEND:
            self._refused()
            return self._receiving
        if error.errno in DEAD and self._died is not None:
            self._part()
            self._died(error)
            return False
        self.reactor.removeReader(self)
        self._pause = self.reactor.callLater(PAUSE, self._end_pause)
        return False

    def _end_pause(self) -> None:
        self._pause = None
        self.reactor.addReader(self)

    def _part(self) -> None:
        """Let go of a dead socket.  Its number may by now be somebody else's descriptor."""
        self.socket.detach()
        try:
            self.reactor.removeReader(self)
        except OSError:  # epoll forgets a closed descriptor by itself, and Twisted then does not
            self.reactor._reads.discard(self._descriptor)
        if self._identity is not None and _identity(self._descriptor) == self._identity:
            os.close(self._descriptor)

    def replace(self, sock: socket.socket) -> None:
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
                self._raised()

    # Sending

    def write(self, packet: bytes, addr: tuple[str, int] | None = None) -> None:
        """Send a datagram, or drop it and count why: nothing is queued, nothing raised.

        *addr* is a numeric address and a port, and may be None once connected.
        To the peer that is being served it goes from the address that was asked.
        Raises InvalidAddressError for a name, TypeError for what is not bytes.
        """
        answers = addr == self._from
        if addr is not None and not answers:
            _check_numeric(addr[0])
        try:
            if self._connected is not None:
                addr = self._connected
                self.socket.send(packet)
            elif addr is None:
                raise InvalidAddressError(None, "an unconnected port needs an address")
            elif answers and self.arrival.answer:
                self.socket.sendmsg((packet,), self.arrival.answer, 0, addr)
            else:
                self.socket.sendto(packet, addr)
            self._sent(addr, len(packet))
        except socket.gaierror as error:
            raise InvalidAddressError(addr, f"not for this port: {error.strerror}") from error
        except OSError as error:
            self._dropped(f"send {_name(error)}")
            if error.errno == errno.ECONNREFUSED:
                self._refused()

    def writeSequence(self, seq: Iterable[bytes], addr: tuple[str, int] | None = None) -> None:
        """Send the pieces as one datagram."""
        self.write(b"".join(seq), addr)

    def connect(self, host: str, port: int) -> None:
        """Send to, and receive from, this peer only.  Raises InvalidAddressError for a name."""
        if self._connected:
            raise RuntimeError("already connected, reconnecting is not currently supported")
        _check_numeric(host)
        self._connected = (host, port)
        self.socket.connect((host, port))

    # What else Twisted's interfaces ask for

    def getHost(self) -> IPv4Address | IPv6Address:
        """The address that the port is bound to."""
        kind = IPv6Address if self.addressFamily == socket.AF_INET6 else IPv4Address
        return kind("UDP", *_host_and_port(self.socket.getsockname()))

    def getHandle(self) -> socket.socket:
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
        return self.socket.fileno()

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


def _host_and_port(sockaddr: Any) -> tuple[str, int]:
    """Drop flow and scope, but keep a link-local peer reachable: ``fe80::1%2``."""
    if len(sockaddr) == 4 and sockaddr[3] and "%" not in sockaddr[0]:
        return f"{sockaddr[0]}%{sockaddr[3]}", sockaddr[1]
    return sockaddr[0], sockaddr[1]


def _identity(descriptor: int) -> tuple[int, int] | None:
    """What an open file is, whatever its number; None if the number is nobody's."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _check_numeric(host: str) -> None:
    """A name would be looked up, and everyone would wait for the name server."""
    try:
        socket.getaddrinfo(host, 0, flags=socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        if host != "<broadcast>":
            raise InvalidAddressError(host, "write() only accepts IP addresses") from None


def _name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error))
