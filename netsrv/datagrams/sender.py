"""The sending half of a datagram port.

A datagram is sent when it is written, or at the end of the batch that is being served.  No
error of the network is raised: what cannot be sent is dropped, and reported.
"""

import errno
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from netsrv.batches import Datagrams, JoinedDatagrams
from netsrv.datagrams import batched, single
from netsrv.datagrams.batch import BATCH_SIZE, Batch
from netsrv.datagrams.pktinfo import enable_pktinfo
from netsrv.datagrams.state import SocketState
from netsrv.datagrams.targets import check_numeric, resolve
from netsrv.guards.sources import Flow, PacketInfo
from netsrv.interfaces import DropReason

Socket = socket.socket

OnDrop = Callable[[DropReason, OSError | None], None]
"""Called for a datagram that was lost, with the error of the system call if there was one."""

OnSent = Callable[[Datagrams | JoinedDatagrams], None]
"""Called with datagrams that were sent."""

MAX_CACHED_TARGETS = 1024
"""Addresses of unsolicited datagrams that are remembered in the kernel's form."""


class Sender:
    """The sending half of a port; *on_drop* and *on_sent* as for `DatagramPort`."""

    def __init__(self, sock: Socket, on_drop: OnDrop, on_sent: OnSent) -> None:
        self.addressFamily = sock.family
        self.flow: Flow | None = None
        """The flow of the datagram that is being served; None while none is."""
        self._on_drop = on_drop
        self._on_sent = on_sent
        self._serving = False
        self._in_turn = False
        self._sent: list[Datagrams] = []
        """What was sent in this turn, before the datagrams of the next two."""
        self._sent_flows: list[Flow] = []
        self._sent_sizes: list[int] = []
        self._queued_packets: list[bytes] = []
        self._queued_flows: list[Flow] = []
        self._targets: dict[Any, Flow] = {}
        self._connected: Flow | None = None
        self.routes: Mapping[Any, Flow] = {}
        """The flows to peers that are reached by way of others, by the peers' addresses."""
        self._use_socket(sock)

    def _use_socket(self, sock: Socket) -> None:
        self._socket = sock
        self._state: SocketState | None = None
        """The socket's state from before it was handed out; None if that was never done."""
        io = batched.BatchIO if batched.usable(sock) else single.SingleIO
        self._io = io(self, sock, *enable_pktinfo(sock))

    @property
    def packet_info(self) -> PacketInfo:
        """How the datagram arrived that is being served."""
        return PacketInfo() if self.flow is None else self.flow.packet_info

    def write(self, packet: bytes, addr: tuple[str, int] | None = None) -> None:
        """Send a datagram, or drop and report it; no error of the network is raised.

        *addr* is a numeric address and a port, or the four items of the `socket` module with the
        scope of a link-local address; it may be None once connected.  A reply to the
        datagram that is being served leaves from the address that this one was sent to.
        While a batch is served, packets are queued, and sent together at its end.  Raises
        InvalidAddressError for a host name, and TypeError for a packet that is not bytes.
        """
        if self._connected is not None:
            self._write_connected(packet, addr)
            return
        if type(packet) is not bytes:
            packet = memoryview(packet).tobytes()
        target = self.flow
        if target is None or addr != target.peer:
            known = self.routes.get(addr) or self._targets.get(addr) or self._target(addr)
            if known is None:
                return
            target = known
        self._queued_packets.append(packet)
        self._queued_flows.append(target)
        if not self._serving or len(self._queued_packets) == BATCH_SIZE:
            self._flush()

    def flow_to(self, addr: Any) -> Flow | None:
        """Return the flow of a packet to an address: the present one, if it is its peer's.

        None if no packet can be sent there now, which is reported.  Raises as `write` does.
        """
        flow = self.flow
        if flow is not None and addr == flow.peer:
            return flow
        return self.routes.get(addr) or self._targets.get(addr) or self._target(addr)

    def write_to(self, packet: bytes, flow: Flow) -> None:
        """Send a datagram to the peer of a flow, from the address that this peer has asked."""
        self._queued_packets.append(packet)
        self._queued_flows.append(flow)
        if not self._serving or len(self._queued_packets) == BATCH_SIZE:
            self._flush()

    def write_all(self, packets: Sequence[bytes], flows: Sequence[Flow]) -> None:
        """Send up to `BATCH_SIZE` datagrams together, each as `write_to` does."""
        if self._queued_packets:
            self._flush()
        self._queued_packets += packets
        self._queued_flows += flows
        self._flush()

    def writeSequence(self, seq: Iterable[bytes], addr: tuple[str, int] | None = None) -> None:
        """Send the joined pieces as one datagram."""
        self.write(b"".join(seq), addr)

    def connect(self, host: str, port: int) -> None:
        """Send to this peer, and receive only from it.  Raises InvalidAddressError for a name."""
        if self._connected:
            raise RuntimeError("already connected, reconnecting is not currently supported")
        peer, sockaddr = resolve(self.addressFamily, (host, port))
        self.socket.connect(sockaddr)  # after what was sent to others
        self._connected = Flow(peer, sockaddr=sockaddr)

    def send_back(self, batch: Batch) -> None:
        """Send each datagram of a batch to its sender, after what was written before."""
        self._flush()
        self._record_sent(batch, self._io.send_back(batch))

    def send_back_single(self, datagram: bytes) -> None:
        """Send the datagram that is being served by itself to its sender."""
        if self._queued_packets:
            self._flush()
        assert self.flow is not None
        self._send_one(datagram, self.flow)

    def _write_connected(self, packet: bytes, addr: tuple[str, int] | None) -> None:
        assert self._connected is not None
        if addr is not None and addr != self._connected.peer:
            check_numeric(addr[0])
        try:
            self._socket.send(packet)
        except (OSError, MemoryError) as error:
            self._send_failed(single.as_os_error(error))
        else:
            self._on_sent(Datagrams((self._connected,), (len(packet),)))

    def _target(self, addr: Any) -> Flow | None:
        """Return the flow to the address of an unsolicited datagram; None if it is lost."""
        try:
            peer, sockaddr = resolve(self.addressFamily, addr)
        except OSError as error:  # its interface is gone
            self._send_failed(error)
            return None
        target = self._io.flow_to(peer, sockaddr)
        if "%" not in addr[0]:  # the number behind the name of an interface may change
            if len(self._targets) >= MAX_CACHED_TARGETS:
                self._targets.clear()
            self._targets[addr] = target
        return target

    def _flush(self) -> None:
        """Send the queued packets, in order."""
        packets, flows = self._queued_packets, self._queued_flows
        if not packets:
            return
        self._queued_packets, self._queued_flows = [], []
        if len(packets) == 1:
            self._send_one(packets[0], flows[0])
        else:
            failures = self._io.send(packets, flows)
            self._record_sent(Datagrams(flows, [*map(len, packets)]), failures)

    def _send_one(self, packet: bytes, flow: Flow) -> None:
        try:
            single.send_one(self._socket, packet, flow)
        except (OSError, MemoryError) as error:
            self._send_failed(single.as_os_error(error))
        else:
            self._sent_flows.append(flow)
            self._sent_sizes.append(len(packet))
            if not self._in_turn:
                self._report_sent()

    def _record_sent(self, datagrams: Datagrams, failures: list[single.Failure]) -> None:
        """Record the datagrams that were sent, and report those that were not."""
        if failures:
            datagrams = datagrams.without({index for index, _ in failures})
        self._end_singles()
        if datagrams.count:
            self._sent.append(datagrams)
        if not self._in_turn:
            self._report_sent()
        for _, error in failures:
            self._send_failed(error)

    def _report_sent(self) -> None:
        self._end_singles()
        if self._sent:
            sent, self._sent = self._sent, []
            self._on_sent(sent[0] if len(sent) == 1 else JoinedDatagrams(sent))

    def _end_singles(self) -> None:
        if self._sent_sizes:
            self._sent.append(Datagrams(self._sent_flows, self._sent_sizes))
            self._sent_flows, self._sent_sizes = [], []

    def _send_failed(self, error: OSError) -> None:
        self._on_drop(DropReason.SEND_ERROR, error)
        if error.errno == errno.ECONNREFUSED:
            self._connection_refused()

    def _connection_refused(self) -> None:
        """The peer of a connected port has refused a datagram."""

    @property
    def socket(self) -> Socket:
        """The socket; what was written before has been sent.

        Its present state is recorded, to be restored for the next service.
        """
        self._flush()
        if self._state is None and isinstance(self._socket, socket.socket):
            self._state = SocketState(self._socket)
        return self._socket

    def _restore_socket(self) -> None:
        """Undo what was done to the socket, or close it if that is not possible."""
        self._connected = None
        self._targets.clear()
        state, self._state = self._state, None
        if state is not None and self._socket.fileno() != -1:
            try:
                state.restore()
            except OSError:
                self._socket.close()
