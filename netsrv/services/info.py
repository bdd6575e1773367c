"""info: describe the peer's connection or datagram as the server sees it."""

import json
import socket
import struct
import sys
from typing import Any

from attrs import asdict
from twisted.internet.interfaces import IProtocolFactory, IUDPTransport
from twisted.internet.protocol import DatagramProtocol
from zope.interface import implementer

from netsrv.guards.amplification import max_reply_size
from netsrv.interfaces import IDatagramService, IStreamService
from netsrv.services.message import MessageFactory
from netsrv.sockets.addresses import show_address, show_peer, show_sockaddr
from netsrv.sockets.options import Value, named_option, show_value

OPTIONS = (
    "SO_RCVBUF SO_SNDBUF SO_KEEPALIVE SO_LINGER TCP_NODELAY TCP_MAXSEG TCP_KEEPIDLE "
    "TCP_KEEPINTVL TCP_KEEPCNT TCP_USER_TIMEOUT TCP_CONGESTION IP_TOS IP_TTL IPV6_TCLASS "
    "IPV6_UNICAST_HOPS"
).split()
"""The socket options that are reported."""

_TCP_INFO = struct.Struct("=8B24I")
_TCP_INFO_NAMES = (
    "state ca_state retransmits probes backoff options wscale flags "
    "rto ato snd_mss rcv_mss unacked sacked lost retrans fackets last_data_sent last_ack_sent "
    "last_data_recv last_ack_recv pmtu rcv_ssthresh rtt rttvar snd_ssthresh snd_cwnd advmss "
    "reordering rcv_rtt rcv_space total_retrans"
).split()


def options_in_effect(sock: socket.socket) -> dict[str, int | str]:
    """Return those of `OPTIONS` that the platform and this kind of socket have."""
    values: dict[str, int | str] = {}
    for name in OPTIONS:
        try:
            option = named_option(name, {"SO_LINGER": "0:0", "TCP_CONGESTION": "-"}.get(name, 0))
            if option.belongs_to(sock):
                values[name] = _plain(option.get(sock))
        except (OSError, ValueError):
            continue  # the platform lacks it, or this socket does
    return values


def tcp_info(sock: socket.socket) -> dict[str, int] | None:
    """Return the first 32 fields of Linux's struct tcp_info; None if there is none.

    Times are in microseconds, the ``last_`` ones in milliseconds (tcp(7)).
    """
    if sys.platform != "linux" or sock.family == socket.AF_UNIX:
        return None
    data = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    return dict(zip(_TCP_INFO_NAMES, _TCP_INFO.unpack(data), strict=True))


def describe_connection(peer: Any) -> bytes:
    """Return one JSON line about a connection.

    ``tls`` and ``proxy`` are null on a connection that has neither.
    """
    sock = peer.getHandle()
    session, header = getattr(peer, "tls", None), getattr(peer, "proxy", None)
    return _line(
        peer=show_peer(peer),
        local=show_address(peer.getHost()),
        family=sock.family.name,
        tls=None if session is None else asdict(session),
        proxy=None if header is None else header.describe(),
        options=options_in_effect(sock),
        tcp_info=tcp_info(sock),
    )


class InfoDatagrams(DatagramProtocol):
    """Replies with one JSON line about the datagram, if it is within the limit for replies."""

    transport: IUDPTransport

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        line = _line(peer=show_sockaddr(addr), local=self._local(), received=len(datagram))
        if len(line) <= max_reply_size(len(datagram), addr[0]):
            self.transport.write(line, addr)

    def _local(self) -> str:
        """Return the address that was asked, where the transport knows it, as netsrv's does."""
        bound = self.transport.getHost()
        packet_info = getattr(self.transport, "packet_info", None)
        if packet_info is None or packet_info.local is None:
            return show_address(bound)
        return show_sockaddr((packet_info.local, bound.port))


def _line(**fields: Any) -> bytes:
    return json.dumps(fields).encode("ascii") + b"\n"


def _plain(value: Value) -> int | str:
    return show_value(value) if isinstance(value, tuple) else value


@implementer(IStreamService, IDatagramService)
class InfoService:
    """The plugin."""

    name = "info"
    description = "send one JSON line about the connection or the datagram"
    settings = None

    def stream(self, settings: Any) -> IProtocolFactory:
        return MessageFactory(describe_connection)

    def datagram(self, settings: Any) -> DatagramProtocol:
        return InfoDatagrams()
