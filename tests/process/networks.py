"""Hosts with a network between them, in namespaces of this machine (network_namespaces(7)).

Where the system allows it, each worker of pytest-xdist is such a host as well: a port that
a test frees and binds again a moment later is not taken by another worker.
"""

import ctypes
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

import pytest

from tests.process import needs
from tests.timeouts import CLIENT_TIMEOUT

CLONE_NEWNET = 0x40000000
PACKET_OUTGOING = 4
ETH_P_ALL = 3
LARGEST = 65535


class Host:
    """A host: a network namespace, which exists until it is closed."""

    def __init__(self) -> None:
        needs.root()
        needs.tool("ip")
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            if _libc.unshare(CLONE_NEWNET):
                pytest.skip(f"no network of its own: {os.strerror(ctypes.get_errno())}")
            self._namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            _enter(here)
        finally:
            os.close(here)
        self.path = f"/proc/{os.getpid()}/fd/{self._namespace}"
        self.ip("link set lo up")

    def close(self) -> None:
        """Drop the host; it disappears with its last process and socket."""
        os.close(self._namespace)

    def command(self, *command: str) -> list[str]:
        """Return a command that runs *command* on this host."""
        return [needs.tool("nsenter"), f"--net={self.path}", *command]

    def ip(self, words: str) -> None:
        """Run ip(8)."""
        subprocess.run(self.command("ip", *words.split()), check=True)

    def set(self, name: str, value: int) -> None:
        """Set what sysctl(8) sets below ``net``: ``ipv4/conf/all/rp_filter``."""
        with self.inside():
            Path("/proc/sys/net", name).write_text(str(value))

    def open(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """Return a socket of this host, with a time limit."""
        with self.inside():
            sock = socket.socket(family, kind, protocol)
        sock.settimeout(CLIENT_TIMEOUT)
        return sock

    def forge(self, source: tuple[str, int], target: tuple[str, int], data: bytes) -> None:
        """Send a datagram with the forged source address *source*."""
        ipv6 = ":" in source[0]
        family = socket.AF_INET6 if ipv6 else socket.AF_INET
        packet = (ipv6_packet if ipv6 else ipv4_packet)(source, target, data)
        with self.open(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
            sock.sendto(packet, (target[0], 0))

    def sniffer(self, interface: str) -> socket.socket:
        """Return a socket that receives all packets of an interface, for `udp_packets`."""
        sock = self.open(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        sock.bind((interface, ETH_P_ALL))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        return sock

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Run the block on this host, in this thread; a socket keeps the host that created it."""
        with _in(self._namespace):
            yield


_machine: list[int] = []
"""The machine's own network, for a worker that has left it."""


def leave_the_machine() -> None:
    """Move this process and its future children to a host of their own, if the system allows it."""
    with suppress(pytest.skip.Exception):
        host = Host()
        _machine.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))
        _enter(host._namespace)


def machines_network() -> AbstractContextManager[None]:
    """Return to the machine's own network, from which the internet is reached."""
    return _in(_machine[0]) if _machine else nullcontext()


_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def _in(namespace: int) -> Iterator[None]:
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    _enter(namespace)
    try:
        yield
    finally:
        _enter(here)
        os.close(here)


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def ipv4_packet(source: tuple[str, int], target: tuple[str, int], data: bytes) -> bytes:
    """Return an IPv4 packet with a datagram; the kernel adds the header's checksum (raw(7))."""
    total = 20 + 8 + len(data)
    ends = socket.inet_aton(source[0]) + socket.inet_aton(target[0])
    header = struct.pack("!BBHHHBBH", 0x45, 0, total, 0, 0, 64, socket.IPPROTO_UDP, 0) + ends
    return header + struct.pack("!HHHH", source[1], target[1], 8 + len(data), 0) + data


def ipv6_packet(source: tuple[str, int], target: tuple[str, int], data: bytes) -> bytes:
    """Return an IPv6 packet with a datagram and its checksum, which IPv6 requires."""
    ends = b"".join(socket.inet_pton(socket.AF_INET6, each[0]) for each in (source, target))
    length = 8 + len(data)
    header = struct.pack("!IHBB", 6 << 28, length, socket.IPPROTO_UDP, 64) + ends
    summed = ends + struct.pack("!II", length, socket.IPPROTO_UDP)
    summed += struct.pack("!HHHH", source[1], target[1], length, 0) + data
    total = sum(summed[0::2]) * 256 + sum(summed[1::2])
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    checksum = ~total & 0xFFFF
    return header + struct.pack("!HHHH", source[1], target[1], length, checksum) + data


def udp_packets(sniffer: socket.socket) -> list[tuple[str, int, str, int]]:
    """Return source and target of the IPv4 datagrams received so far, each once."""
    found = []
    sniffer.setblocking(False)
    while True:
        try:
            packet, about = sniffer.recvfrom(LARGEST)
        except BlockingIOError:
            return found
        if about[2] != PACKET_OUTGOING and packet[0] == 0x45 and packet[9] == socket.IPPROTO_UDP:
            source, target = (socket.inet_ntoa(packet[at : at + 4]) for at in (12, 16))
            ports = struct.unpack("!HH", packet[20:24])
            found.append((source, ports[0], target, ports[1]))
