"""How a datagram arrived: at which of a host's addresses, and over which interface.

recvfrom(2) tells who has sent it, which is enough for a socket that is bound to one
address.  One that is bound to all of them must know more: an answer has to leave from
the address that was asked, since its client knows no other; and what was sent to many at
once is not for everybody to answer.  The kernel tells it in a message beside each datagram,
and takes such a message with an answer (IP_PKTINFO in ip(7), IPV6_RECVPKTINFO in
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
"""Bytes for messages: ours take 72, and options that a user asks for may bring others."""

_IP_PKTINFO = 8  # Python 3.11 has no name for it
_IPV4 = struct.Struct("=i4s4s")  # interface, own address, address asked
_IPV6 = struct.Struct("=16si")  # address asked, interface
_LOOPBACK_INTERFACE = 1  # LOOPBACK_IFINDEX of the kernel
_EVERYWHERE = ("0.0.0.0", "::", "::ffff:0.0.0.0")


def host_and_port(sockaddr: Any) -> tuple[str, int]:
    """Drop flow and scope, but keep a link-local peer reachable: ``fe80::1%2``."""
    if len(sockaddr) == 4 and sockaddr[3] and "%" not in sockaddr[0]:
        return f"{sockaddr[0]}%{sockaddr[3]}", sockaddr[1]
    return sockaddr[0], sockaddr[1]


def enable_pktinfo(sock: socket.socket) -> tuple[int, PacketInfo]:
    """Have the kernel tell how each datagram arrives, unless *sock* is bound to one address.

    Gives the bytes that its messages take, 0 if there are none; and what holds for a
    datagram that comes without one.  On other systems than Linux it tells nothing.
    """
    if sys.platform != "linux":
        return 0, PacketInfo()
    host = sock.getsockname()[0]
    if host not in _EVERYWHERE and not _of_many(sock.family, host):
        return 0, PacketInfo(loopback=":" in host or host.startswith("127."))
    with suppress(OSError):  # without it the kernel chooses where an answer leaves
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    return CMSG_SPACE, PacketInfo()


def parse_pktinfo(messages: Iterable[ControlMessage]) -> PacketInfo:
    """Read the messages that came with a datagram.

    Where an IPv6 socket takes IPv4 too, an IPv4 datagram has one of each kind.  The one of
    IPv4 knows more.
    """
    packet_info = PacketInfo()
    for level, kind, data in messages:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            return _over_ipv4(data)
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            packet_info = _over_ipv6(data)
    return packet_info


def _over_ipv4(data: bytes) -> PacketInfo:
    """For what was sent to many, the kernel gives one of our addresses beside the one asked.

    It gives 0.0.0.0 and interface 0 for a datagram that had come before it was asked to tell.
    """
    interface, own, asked = _IPV4.unpack(data)
    unicast = own == asked if any(own) else asked[0] < 224
    message = _IPV4.pack(0, own if any(own) else asked, b"")
    return PacketInfo(
        unicast,
        interface in (0, _LOOPBACK_INTERFACE),
        ((socket.IPPROTO_IP, _IP_PKTINFO, message),),
    )


def _over_ipv6(data: bytes) -> PacketInfo:
    """The interface matters for a link-local address only, which is one in its scope.

    That ::1 comes over no other interface than loopback is the kernel's own rule.
    """
    asked, interface = _IPV6.unpack(data)
    if asked[0] == 0xFF:
        return PacketInfo(unicast=False)
    link_local = asked[0] == 0xFE and asked[1] & 0xC0 == 0x80
    message = _IPV6.pack(asked, interface if link_local else 0)
    return PacketInfo(answer=((socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, message),))


def _of_many(family: int, host: str) -> bool:
    """Whether a socket's address is a multicast or broadcast one.

    connect(2) refuses a broadcast address with EACCES; nothing is sent.
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
