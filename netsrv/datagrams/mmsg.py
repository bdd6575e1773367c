"""recvmmsg(2) and sendmmsg(2), which Linux has, through ctypes.

One call receives, or sends, up to `BATCH_SIZE` datagrams.  The kernel puts them, and what comes
with each, into arrays that are made once: a datagram that is sent back leaves from
where it was put, and no Python object is made of it.
"""

import ctypes
import mmap
import os
import socket
import struct
import sys
from array import array
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from typing import Any

from netsrv.datagrams.pktinfo import CMSG_SPACE
from netsrv.datagrams.single import Failure, next_after

BATCH_SIZE = 64
"""Datagrams of one call."""

BUFFER_SIZE = 65_536
"""Bytes for a datagram; none is longer."""

STRIDE = BUFFER_SIZE + 64
"""From one datagram to the next: not a power of two, or all would share few lines of a cache."""

_NOW = int(socket.MSG_DONTWAIT)

NAME_SIZE = 32
"""Bytes for an address, which takes 16 or 28."""

_RECORD = NAME_SIZE + CMSG_SPACE
"""Bytes for an address and the messages that come with a datagram."""

_CMSG_SIZE = 40
"""Bytes for the message with which an answer leaves: it takes 32 or 40."""

_NAME_SIZES: dict[int, int] = {socket.AF_INET: 16, socket.AF_INET6: 28}
_HEADER = struct.Struct("=QI4xQQQQi4xI4x")
"""An address and its size, a vector and how many, messages and their size, flags; and what
the kernel adds, the datagram's size."""
_VECTOR = struct.Struct("=QQ")


def _functions() -> tuple[Any, Any]:
    """The two functions of the C library; None where it has none, or other structures."""
    if sys.platform != "linux" or ctypes.sizeof(ctypes.c_void_p) != 8:
        return None, None
    library = ctypes.PyDLL(None, use_errno=True)
    receive, send = getattr(library, "recvmmsg", None), getattr(library, "sendmmsg", None)
    if receive is None or send is None:
        return None, None
    pointer = ctypes.c_void_p
    receive.argtypes = [ctypes.c_int, pointer, ctypes.c_uint, ctypes.c_int, pointer]
    send.argtypes = [ctypes.c_int, pointer, ctypes.c_uint, ctypes.c_int]
    return receive, send


_receive, _send = _functions()

AVAILABLE = _receive is not None
"""Whether this system has the calls."""


class RecvArrays:
    """Where the kernel puts datagrams, and takes them from again to send them back."""

    def __init__(self) -> None:
        self.data = mmap.mmap(-1, BATCH_SIZE * STRIDE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._records = bytearray(BATCH_SIZE * _RECORD)
        self._vectors = bytearray(BATCH_SIZE * _VECTOR.size)
        self._headers = _Headers()
        data, records, vectors = map(_address, (self.data, self._records, self._vectors))
        self._vectors_before = b"".join(
            _VECTOR.pack(data + index * STRIDE, BUFFER_SIZE) for index in range(BATCH_SIZE)
        )
        self._before = {
            space: b"".join(
                _header(records + index * _RECORD, vectors + index * _VECTOR.size, NAME_SIZE, space)
                for index in range(BATCH_SIZE)
            )
            for space in (0, CMSG_SPACE)
        }
        self._vector_sizes = memoryview(self._vectors).cast("Q")[1::2]
        self._used, self._space = BATCH_SIZE, 0

    def receive(self, descriptor: int, most: int, space: int) -> int:
        """Receive up to *most* datagrams, and tell how many.  Raises OSError."""
        self._clean(space)
        count: int = _receive(descriptor, self._headers.address, most, _NOW, None)
        if count < 0:
            raise _error()
        self._used = count
        return count

    def _clean(self, space: int) -> None:
        """Have all be as before the last batch, with so much space for messages."""
        used, before = self._used, self._before[space]
        if space != self._space:
            self._space, used = space, BATCH_SIZE
        if used:
            end = used * _HEADER.size
            self._headers.content[:end] = before[:end]
            end = used * _VECTOR.size
            self._vectors[:end] = self._vectors_before[:end]
            if space:
                self._records[: used * _RECORD] = bytes(used * _RECORD)
            self._used = 0

    def sizes(self, count: int) -> list[int]:
        """The sizes of as many datagrams."""
        return self._headers.sizes[:count].tolist()

    def keys(self, count: int, family: int, space: int) -> Sequence[bytes]:
        """What came with each: the same bytes for the same peer, address asked and interface."""
        width = _NAME_SIZES[family]
        if space:
            width = NAME_SIZE + max(self._headers.message_sizes[:count])
        found: Sequence[bytes] = _keys(width, count).unpack_from(self._records)
        return found

    def send_back(
        self,
        descriptor: int,
        indices: Sequence[int] | None,
        flows: Sequence[Any],
        sizes: list[int],
    ) -> list[Failure]:
        """Send those in *indices*, by default all; *flows* and *sizes* are theirs."""
        headers, count = self._headers, len(sizes)
        if indices is None:
            self._vector_sizes[:count] = array("Q", sizes)
        else:
            headers.close_up(indices)
            for index, size in zip(indices, sizes, strict=True):
                self._vector_sizes[index] = size
        if self._space:
            headers.answer(flows)
        return headers.send(descriptor, count)


class SendArrays:
    """Where the kernel takes from what a service sends."""

    def __init__(self) -> None:
        self._names = bytearray(BATCH_SIZE * NAME_SIZE)
        self._vectors = bytearray(BATCH_SIZE * _VECTOR.size)
        self._headers = _Headers()
        names, vectors = _address(self._names), _address(self._vectors)
        words = memoryview(self._vectors).cast("Q")
        self._vector_starts, self._vector_sizes = words[::2], words[1::2]
        self._before = b"".join(
            _header(names + index * NAME_SIZE, vectors + index * _VECTOR.size, NAME_SIZE, 0)
            for index in range(BATCH_SIZE)
        )

    def send(
        self, descriptor: int, packets: Sequence[bytes], targets: Sequence[Any], answers: bool
    ) -> list[Failure]:
        """Send up to `BATCH_SIZE` datagrams; with *answers*, some leave from a given address."""
        count = len(packets)
        data = bytearray().join(packets)
        sizes = array("Q", map(len, packets))
        self._vector_sizes[:count] = sizes
        self._vector_starts[:count] = array("Q", accumulate(sizes[:-1], initial=_address(data)))
        self._names[: count * NAME_SIZE] = b"".join([each.name for each in targets])
        end = count * _HEADER.size
        self._headers.content[:end] = self._before[:end]
        if answers:
            self._headers.answer(targets)
        return self._headers.send(descriptor, count)


class _Headers:
    """An array of struct mmsghdr, and where what is in it can be read and written."""

    def __init__(self) -> None:
        self.content = bytearray(BATCH_SIZE * _HEADER.size)
        self.address = _address(self.content)
        self._messages = bytearray(BATCH_SIZE * _CMSG_SIZE)
        start, end = _address(self._messages), _address(self._messages) + len(self._messages)
        self._messages_at = array("Q", range(start, end, _CMSG_SIZE))
        halves, words = memoryview(self.content).cast("I"), memoryview(self.content).cast("Q")
        self.sizes = halves[14::16]
        self.message_sizes = words[5::8]
        self._message_at = words[4::8]

    def close_up(self, indices: Sequence[int]) -> None:
        """Have those in *indices* stand at the beginning."""
        size, content = _HEADER.size, self.content
        rows = [content[index * size : index * size + size] for index in indices]
        content[: len(indices) * size] = b"".join(rows)

    def answer(self, targets: Sequence[Any]) -> None:
        """Have each leave from the address that was asked, if it is an answer."""
        messages = [each.message for each in targets]
        count = len(messages)
        filled = b"".join([each.ljust(_CMSG_SIZE) for each in messages])
        self._messages[: len(filled)] = filled
        self._message_at[:count] = self._messages_at[:count]
        self.message_sizes[:count] = array("Q", map(len, messages))

    def send(self, descriptor: int, count: int) -> list[Failure]:
        """Send the first *count*, and give what could not be sent."""
        failures: list[Failure] = []
        done = 0
        while done < count:
            start = self.address + done * _HEADER.size
            sent: int = _send(descriptor, start, count - done, _NOW)
            done = done + sent if sent > 0 else next_after(failures, done, count, _error())
        return failures


def _header(name: int, vector: int, name_size: int, space: int) -> bytes:
    return _HEADER.pack(name, name_size, vector, 1, name + NAME_SIZE, space, 0, 0)


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def _address(room: Any) -> int:
    """Where memory begins; that of an empty object is of no use."""
    return ctypes.addressof(ctypes.c_char.from_buffer(room)) if len(room) else 0


@cache
def _keys(width: int, count: int) -> struct.Struct:
    return struct.Struct(f"{width}s{_RECORD - width}x" * count)
