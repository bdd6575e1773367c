"""recvmmsg(2) and sendmmsg(2) of Linux, through ctypes.

One call receives, or sends, up to `BATCH_SIZE` datagrams.  The kernel puts them, and what comes
with each, into arrays that are allocated once: a datagram that is sent back is sent from
there, and never becomes a Python object.
"""

import errno
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

from netsrv.datagrams.batch import BATCH_SIZE
from netsrv.datagrams.libc import ctypes, library
from netsrv.datagrams.pktinfo import CMSG_SPACE
from netsrv.datagrams.single import Failure, next_after

BUFFER_SIZE = 65_536
"""Bytes of the buffer for a datagram; none is longer."""

STRIDE = BUFFER_SIZE + 64
"""Bytes from one buffer to the next: not a power of two, or all would compete for a few lines
of a processor's cache."""

SOCKADDR_SIZE = 32
"""Bytes for an address, which takes 16 or 28."""

_NAME_SIZES: dict[int, int] = {socket.AF_INET: 8, socket.AF_INET6: 28}
"""Bytes of a sockaddr up to the last that is not always 0."""

_REPLY_CMSG_SIZE = 40
"""Bytes for the control message of a reply, which takes 32 or 40."""

_MMSGHDR = struct.Struct("=QI4xQQQQi4xI4x")
"""struct mmsghdr: msg_name and its length, msg_iov and its length, msg_control and its length,
msg_flags; and msg_len, the bytes received."""

_IOVEC = struct.Struct("=QQ")  # iov_base, iov_len

_DONTWAIT = int(socket.MSG_DONTWAIT)


def _functions() -> tuple[Any, Any]:
    """Return the C library's functions; None for both where it has none, or other structures."""
    libc = library()
    if libc is None or sys.platform != "linux" or ctypes.sizeof(ctypes.c_void_p) != 8:
        return None, None
    receive, send = getattr(libc, "recvmmsg", None), getattr(libc, "sendmmsg", None)
    if receive is None or send is None:
        return None, None
    pointer = ctypes.c_void_p
    receive.argtypes = [ctypes.c_int, pointer, ctypes.c_uint, ctypes.c_int, pointer]
    send.argtypes = [ctypes.c_int, pointer, ctypes.c_uint, ctypes.c_int]
    return receive, send


_receive, _send = _functions()

AVAILABLE = _receive is not None
"""True if the C library has the calls; a kernel or a sandbox may still refuse them."""

REFUSED = frozenset({errno.ENOSYS, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP})
"""Errors by which a sandbox (seccomp(2)), an emulator or an old kernel refuses a call.  Some of
them may concern a datagram instead: only the plain call tells."""


class RecvArrays:
    """The arrays into which the kernel puts datagrams, and from which they are sent back."""

    def __init__(self) -> None:
        self.data = mmap.mmap(-1, BATCH_SIZE * STRIDE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._names = bytearray(BATCH_SIZE * SOCKADDR_SIZE)
        self._control = bytearray(BATCH_SIZE * CMSG_SPACE)
        self._vectors = bytearray(BATCH_SIZE * _IOVEC.size)
        self._headers = Headers()
        data, vectors = _address(self.data), _address(self._vectors)
        names, control = _address(self._names), _address(self._control)
        self._initial_vectors = b"".join(
            _IOVEC.pack(data + index * STRIDE, BUFFER_SIZE) for index in range(BATCH_SIZE)
        )
        self._initial_headers = {
            space: b"".join(
                _header(
                    names + index * SOCKADDR_SIZE,
                    vectors + index * _IOVEC.size,
                    control + index * CMSG_SPACE,
                    space,
                )
                for index in range(BATCH_SIZE)
            )
            for space in (0, CMSG_SPACE)
        }
        self._vector_sizes = memoryview(self._vectors).cast("I")[2::4]  # their lower halves
        self._control_view = memoryview(self._control)
        self._used, self._space = BATCH_SIZE, 0
        self._expect(b"")
        self._family = 0
        self._mixed = False
        """True if not all datagrams of the batch came with the same control messages."""
        self._stale = False
        """True if bytes of other messages may be left behind messages, or in their padding."""

    def receive(self, descriptor: int, max_count: int, family: int, space: int) -> int:
        """Receive up to *max_count* datagrams; return their number.  Raises OSError.

        *family* is that of the socket.  *space* is the bytes to provide for control messages: 0
        or `CMSG_SPACE`.
        """
        if family != self._family:
            self._family, self._stale = family, True
        self._reset(space)
        count: int = _receive(descriptor, self._headers.address, max_count, _DONTWAIT, None)
        if count < 0:
            raise _error()
        self._used = count
        return count

    def _reset(self, space: int) -> None:
        """Restore what the last batch changed, with *space* bytes for control messages."""
        used, headers = self._used, self._initial_headers[space]
        if space != self._space:
            self._space, used = space, BATCH_SIZE
        if used:
            end = used * _MMSGHDR.size
            self._headers.content[:end] = headers[:end]
            end = used * _IOVEC.size
            self._vectors[:end] = self._initial_vectors[:end]
            self._used = 0
        self._mixed = False
        if self._stale and space:
            self._control[:] = bytes(len(self._control))
            self._stale = False

    def sizes(self, count: int) -> list[int]:
        """Return the sizes of the first *count* datagrams."""
        return self._headers.sizes[:count].tolist()

    def names(self, count: int) -> Sequence[bytes]:
        """Return the address of each sender: the bytes of its sockaddr that matter."""
        names: Sequence[bytes] = _names(_NAME_SIZES[self._family], count).unpack_from(self._names)
        return names

    def control(self, count: int) -> bytes | list[bytes]:
        """Return the control messages that came with each; only once if all are equal.

        Mostly all are equal, and those of the batch before: one address was asked.
        """
        if not self._space:
            return b""
        sizes = self._headers.control_sizes[:count]
        first = bytes(self._control[: sizes[0]])
        if first != self._expected:
            self._expect(first)
            self._stale = True
        end = count * CMSG_SPACE
        if sizes == self._expected_sizes[:count] and self._expected_control.startswith(
            self._control_view[:end]
        ):
            return first
        self._mixed = self._stale = True
        return [
            bytes(self._control[start : start + size])
            for start, size in zip(range(0, end, CMSG_SPACE), sizes, strict=True)
        ]

    def _expect(self, messages: bytes) -> None:
        """Compare the messages of batches with these."""
        self._expected = messages
        self._expected_control = messages.ljust(CMSG_SPACE, b"\0") * BATCH_SIZE
        self._expected_sizes = memoryview(array("Q", [len(messages)]) * BATCH_SIZE)

    def headers_back(
        self, indices: Sequence[int] | None, flows: Sequence[Any], sizes: Sequence[int]
    ) -> "Headers":
        """Return headers that send the datagrams at *indices*, or all, to their *flows*.

        *sizes* are theirs.
        """
        headers, count = self._headers, len(sizes)
        if indices is None:
            self._vector_sizes[:count] = headers.sizes[:count]
        else:
            headers.compact(indices)
            for index, size in zip(indices, sizes, strict=True):
                self._vector_sizes[index] = size
        if self._mixed:
            headers.set_control(flows)
        elif self._space:
            headers.set_equal_control(flows[0].reply_cmsgs, count)
        return headers


class SendArrays:
    """The arrays from which the kernel takes what a service sends."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._sockaddrs = bytearray(BATCH_SIZE * SOCKADDR_SIZE)
        self._vectors = bytearray(BATCH_SIZE * _IOVEC.size)
        self._headers = Headers()
        sockaddrs, vectors = _address(self._sockaddrs), _address(self._vectors)
        words = memoryview(self._vectors).cast("Q")
        self._vector_starts, self._vector_sizes = words[::2], words[1::2]
        self._initial_headers = b"".join(
            _header(sockaddrs + index * SOCKADDR_SIZE, vectors + index * _IOVEC.size, 0, 0)
            for index in range(BATCH_SIZE)
        )

    def headers_for(
        self, packets: Sequence[bytes], flows: Sequence[Any], control: bool
    ) -> "Headers":
        """Return headers that send up to `BATCH_SIZE` packets; valid until the next call.

        With *control*, flows may have control messages.
        """
        count = len(packets)
        self._data = data = bytearray().join(packets)
        sizes = array("Q", map(len, packets))
        self._vector_sizes[:count] = sizes
        self._vector_starts[:count] = array("Q", accumulate(sizes[:-1], initial=_address(data)))
        self._sockaddrs[: count * SOCKADDR_SIZE] = b"".join([flow.packed for flow in flows])
        end = count * _MMSGHDR.size
        self._headers.content[:end] = self._initial_headers[:end]
        if control:
            self._headers.set_control(flows)
        return self._headers


class Headers:
    """An array of struct mmsghdr, with views of its fields."""

    def __init__(self) -> None:
        self.content = bytearray(BATCH_SIZE * _MMSGHDR.size)
        self.address = _address(self.content)
        self._control = bytearray(BATCH_SIZE * _REPLY_CMSG_SIZE)
        start, end = _address(self._control), _address(self._control) + len(self._control)
        self._control_addresses = array("Q", range(start, end, _REPLY_CMSG_SIZE))
        halves, words = memoryview(self.content).cast("I"), memoryview(self.content).cast("Q")
        self.sizes = halves[14::16]  # msg_len
        self.control_sizes = words[5::8]  # msg_controllen
        self._control_pointers = words[4::8]  # msg_control

    def compact(self, indices: Sequence[int]) -> None:
        """Move the headers at *indices* to the start."""
        size, content = _MMSGHDR.size, self.content
        rows = [content[index * size : index * size + size] for index in indices]
        content[: len(indices) * size] = b"".join(rows)

    def set_control(self, flows: Sequence[Any]) -> None:
        """Attach the control messages with which replies to *flows* leave.

        Equal messages share their bytes.
        """
        messages = [flow.reply_cmsgs for flow in flows]
        count, distinct = len(messages), list(dict.fromkeys(messages))
        packed = b"".join([message.ljust(_REPLY_CMSG_SIZE) for message in distinct])
        self._control[: len(packed)] = packed
        address_of = dict(zip(distinct, self._control_addresses, strict=False))
        self._control_pointers[:count] = array("Q", map(address_of.__getitem__, messages))
        self.control_sizes[:count] = array("Q", map(len, messages))

    def set_equal_control(self, message: bytes, count: int) -> None:
        """Attach the same control message to the first *count* headers."""
        self._control[: len(message)] = message
        self._control_pointers[:count] = self._control_addresses[:1] * count
        self.control_sizes[:count] = array("Q", [len(message)]) * count

    def send(self, descriptor: int, done: int, count: int, failures: list[Failure]) -> int:
        """Send the datagrams from index *done* to *count*, and add the failures.

        Returns *count*, or the index at which the call was `REFUSED`.
        """
        while done < count:
            start = self.address + done * _MMSGHDR.size
            sent: int = _send(descriptor, start, count - done, _DONTWAIT)
            if sent > 0:
                done += sent
                continue
            error = _error()
            if error.errno in REFUSED:
                break
            done = next_after(failures, done, count, error)
        return done


def _header(name: int, vector: int, control: int, space: int) -> bytes:
    """Return a struct mmsghdr with the addresses of what it points to."""
    return _MMSGHDR.pack(name, SOCKADDR_SIZE, vector, 1, control, space, 0, 0)


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def _address(buffer: Any) -> int:
    """Return the address of a buffer; 0 for an empty one, which has none."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer)) if len(buffer) else 0


@cache
def _names(width: int, count: int) -> struct.Struct:
    return struct.Struct(f"{width}s{SOCKADDR_SIZE - width}x" * count)
