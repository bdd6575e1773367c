"""Datagrams in batches: recvmmsg(2) and sendmmsg(2), which Linux has, through ctypes.

One call receives, or sends, up to `MOST` datagrams.  The kernel puts them, and what comes
with each, into arrays that are made once: a datagram that is sent back leaves from
where it was put, and no Python object is made of it.  The arrays belong to all ports of
the process, since a reactor serves one batch at a time; a batch that is received while
another is being served has arrays of its own.

`netsrv.transports.plain` is the same with the calls that every system has.
"""

import ctypes
import mmap
import os
import socket
import struct
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import accumulate
from typing import Any

from attrs import define

from netsrv.arrivals import SPACE, Arrival, Message, Origin, arrival_of, host_and_port
from netsrv.transports import plain
from netsrv.transports.plain import (
    MOST_ORIGINS,
    Failure,
    Received,
    send_each,
    skip,
)

_SOCKET = socket.socket

MOST = 64
"""Datagrams of one call."""

ALONE = 32
"""Datagrams that are received by themselves after one that came alone."""

FEW = 6
"""Datagrams that are sent one by one, which is cheaper than to make the arrays ready."""

_ROOM = 65_536
"""Bytes for a datagram; none is longer."""

_STRIDE = _ROOM + 64
"""From one datagram to the next: not a power of two, or all would share few lines of a cache."""

_NOW = int(socket.MSG_DONTWAIT)

_NAME = 32
"""Bytes for an address, which takes 16 or 28."""

_RECORD = _NAME + SPACE
"""Bytes for an address and the messages that come with a datagram."""

_MESSAGE_ROOM = 40
"""Bytes for the message with which an answer leaves: it takes 32 or 40."""

_NAME_SIZE: dict[int, int] = {socket.AF_INET: 16, socket.AF_INET6: 28}
_IPV4 = struct.Struct("!2xH4s8x")
_IPV6 = struct.Struct("!2xHI16s4x")
_SCOPE = struct.Struct("=I")
_FAMILY = struct.Struct("=H")
_MESSAGE = struct.Struct("=Qii")  # length with this header, level, type
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


def usable(sock: Any) -> bool:
    """Whether datagrams of *sock* can come and go in batches: on Linux, if it is the kernel's."""
    return _receive is not None and isinstance(sock, _SOCKET)


@define(eq=False)
class Address(Origin):
    """An origin in the kernel's own form."""

    name: bytes = b""
    """The address of the peer."""
    message: bytes = b""
    """The control message with which an answer leaves."""


class Inbox:
    """Where the kernel puts datagrams, and takes them from again to send them back."""

    def __init__(self) -> None:
        self.data = mmap.mmap(-1, MOST * _STRIDE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._records = bytearray(MOST * _RECORD)
        self._vectors = bytearray(MOST * _VECTOR.size)
        self._headers = _Headers()
        data, records, vectors = map(_address, (self.data, self._records, self._vectors))
        self._vectors_before = b"".join(
            _VECTOR.pack(data + place * _STRIDE, _ROOM) for place in range(MOST)
        )
        self._before = {
            space: b"".join(
                _header(records + place * _RECORD, vectors + place * _VECTOR.size, _NAME, space)
                for place in range(MOST)
            )
            for space in (0, SPACE)
        }
        self._vector_sizes = memoryview(self._vectors).cast("Q")[1::2]
        self._used, self._space = MOST, 0

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
            self._space, used = space, MOST
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
        width = _NAME_SIZE[family]
        if space:
            width = _NAME + max(self._headers.message_sizes[:count])
        found: Sequence[bytes] = _keys(width, count).unpack_from(self._records)
        return found

    def send_back(
        self,
        descriptor: int,
        places: Sequence[int] | None,
        origins: Sequence[Any],
        sizes: list[int],
    ) -> list[Failure]:
        """Send those in *places*, by default all; *origins* and *sizes* are theirs."""
        headers, count = self._headers, len(sizes)
        if places is None:
            self._vector_sizes[:count] = array("Q", sizes)
        else:
            headers.close_up(places)
            for place, size in zip(places, sizes, strict=True):
                self._vector_sizes[place] = size
        if headers.message_sizes[0]:
            headers.answer(origins)
        return headers.send(descriptor, count)


class Outbox:
    """Where the kernel takes from what a service sends."""

    def __init__(self) -> None:
        self._names = bytearray(MOST * _NAME)
        self._vectors = bytearray(MOST * _VECTOR.size)
        self._headers = _Headers()
        names, vectors = _address(self._names), _address(self._vectors)
        words = memoryview(self._vectors).cast("Q")
        self._vector_starts, self._vector_sizes = words[::2], words[1::2]
        self._before = b"".join(
            _header(names + place * _NAME, vectors + place * _VECTOR.size, _NAME, 0)
            for place in range(MOST)
        )

    def send(
        self, descriptor: int, packets: Sequence[bytes], targets: Sequence[Any], answers: bool
    ) -> list[Failure]:
        """Send up to `MOST` datagrams; with *answers*, some may be to leave from an address."""
        count = len(packets)
        data = bytearray().join(packets)
        sizes = array("Q", map(len, packets))
        self._vector_sizes[:count] = sizes
        self._vector_starts[:count] = array("Q", accumulate(sizes[:-1], initial=_address(data)))
        self._names[: count * _NAME] = b"".join([each.name for each in targets])
        end = count * _HEADER.size
        self._headers.content[:end] = self._before[:end]
        if answers:
            self._headers.answer(targets)
        return self._headers.send(descriptor, count)


class _Headers:
    """An array of struct mmsghdr, and where what is in it can be read and written."""

    def __init__(self) -> None:
        self.content = bytearray(MOST * _HEADER.size)
        self.address = _address(self.content)
        self._messages = bytearray(MOST * _MESSAGE_ROOM)
        start, end = _address(self._messages), _address(self._messages) + len(self._messages)
        self._messages_at = array("Q", range(start, end, _MESSAGE_ROOM))
        halves, words = memoryview(self.content).cast("I"), memoryview(self.content).cast("Q")
        self.sizes = halves[14::16]
        self.message_sizes = words[5::8]
        self._message_at = words[4::8]

    def close_up(self, places: Sequence[int]) -> None:
        """Have those in *places* stand at the beginning."""
        size, content = _HEADER.size, self.content
        rows = [content[place * size : place * size + size] for place in places]
        content[: len(places) * size] = b"".join(rows)

    def answer(self, targets: Sequence[Any]) -> None:
        """Have each leave from the address that was asked, if it is an answer."""
        messages = [each.message for each in targets]
        count = len(messages)
        filled = b"".join([each.ljust(_MESSAGE_ROOM) for each in messages])
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
            done = done + sent if sent > 0 else skip(failures, done, count, _error())
        return failures


def _header(name: int, vector: int, name_size: int, space: int) -> bytes:
    return _HEADER.pack(name, name_size, vector, 1, name + _NAME, space, 0, 0)


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def _address(room: Any) -> int:
    """Where memory begins; that of an empty object is of no use."""
    return ctypes.addressof(ctypes.c_char.from_buffer(room)) if len(room) else 0


@cache
def _keys(width: int, count: int) -> struct.Struct:
    return struct.Struct(f"{width}s{_RECORD - width}x" * count)


_free: list[Inbox] = []
"""Those that no batch is in.  There is one, unless a batch was received during another."""


@cache
def _outbox() -> Outbox:
    return Outbox()


class ReceivedInPlace(Received):
    """Datagrams that are where the kernel has put them."""

    def __init__(
        self,
        sock: Any,
        inbox: Inbox,
        origins: Sequence[Origin],
        sizes: list[int],
        places: Sequence[int] | None = None,
    ) -> None:
        super().__init__(sock, origins, sizes, ())
        self._inbox = inbox
        self._places = places

    def data(self) -> Sequence[bytes]:
        data = self._inbox.data
        places = range(len(self.sizes)) if self._places is None else self._places
        return [
            data[place * _STRIDE : place * _STRIDE + size]
            for place, size in zip(places, self.sizes, strict=True)
        ]

    def only(self, places: Sequence[int]) -> Received:
        before = self._places
        return ReceivedInPlace(
            self._sock,
            self._inbox,
            [self.origins[each] for each in places],
            [self.sizes[each] for each in places],
            places if before is None else [before[each] for each in places],
        )

    def send_back(self) -> list[Failure]:
        return self._inbox.send_back(self._sock.fileno(), self._places, self.origins, self.sizes)

    def free(self) -> None:
        _free.append(self._inbox)


class Calls(plain.Calls):
    """The calls of one port.

    Where datagrams come one by one, the plain call is the cheaper one.  So after a batch of
    one, the next few had better be received by themselves.
    """

    def __init__(self, sock: socket.socket, space: int, arrival: Arrival) -> None:
        super().__init__(sock, space, arrival)
        self._family: int = sock.family
        self._addresses = _Addresses(arrival)
        self.alone = ALONE

    def receive(self, most: int, largest: int) -> Received:
        """Receive what has arrived, up to *most* datagrams or `MOST`."""
        inbox = _free.pop() if _free else Inbox()
        try:
            count = inbox.receive(self._sock.fileno(), min(most, MOST), self._space)
        except OSError:
            _free.append(inbox)
            raise
        if count == 1:
            self.alone = ALONE
        keys = inbox.keys(count, self._family, self._space)
        origins = [*map(self._addresses.__getitem__, keys)]
        return ReceivedInPlace(self._sock, inbox, origins, inbox.sizes(count))

    def receive_one(self, largest: int) -> tuple[bytes, Origin, int]:
        """Receive a datagram; where there is nothing to know beside it, that is cheaper."""
        if self._space:
            return super().receive_one(largest)
        data, sockaddr = self._sock.recvfrom(_ROOM)
        try:
            origin = self._origins[sockaddr]
        except KeyError:
            origin = self.learn(sockaddr, sockaddr, ())
        return data, origin, len(data)

    def _learn(self, sockaddr: Any, messages: Sequence[Message]) -> Origin:
        arrival = arrival_of(messages) if messages else self._arrival
        name = _name(self._family, sockaddr)
        return Address(host_and_port(sockaddr), arrival, name, _packed(arrival.answer))

    def target(self, peer: tuple[str, int], sockaddr: Any) -> Origin:
        """Where to send what is no answer: *sockaddr* is the address as the kernel has it."""
        return Address(peer, name=_name(self._family, sockaddr))

    def send(self, packets: Sequence[bytes], targets: Sequence[Origin]) -> list[Failure]:
        """Send up to `MOST` datagrams, each to the target beside it."""
        if len(packets) < FEW:
            return send_each(self._sock, packets, targets)
        return _outbox().send(self._sock.fileno(), packets, targets, self._space > 0)


class _Addresses(dict[bytes, Address]):
    """What the kernel's bytes stand for, remembered."""

    def __init__(self, arrival: Arrival) -> None:
        super().__init__()
        self._arrival = arrival

    def __missing__(self, key: bytes) -> Address:
        if len(self) >= MOST_ORIGINS:
            self.clear()
        name = key[:_NAME].ljust(_NAME, b"\0")
        messages = list(_messages(key[_NAME:]))
        arrival = arrival_of(messages) if messages else self._arrival
        found = self[key] = Address(_peer(name), arrival, name, _packed(arrival.answer))
        return found


def _messages(data: bytes) -> Iterator[Message]:
    """Take apart the control messages of a datagram (cmsg(3))."""
    start = 0
    while start + _MESSAGE.size <= len(data):
        size, level, kind = _MESSAGE.unpack_from(data, start)
        if size < _MESSAGE.size:
            return
        yield level, kind, data[start + _MESSAGE.size : start + size]
        start += -(-size // 8) * 8


def _packed(messages: Iterable[Message]) -> bytes:
    packed = b""
    for level, kind, data in messages:
        packed += _MESSAGE.pack(_MESSAGE.size + len(data), level, kind) + data
        packed = packed.ljust(-(-len(packed) // 8) * 8, b"\0")
    return packed


def _peer(name: bytes) -> tuple[str, int]:
    if _FAMILY.unpack_from(name)[0] == socket.AF_INET:
        port, packed = _IPV4.unpack_from(name)
        return socket.inet_ntoa(packed), port
    port, _flow, packed = _IPV6.unpack_from(name)
    host = socket.inet_ntop(socket.AF_INET6, packed)
    return host_and_port((host, port, 0, *_SCOPE.unpack_from(name, 24)))


def _name(family: int, sockaddr: Any) -> bytes:
    if family == socket.AF_INET:
        packed = _IPV4.pack(sockaddr[1], socket.inet_aton(sockaddr[0]))
    else:
        host = sockaddr[0].partition("%")[0]
        packed = _IPV6.pack(sockaddr[1], sockaddr[2], socket.inet_pton(socket.AF_INET6, host))
        packed = packed[:24] + _SCOPE.pack(sockaddr[3])
    return (_FAMILY.pack(family) + packed[2:]).ljust(_NAME, b"\0")
