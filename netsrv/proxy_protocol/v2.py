"""Version 2: binary (section 2.2)."""

import socket
import struct

from netsrv.proxy_protocol.crc32c import crc32c
from netsrv.proxy_protocol.header import (
    Command,
    Endpoint,
    Family,
    Header,
    HeaderError,
    Rules,
    Transport,
)
from netsrv.proxy_protocol.tlvs import CRC32C, MAX_UNIQUE_ID, UNIQUE_ID, Overrun, split_tlvs

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"

FIXED_SIZE = 16
"""Bytes before the addresses."""

INET = struct.Struct("!4s4sHH")
INET6 = struct.Struct("!16s16sHH")
UNIX = struct.Struct("!108s108s")

_PROXIED = 0x21
"""The byte of version 2 and the command PROXY."""

_BLOCKS = {Family.INET: INET, Family.INET6: INET6, Family.UNIX: UNIX}
_ADDRESS_FAMILIES = {Family.INET: socket.AF_INET, Family.INET6: socket.AF_INET6}
_LAYOUTS = {
    transport: {
        family << 4 | transport: (family, block, _ADDRESS_FAMILIES.get(family))
        for family, block in _BLOCKS.items()
    }
    for transport in (Transport.STREAM, Transport.DGRAM)
}
"""The addresses after each byte of a family and a transport, by the receiver's transport."""

_COMMAND = Command.PROXY
_START = struct.Struct("!BBH")
"""Version and command, family and transport, and the length of what follows."""


def parse(data: bytes, rules: Rules) -> Header | None:
    """Parse a header that begins with `SIGNATURE`; see `netsrv.proxy_protocol.parse`."""
    if len(data) < FIXED_SIZE:
        _check_start(data, rules)
        return None
    start, kind, length = _START.unpack_from(data, 12)
    layout = _LAYOUTS[rules.transport].get(kind)
    if start != _PROXIED or layout is None:
        return _parse_other(data, rules)
    family, block, af = layout
    if length > rules.max_length or length < block.size:
        raise _wrong_length(length, rules)
    size = FIXED_SIZE + length
    if len(data) < size:
        return None
    tlvs = _parse_tlvs(data[:size], FIXED_SIZE + block.size) if length > block.size else ()
    source: Endpoint
    destination: Endpoint
    if af is None:
        source, destination = map(_show_path, block.unpack_from(data, FIXED_SIZE))
    else:
        source_host, host, source_port, port = block.unpack_from(data, FIXED_SIZE)
        source = socket.inet_ntop(af, source_host), source_port
        destination = socket.inet_ntop(af, host), port
    return Header(2, size, _COMMAND, family, rules.transport, source, destination, tlvs)


def _parse_other(data: bytes, rules: Rules) -> Header | None:
    """Parse a header that has no addresses for the receiver."""
    _check_start(data, rules)
    start, kind, length = _START.unpack_from(data, 12)
    family, transport = Family(kind >> 4 if start == _PROXIED else 0), kind & 0xF
    block = _BLOCKS.get(family) if transport else None
    if length > rules.max_length or (block is not None and length < block.size):
        raise _wrong_length(length, rules)
    size = FIXED_SIZE + length
    if len(data) < size:
        return None
    if start != _PROXIED:
        return Header(2, size, Command.LOCAL)
    tlvs = () if block is None else _parse_tlvs(data[:size], FIXED_SIZE + block.size)
    return Header(2, size, Command.PROXY, family, Transport(transport), tlvs=tlvs)


def _check_start(data: bytes, rules: Rules) -> None:
    """Raise `HeaderError` if the bytes between the signature and the length are not accepted."""
    if len(data) <= 12:
        return
    version, command = data[12] >> 4, data[12] & 0xF
    if version != 2 or command > 1:
        raise HeaderError(f"version {version}, command {command} after the signature of version 2")
    if len(data) == 13 or not command:
        return
    family, transport = data[13] >> 4, data[13] & 0xF
    if family > 3 or transport > 2:
        raise HeaderError(f"family {family}, transport {transport}, which are not assigned")
    if not (family and transport):
        if not rules.unspec:
            raise HeaderError("UNSPEC, which gives no addresses")
    elif transport != rules.transport and not rules.other_transport:
        raise HeaderError(f"a header for {Transport(transport).name}")


def _wrong_length(length: int, rules: Rules) -> HeaderError:
    if length > rules.max_length:
        return HeaderError(f"a length of {length} bytes, where at most {rules.max_length} may be")
    return HeaderError("a length that is too short for the addresses")


def _parse_tlvs(data: bytes, start: int) -> tuple[tuple[int, bytes], ...]:
    tlvs = []
    checksum = None
    try:
        for kind, begin, end in split_tlvs(data, start):
            if kind == CRC32C:
                if checksum is not None or end - begin != 4:
                    raise HeaderError("a CRC32C that is not of 4 bytes, or comes twice")
                checksum = begin
            elif kind == UNIQUE_ID and end - begin > MAX_UNIQUE_ID:
                raise HeaderError(f"a unique id of more than {MAX_UNIQUE_ID} bytes")
            tlvs.append((kind, data[begin:end]))
    except Overrun:
        raise HeaderError("a TLV that runs over the length of the header") from None
    if checksum is not None:
        _check_crc32c(data, checksum)
    return tuple(tlvs)


def _check_crc32c(data: bytes, start: int) -> None:
    """Check the checksum at *start*, which is that of the whole header with zeros there."""
    zeroed = data[:start] + bytes(4) + data[start + 4 :]
    if crc32c(zeroed) != int.from_bytes(data[start : start + 4], "big"):
        raise HeaderError("a wrong CRC32C")


def _show_path(packed: bytes) -> str:
    """Return the path of a unix socket; one of the abstract namespace begins with ``@``."""
    path = packed[:1].replace(b"\0", b"@") + packed[1:] if packed.strip(b"\0") else b""
    return path.partition(b"\0")[0].decode("utf-8", "surrogateescape")
