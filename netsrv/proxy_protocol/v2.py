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

# By the number of a family.  The members of an enumeration are looked up, and hashed, slowly.
_BLOCKS = (struct.Struct(""), INET, INET6, UNIX)
_ADDRESS_FAMILIES = (None, socket.AF_INET, socket.AF_INET6, None)
_FAMILIES, _TRANSPORTS = tuple(Family), tuple(Transport)
_LOCAL, _PROXY = Command
_LENGTH = struct.Struct("!H")


def parse(data: bytes, rules: Rules) -> Header | None:
    """Parse a header that begins with `SIGNATURE`; see `netsrv.proxy_protocol.parse`."""
    available = len(data)
    if available < 13:
        return None
    version, command = data[12] >> 4, data[12] & 0xF
    if version != 2 or command > 1:
        raise HeaderError(f"version {version}, command {command} after the signature of version 2")
    if available < 14:
        return None
    family, transport = data[13] >> 4, data[13] & 0xF
    if command:
        _check_kind(family, transport, rules)
    if available < FIXED_SIZE:
        return None
    (length,) = _LENGTH.unpack_from(data, 14)
    if length > rules.max_length:
        raise HeaderError(f"a length of {length} bytes, where at most {rules.max_length} may be")
    size = FIXED_SIZE + length
    is_local = not command
    if not is_local and family and transport and length < _BLOCKS[family].size:
        raise HeaderError("a length that is too short for the addresses")
    if available < size:
        return None
    if is_local:
        return Header(2, size, _LOCAL)
    return _parse_proxied(data[:size], _FAMILIES[family], _TRANSPORTS[transport], rules)


def _check_kind(family: int, transport: int, rules: Rules) -> None:
    if family > 3 or transport > 2:
        raise HeaderError(f"family {family}, transport {transport}, which are not assigned")
    if not (family and transport):
        if not rules.unspec:
            raise HeaderError("UNSPEC, which gives no addresses")
    elif transport != rules.transport and not rules.other_transport:
        raise HeaderError(f"a header for {Transport(transport).name}")


def _parse_proxied(data: bytes, family: Family, transport: Transport, rules: Rules) -> Header:
    if not (family and transport):
        return Header(2, len(data), _PROXY, family, transport)
    block = _BLOCKS[family]
    tlvs = _parse_tlvs(data, FIXED_SIZE + block.size)
    if transport != rules.transport:
        return Header(2, len(data), _PROXY, family, transport, tlvs=tlvs)
    values = block.unpack_from(data, FIXED_SIZE)
    source: Endpoint
    destination: Endpoint
    af = _ADDRESS_FAMILIES[family]
    if af is None:
        source, destination = map(_show_path, values)
    else:
        source = socket.inet_ntop(af, values[0]), values[2]
        destination = socket.inet_ntop(af, values[1]), values[3]
    return Header(2, len(data), _PROXY, family, transport, source, destination, tlvs)


def _parse_tlvs(data: bytes, start: int) -> tuple[tuple[int, bytes], ...]:
    if start == len(data):
        return ()
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
