"""What a datagram port sends: at once, or, while a batch is served, at the end of it.

Nothing is kept for longer, and nothing of the network raised: what cannot be sent is
dropped, and told.
"""

import errno
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.error import InvalidAddressError

from netsrv.batches import Datagrams
from netsrv.datagrams import batched, single
from netsrv.datagrams.pktinfo import enable_pktinfo
from netsrv.guards.sources import Flow, PacketInfo
from netsrv.interfaces import DropReason

Socket = socket.socket

BATCH_SIZE = 64
"""Datagrams that are kept until they are sent together."""

MAX_CACHED_TARGETS = 1024
"""Addresses of those sent to unasked that are remembered as the kernel has them."""


class Sender:
    """The sending half of a port; *on_drop* and *on_sent* as `DatagramPort` has them."""

    def __init__(
        self,
        sock: Socket,
        on_drop: Callable[[DropReason, OSError | None], None],
        on_sent: Callable[[Datagrams], None],
    ) -> None:
        self.addressFamily = sock.family
        self.flow: Flow | None = None
        """Where the datagram came from that is being served, if one is."""
        self.datagram: bytes | None = None
        """The datagram that is served by itself, until it is sent back."""
        self._on_drop = on_drop
        self._on_sent = on_sent
        self._serving = False
        self._turning = False
        self._sent_to: list[Flow] = []
        self._sent_sizes: list[int] = []
        self._packets: list[bytes] = []
        self._packets_to: list[Flow] = []
        self._targets: dict[Any, Flow] = {}
        self._connected: Flow | None = None
        self._take(sock)

    def _take(self, sock: Socket) -> None:
        """Send with *sock* from now on."""
        self._socket = sock
        space, packet_info = enable_pktinfo(sock)
        kind: Any = batched.BatchIO if batched.usable(sock) else single.SingleIO
        self._io: single.SingleIO = kind(sock, space, packet_info)

    @property
    def packet_info(self) -> PacketInfo:
        """How the datagram came in that is being served."""
        return PacketInfo() if self.flow is None else self.flow.packet_info

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
        target = self.flow
        if target is None or addr != target.peer:
            target = self._targets.get(addr) or self._target(addr)
        self._packets.append(packet)
        self._packets_to.append(target)
        if not self._serving or len(self._packets) == BATCH_SIZE:
            self._flush()

    def writeSequence(self, seq: Iterable[bytes], addr: tuple[str, int] | None = None) -> None:
        """Send the pieces as one datagram."""
        self.write(b"".join(seq), addr)

    def connect(self, host: str, port: int) -> None:
        """Send to, and receive from, this peer only.  Raises InvalidAddressError for a name."""
        if self._connected:
            raise RuntimeError("already connected, reconnecting is not currently supported")
        _check_numeric(host)
        self.socket.connect((host, port))  # after what was sent to others
        self._connected = Flow((host, port))

    def send_back(self, received: single.ReceivedBatch) -> None:
        """Send datagrams back to where they came from, after what was sent before."""
        self._flush()
        self._told(received.flows, received.sizes, received.send_back())

    def send_back_single(self) -> None:
        """Send the datagram that is served by itself back to where it came from."""
        datagram, self.datagram = self.datagram, None
        if datagram is None or self.flow is None:
            raise RuntimeError("the batch is over, or was sent back before")
        if self._packets:
            self._flush()
        self._send_one(datagram, self.flow)

    def _write_connected(self, packet: bytes, addr: tuple[str, int] | None) -> None:
        assert self._connected is not None
        if addr is not None and addr != self._connected.peer:
            _check_numeric(addr[0])
        try:
            self._socket.send(packet)
        except OSError as error:
            self._send_failed(error)
        else:
            self._on_sent(Datagrams((self._connected,), (len(packet),)))

    def _target(self, addr: tuple[str, int] | None) -> Flow:
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
        if len(self._targets) >= MAX_CACHED_TARGETS:
            self._targets.clear()
        target = self._targets[addr] = self._io.target((host, port), found[0][4])
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
            self._told(targets, [*map(len, packets)], self._io.send(packets, targets))

    def _send_one(self, packet: bytes, target: Flow) -> None:
        try:
            single.send_one(self._socket, packet, target)
        except OSError as error:
            self._send_failed(error)
        else:
            self._sent_to.append(target)
            self._sent_sizes.append(len(packet))
            if not self._turning:
                self._tell_sent()

    def _told(
        self, targets: Sequence[Flow], sizes: Sequence[int], failures: list[single.Failure]
    ) -> None:
        """Tell what has gone out, and what has not."""
        if failures:
            failed = {index for index, _ in failures}
            well = [index for index in range(len(sizes)) if index not in failed]
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
            self._on_sent(sent)

    def _send_failed(self, error: OSError) -> None:
        self._on_drop(DropReason.SEND_ERROR, error)
        if error.errno == errno.ECONNREFUSED:
            self._refused()

    def _refused(self) -> None:
        """A peer refuses what it is sent."""

    @property
    def socket(self) -> Socket:
        """The socket, for whatever it is used: what was sent before has gone out."""
        self._flush()
        return self._socket


def _check_numeric(host: str) -> None:
    """A name would be looked up, and everyone would wait for the name server."""
    try:
        socket.getaddrinfo(host, 0, flags=socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        if host != "<broadcast>":
            raise InvalidAddressError(host, "write() only accepts IP addresses") from None
