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
from collections.abc import Callable, Iterable, Sequence
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

from netsrv.arrivals import Arrival, Origin, ask_kernel, host_and_port
from netsrv.batches import Datagrams, takes_whole
from netsrv.interfaces import IDatagramBatch, IDatagramBatchProtocol
from netsrv.transports import mmsg, plain

Socket = socket.socket

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

MOST_TARGETS = 1024
"""Addresses of those sent to unasked that are remembered as the kernel has them."""

DEAD = frozenset({errno.EBADF, errno.ENOTSOCK, errno.ENOTCONN, errno.EOPNOTSUPP})
"""The descriptor is closed, or has become something else than a UDP socket."""


Serve = Callable[[bytes, tuple[str, int]], None]
"""Serves a datagram, with its sender's address."""


@implementer(IDatagramBatch)
class Batch:
    """Datagrams that were received together, until they have been served."""

    def __init__(self, port: "DatagramPort", received: plain.Received) -> None:
        self._port = port
        self._received: plain.Received | None = received
        self.origins = received.origins
        """Whom each came from, and how."""
        self.sizes = received.sizes

    def only(self, places: Sequence[int]) -> "Batch":
        """Those that stand at *places*; nothing is copied."""
        return Batch(self._port, self._valid().only(places))

    def seen(self) -> Datagrams:
        """What observers are told of them."""
        return Datagrams(self.origins, self.sizes)

    def send_back(self) -> None:
        """Send each back to where it came from, as it is."""
        received, self._received = self._valid(), None
        self._port.send_back(received)

    def each(self, serve: Callable[[bytes, tuple[str, int]], None]) -> None:
        """Have *serve* called for each, with its bytes and sender, as the answered one."""
        received, self._received = self._valid(), None
        self._port.serve_each(received.origins, received.data(), serve)

    def end(self) -> None:
        """It is over: another batch may stand where this one stood."""
        self._received = None

    def _valid(self) -> plain.Received:
        if self._received is None:
            raise RuntimeError("the batch is over, or was sent back before")
        return self._received


@implementer(IDatagramBatch)
class Lone:
    """The datagram that a port serves by itself, as a batch."""

    def __init__(self, port: "DatagramPort") -> None:
        self._port = port

    @property
    def sizes(self) -> list[int]:
        """Its size."""
        return [] if self._port.datagram is None else [len(self._port.datagram)]

    def send_back(self) -> None:
        """Send it back to where it came from, as it is."""
        self._port.send_back_lone()


@implementer(IListeningPort, IMulticastTransport, IReadDescriptor, ISystemHandle)
class DatagramPort(MulticastMixin):
    """Receives from a bound UDP socket that it is given, and is its protocol's transport.

    *dropped* is told why, in a word or an errno's name, whenever a datagram is lost
    here.  *raised* is told of an exception of the protocol, while it is being handled.
    *died* is told that the socket is dead: the port has parted with it, and goes on when
    it is given another by `replace`.  Without it a dead socket is like any other error.
    *sent* is told of datagrams that went out.
    """

    def __init__(
        self,
        reactor: Any,
        sock: Socket,
        protocol: DatagramProtocol,
        dropped: Callable[[str], None],
        raised: Callable[[], None],
        largest: int = LARGEST,
        died: Callable[[OSError], None] | None = None,
        sent: Callable[[Datagrams], None] = lambda datagrams: None,
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
        self._serving = False
        self.origin: Origin | None = None
        """Where the datagram came from that is being served, if one is."""
        self.datagram: bytes | None = None
        """The datagram that is served by itself, until it is sent back."""
        self.lone = Lone(self)
        self._turning = False
        self._later: list[Callable[[], None]] = []
        self._sent_to: list[Origin] = []
        self._sent_sizes: list[int] = []
        self._packets: list[bytes] = []
        self._packets_to: list[Origin] = []
        self._held: tuple[Sequence[Origin], Sequence[bytes], Serve] | None = None
        self._targets: dict[Any, Origin] = {}
        self._whole = IDatagramBatchProtocol.providedBy(protocol) and takes_whole(
            protocol, "datagramsReceived", "datagramReceived"
        )
        self._connected: Origin | None = None
        self._stopped = False
        self._take(sock)

    def _take(self, sock: Socket) -> None:
        self._socket = sock
        self._descriptor = sock.fileno()
        self._identity = _identity(self._descriptor)
        space, arrival = ask_kernel(sock)
        kind: Any = mmsg.Calls if mmsg.usable(sock) else plain.Calls
        self._calls: plain.Calls | mmsg.Calls = kind(sock, space, arrival)

    # Receiving

    def startListening(self) -> None:
        """Tell the protocol its transport, and receive from now on."""
        self._stopped = False
        self._protocol.makeConnection(self)
        self.resume()

    def resume(self) -> None:
        """Receive, after `suspend`."""
        self._receiving = True
        if self._held is not None:
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
            self.release()
            self._socket.close()
        return succeed(None)

    def release(self) -> None:
        """Stop for good: tell the protocol, and leave the socket open for somebody else."""
        self._stopped = True
        self.suspend()
        try:
            self._protocol.doStop()
        except BaseException:
            self._raised()
        self._flush()
        self._serving = False
        if self._held is not None:
            held, self._held = self._held, None
            self._hold(*held)

    def doRead(self) -> None:
        """Receive what has arrived, up to `AT_ONCE` datagrams, and serve it."""
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

    def at_end(self, call: Callable[[], None]) -> None:
        """Call *call* at the end of this turn of the reactor at the port."""
        self._later.append(call)

    def _receive(self) -> None:
        left = AT_ONCE
        while left > 0 and self._receiving and self._socket.fileno() != -1:
            try:
                if self._calls.alone:
                    one = self._calls.receive_one(self._largest)
                    received = None
                else:
                    received = self._calls.receive(left, self._largest)
            except BlockingIOError:
                return
            except OSError as error:
                if not self._receive_failed(error):
                    return
                left -= 1
                continue
            if received is None:
                left -= 1
                self._calls.alone -= 1
                self._serve_one(*one)
                continue
            left -= len(received.sizes)
            try:
                self._serve(received)
            finally:
                received.free()

    def _serve_one(self, datagram: bytes, origin: Origin, size: int) -> None:
        if size > self._largest:
            self._dropped("too long")
            return
        before = self._serving, self.origin
        self._serving, self.origin, self.datagram = True, origin, datagram
        try:
            self._protocol.datagramReceived(datagram, origin.peer)
        except BaseException:  # as Twisted: not even SystemExit ends the server
            self._raised()
        if self._packets:
            self._flush()
        self._serving, self.origin = before[0] and not self._stopped, before[1]
        self.datagram = None

    def _serve(self, received: plain.Received) -> None:
        if max(received.sizes) > self._largest:
            for size in received.sizes:
                if size > self._largest:
                    self._dropped("too long")
            places = [each for each, size in enumerate(received.sizes) if size <= self._largest]
            if not places:
                return
            received = received.only(places)
        before, self._serving = self._serving, not self._stopped
        if self._whole:
            batch = Batch(self, received)
            try:
                self._protocol.datagramsReceived(batch)  # type: ignore[attr-defined]
            except BaseException:  # as Twisted: not even SystemExit ends the server
                self._raised()
            batch.end()
        else:
            self.serve_each(received.origins, received.data(), self._protocol.datagramReceived)
        self._flush()
        self._serving = before and not self._stopped

    def serve_each(self, origins: Sequence[Origin], data: Sequence[bytes], serve: Serve) -> None:
        """Have *serve* called for each datagram; those after a `suspend` wait for `resume`."""
        before = self.origin
        for place, origin in enumerate(origins):
            if not self._receiving:
                self._hold(origins[place:], data[place:], serve)
                break
            self.origin = origin
            try:
                serve(data[place], origin.peer)
            except BaseException:  # as Twisted: not even SystemExit ends the server
                self._raised()
        self.origin = before

    def _hold(self, origins: Sequence[Origin], data: Sequence[bytes], serve: Serve) -> None:
        """Keep what was received and cannot be served now."""
        if self._stopped:
            for _ in data:
                self._dropped("stopped")
        else:
            self._held = origins, data, serve

    def _serve_held(self) -> None:
        if self._held is None or not self._receiving or self._serving:
            return
        held, self._held = self._held, None
        self._serving = True
        self.serve_each(*held)
        self._flush()
        self._serving = False

    def send_back(self, received: plain.Received) -> None:
        """Send datagrams back to where they came from, after what was sent before."""
        self._flush()
        self._told(received.origins, received.sizes, received.send_back())

    def send_back_lone(self) -> None:
        """Send the datagram that is served by itself back to where it came from."""
        datagram, self.datagram = self.datagram, None
        if datagram is None or self.origin is None:
            raise RuntimeError("the batch is over, or was sent back before")
        if self._packets:
            self._flush()
        self._send_one(datagram, self.origin)

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
        self._serve_held()
        if self._receiving:
            self.resume()

    def _part(self) -> None:
        """Let go of a dead socket.  Its number may by now be somebody else's descriptor."""
        self._socket.detach()
        try:
            self.reactor.removeReader(self)
        except OSError:  # epoll forgets a closed descriptor by itself, and Twisted then does not
            self.reactor._reads.discard(self._descriptor)
        if self._identity is not None and _identity(self._descriptor) == self._identity:
            os.close(self._descriptor)

    def replace(self, sock: Socket) -> None:
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

    @property
    def arrival(self) -> Arrival:
        """How the datagram came in that is being served."""
        return Arrival() if self.origin is None else self.origin.arrival

    # Sending

    def write(self, packet: bytes, addr: tuple[str, int] | None = None) -> None:
        """Send a datagram, or drop it and count why: nothing of the network is raised.

        *addr* is a numeric address and a port, and may be None once connected.
        To the peer that is being served it goes from the address that was asked.
        While a batch is served it is kept, and goes out with others at the end.
        Raises InvalidAddressError for a name, TypeError for what is not bytes.
        """
        if self._connected is not None:
            self._write_connected(packet, addr)
            return
        if type(packet) is not bytes:
            packet = memoryview(packet).tobytes()
        target = self.origin
        if target is None or addr != target.peer:
            target = self._targets.get(addr) or self._target(addr)
        self._packets.append(packet)
        self._packets_to.append(target)
        if not self._serving or len(self._packets) == AT_ONCE:
            self._flush()

    def _write_connected(self, packet: bytes, addr: tuple[str, int] | None) -> None:
        assert self._connected is not None
        if addr is not None and addr != self._connected.peer:
            _check_numeric(addr[0])
        try:
            self._socket.send(packet)
        except OSError as error:
            self._send_failed(error)
        else:
            self._sent(Datagrams((self._connected,), (len(packet),)))

    def _target(self, addr: tuple[str, int] | None) -> Origin:
        """Where to send what is no answer."""
        if addr is None:
            raise InvalidAddressError(None, "an unconnected port needs an address")
        if not isinstance(addr, tuple):
            raise TypeError(f"{addr!r}: an address is a tuple of a numeric address and a port")
        host, port = addr[0], addr[1]
        _check_numeric(host)
        host = "255.255.255.255" if host == "<broadcast>" else host
        if not isinstance(port, int):
            raise TypeError(f"{port!r}: a port is a number")
        if not 0 <= port <= 65535:
            raise OverflowError(f"{port}: a port is a number from 0 to 65535")
        try:
            found = socket.getaddrinfo(
                host, port, self.addressFamily, socket.SOCK_DGRAM, 0, socket.AI_NUMERICHOST
            )
        except socket.gaierror as error:
            raise InvalidAddressError(addr, f"not for this port: {error.strerror}") from error
        if len(self._targets) >= MOST_TARGETS:
            self._targets.clear()
        target = self._targets[addr] = self._calls.target((host, port), found[0][4])
        return target

    def _flush(self) -> None:
        """Send what was kept, in order."""
        packets, targets = self._packets, self._packets_to
        if not packets:
            return
        self._packets, self._packets_to = [], []
        if len(packets) == 1:
            self._send_one(packets[0], targets[0])
        else:
            self._told(targets, [*map(len, packets)], self._calls.send(packets, targets))

    def _send_one(self, packet: bytes, target: Origin) -> None:
        try:
            plain.send_one(self._socket, packet, target)
        except OSError as error:
            self._send_failed(error)
        else:
            self._sent_to.append(target)
            self._sent_sizes.append(len(packet))
            if not self._turning:
                self._tell_sent()

    def _told(
        self, targets: Sequence[Origin], sizes: Sequence[int], failures: list[plain.Failure]
    ) -> None:
        """Tell what has gone out, and what has not."""
        if failures:
            failed = {place for place, _ in failures}
            well = [place for place in range(len(sizes)) if place not in failed]
            targets, sizes = [targets[each] for each in well], [sizes[each] for each in well]
        self._sent_to.extend(targets)
        self._sent_sizes.extend(sizes)
        if not self._turning:
            self._tell_sent()
        for _, error in failures:
            self._send_failed(error)

    def _tell_sent(self) -> None:
        if self._sent_sizes:
            sent = Datagrams(self._sent_to, self._sent_sizes)
            self._sent_to, self._sent_sizes = [], []
            self._sent(sent)

    def _send_failed(self, error: OSError) -> None:
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
        self.socket.connect((host, port))  # after what was sent to others
        self._connected = Origin((host, port))

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

    @property
    def socket(self) -> Socket:  # type: ignore[override]
        """The socket, for whatever it is used: what was sent before has gone out."""
        self._flush()
        return self._socket


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
