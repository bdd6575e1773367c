"""Steering: how the kernel chooses among the sockets of one address (``SO_REUSEPORT``, socket(7)).

By itself the kernel takes a hash of both addresses.  On Linux a program in classic BPF may choose
instead.  It must be attached after all TCP sockets listen: afterwards listen(2) fails.
"""

import ctypes
import socket
import struct
import sys
from collections.abc import Sequence

ATTACH_REUSEPORT_CBPF = 51
DETACH_REUSEPORT_BPF = 68
"""Options of SOL_SOCKET that Python does not name (asm-generic/socket.h)."""

CAN_SHARE = sys.platform == "linux"
"""True if the kernel spreads connections and datagrams over the sockets of one address."""

_NETWORK = 0xFFF00000
"""The offset of the network header (SKF_NET_OFF)."""

_CPU = 0xFFFFF024
"""The offset under which the kernel has the number of the CPU (SKF_AD_OFF + SKF_AD_CPU)."""

_FACTORS = (0x85EBCA6B, 0x9E3779B1)
"""Multipliers that spread neighbouring addresses."""

_WORD = 0xFFFFFFFF

Instruction = tuple[int, int, int, int]
"""Operation, jumps if true and if false, and operand."""


def by_source(count: int) -> list[Instruction]:
    """Return the program that chooses one of *count* sockets by the source: see `index_of`."""
    return [
        (0x30, 0, 0, _NETWORK),  # load the first byte,
        (0x74, 0, 0, 4),  # whose upper half is the version
        (0x15, 2, 0, 6),  # jump if it is 6
        (0x20, 0, 0, _NETWORK + 12),  # load the source of IPv4
        (0x05, 0, 0, 4),  # jump to the first multiplication
        (0x20, 0, 0, _NETWORK + 8),  # load the first word of an IPv6 source
        (0x07, 0, 0, 0),
        (0x20, 0, 0, _NETWORK + 12),  # and the second: a host has all addresses of its /64
        (0xAC, 0, 0, 0),  # exclusive or
        (0x24, 0, 0, _FACTORS[0]),
        (0x24, 0, 0, _FACTORS[1]),
        (0x74, 0, 0, 16),
        (0x94, 0, 0, count),
        (0x16, 0, 0, 0),  # return it
    ]


def by_cpu(count: int) -> list[Instruction]:
    """Return the program that chooses one of *count* sockets by the CPU that received."""
    return [(0x20, 0, 0, _CPU), (0x94, 0, 0, count), (0x16, 0, 0, 0)]


def index_of(packed: bytes, count: int) -> int:
    """Return which of *count* sockets `by_source` chooses for a source, packed as for IPv4 or IPv6.

    An IPv4 address inside IPv6 arrives as IPv4.
    """
    if len(packed) == 4:
        word = int.from_bytes(packed)
    else:
        word = int.from_bytes(packed[:4]) ^ int.from_bytes(packed[4:8])
    for factor in _FACTORS:
        word = word * factor & _WORD
    return (word >> 16) % count


def attach(sock: socket.socket, program: Sequence[Instruction]) -> None:
    """Have *program* choose among all sockets of the address of *sock*.  Raises OSError."""
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code)
    description = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, ATTACH_REUSEPORT_CBPF, description)


def detach(sock: socket.socket) -> None:
    """Have the kernel choose by its own hash again.  Raises OSError if there was no program."""
    sock.setsockopt(socket.SOL_SOCKET, DETACH_REUSEPORT_BPF, 0)
