"""How a datagram arrived: to which of a host's addresses, over which interface.

recvfrom(2) returns the sender, which is enough for a socket that is bound to one address.  A
wildcard socket needs more: a reply must leave from the address that the request was sent to,
since the client knows no other; and a request to a broadcast or multicast address is not to be
answered by every host that gets it.  The kernel passes it in a control message beside each
datagram, and takes such a message with a reply (IP_PKTINFO in ip(7), IPV6_RECVPKTINFO in
ipv6(7), RFC 3542).
"""

import socket
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from netsrv.guards.sources import ControlMessage, PacketInfo

CMSG_SPACE = 256
"""Bytes for control messages: ours take 72, and socket options of the user may bring others."""

_IP_PKTINFO = 8  # Python 3.11 has no name for it
_IP_FREEBIND = 15
_IN_PKTINFO = struct.Struct("=i4s4s")  # ipi_ifindex, ipi_spec_dst, ipi_addr
_IN6_PKTINFO = struct.Struct("=16si")  # ipi6_addr, ipi6_ifindex
_LOOPBACK_INTERFACE = 1  # LOOPBACK_IFINDEX of the kernel
_WILDCARDS = ("0.0.0.0", "::", "::ffff:0.0.0.0")


def host_and_port(sockaddr: Any) -> tuple[str, int]:
    """Return the host and port; a link-local host keeps its scope: ``fe80::1%2``."""
    if len(sockaddr) == 4 and sockaddr[3] and "%" not in sockaddr[0]:
        return f"{sockaddr[0]}%{sockaddr[3]}", sockaddr[1]
    return sockaddr[0], sockaddr[1]


def enable_pktinfo(sock: socket.socket) -> tuple[int, PacketInfo]:
    """Enable the kernel's packet info, unless *sock* is bound to a unicast address.

    Returns the bytes to provide for control messages, 0 if none will come; and the packet info
    of a datagram that comes without one.  Only Linux is supported; elsewhere nothing is enabled.
    """
    if sys.platform != "linux":
        return 0, PacketInfo()
    host = sock.getsockname()[0]
    if host not in _WILDCARDS and not _is_multicast_or_broadcast(sock.family, host):
        return 0, PacketInfo(loopback=":" in host or host.startswith("127."))
    with suppress(OSError):  # without it the kernel chooses the source address of a reply
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            # An address that is local by a route alone may be the source of a reply.
            sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
    return CMSG_SPACE, PacketInfo()


def parse_pktinfo(messages: Iterable[ControlMessage]) -> PacketInfo:
    """Parse the control messages that came with a datagram.

    An IPv4 datagram at an IPv6 socket has one of each family; that of IPv4 tells more.
    """
    packet_info = PacketInfo()
    for level, kind, data in messages:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            return _parse_ipv4(data)
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            packet_info = _parse_ipv6(data)
    return packet_info


def _parse_ipv4(data: bytes) -> PacketInfo:
    """Parse struct in_pktinfo.

    For a broadcast or multicast datagram, ipi_spec_dst is one of our addresses, and differs from
    ipi_addr, the header's destination.  A datagram that came before IP_PKTINFO was enabled has
    ipi_spec_dst 0.0.0.0 and interface 0.
    """
    interface, local, destination = _IN_PKTINFO.unpack(data)
    unicast = local == destination if any(local) else destination[0] < 224
    source = local if any(local) else destination
    message = _IN_PKTINFO.pack(0, source, b"")
    return PacketInfo(
        unicast,
        interface in (0, _LOOPBACK_INTERFACE),
        ((socket.IPPROTO_IP, _IP_PKTINFO, message),),
        socket.inet_ntoa(source),
    )


def _parse_ipv6(data: bytes) -> PacketInfo:
    """Parse struct in6_pktinfo.

    A reply needs the interface only from a link-local address, whose scope it is.  That ::1 is
    reached over no interface but loopback is enforced by the kernel.
    """
    destination, interface = _IN6_PKTINFO.unpack(data)
    if destination[0] == 0xFF:
        return PacketInfo(unicast=False)
    link_local = destination[0] == 0xFE and destination[1] & 0xC0 == 0x80
    scope = interface if link_local else 0
    message = _IN6_PKTINFO.pack(destination, scope)
    local, _ = host_and_port((socket.inet_ntop(socket.AF_INET6, destination), 0, 0, scope))
    ancdata = ((socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, message),)
    return PacketInfo(reply_ancdata=ancdata, local=local)


def _is_multicast_or_broadcast(family: int, host: str) -> bool:
    """Return whether many hosts may receive what is sent to *host*.

    connect(2) refuses a broadcast address with EACCES; no packet is sent.
    """
    if family == socket.AF_INET6:
        return host.startswith("ff")
    if int(host.partition(".")[0]) >= 224:
        return True
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))
        except PermissionError:
            return True
        except OSError:
            pass
    return False
