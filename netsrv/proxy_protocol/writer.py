"""The writer: headers of both versions, as a proxy sends them."""

import socket
import struct
from collections.abc import Iterable

from netsrv.proxy_protocol import v1, v2
from netsrv.proxy_protocol.crc32c import EMPTY_TLV, crc32c
from netsrv.proxy_protocol.header import MAX_LENGTH, Command, Family, Transport
from netsrv.proxy_protocol.tlvs import CRC32C, pack_tlv

Address = tuple[str, int]
"""A numeric address and a port; further items of an IPv6 address are ignored."""


def make_v1(source: Address | None = None, destination: Address | None = None) -> bytes:
    """Return a header of version 1; without addresses that of UNKNOWN.

    IPv4 and IPv6 in one header become IPv6.  Raises ValueError for what is no address.
    """
    if source is None or destination is None:
        return v1.START + b"UNKNOWN\r\n"
    family, packed = _pack_hosts(source, destination)
    af = socket.AF_INET if family is Family.INET else socket.AF_INET6
    hosts = " ".join(socket.inet_ntop(af, host) for host in packed)
    protocol = "TCP4" if family is Family.INET else "TCP6"
    ports = f"{_port_of(source)} {_port_of(destination)}"
    return v1.START + f"{protocol} {hosts} {ports}\r\n".encode()


def make_v2(
    source: Address | str | None = None,
    destination: Address | str | None = None,
    *,
    transport: Transport = Transport.STREAM,
    tlvs: Iterable[tuple[int, bytes]] = (),
    checked: bool = False,
) -> bytes:
    """Return a header of version 2, command PROXY; without addresses that of UNSPEC.

    Addresses are as for `make_v1`, or two paths of unix sockets.  *tlvs* are pairs of a type and a
    value; with *checked* a checksum follows them.  Raises ValueError for what does not fit.
    """
    if source is None or destination is None:
        family, transport, block = Family.UNSPEC, Transport.UNSPEC, b""
    elif isinstance(source, str) or isinstance(destination, str):
        family, block = Family.UNIX, v2.UNIX.pack(*map(_pack_path, (source, destination)))
    else:
        family, hosts = _pack_hosts(source, destination)
        packer = v2.INET if family is Family.INET else v2.INET6
        block = packer.pack(*hosts, _port_of(source), _port_of(destination))
    block += b"".join(pack_tlv(kind, value) for kind, value in tlvs)
    return _assemble(Command.PROXY, family << 4 | transport, block, checked)


def make_local() -> bytes:
    """Return a header of version 2, command LOCAL, with which a proxy speaks for itself."""
    return _assemble(Command.LOCAL, 0, b"", False)


def _assemble(command: Command, kind: int, block: bytes, checked: bool) -> bytes:
    if checked:
        block += EMPTY_TLV
    if len(block) > MAX_LENGTH:
        raise ValueError(f"a header of version 2 has at most {MAX_LENGTH:,} bytes of TLVs")
    header = v2.SIGNATURE + struct.pack("!BBH", 0x20 | command, kind, len(block)) + block
    if checked:
        checksum = pack_tlv(CRC32C, crc32c(header).to_bytes(4, "big"))
        header = header[: -len(EMPTY_TLV)] + checksum
    return header


def _pack_hosts(source: Address, destination: Address) -> tuple[Family, list[bytes]]:
    hosts = [str(address[0]).partition("%")[0] for address in (source, destination)]
    is_ipv6 = any(":" in host for host in hosts)
    family, af = (Family.INET6, socket.AF_INET6) if is_ipv6 else (Family.INET, socket.AF_INET)
    try:
        mapped = [f"::ffff:{host}" if is_ipv6 and ":" not in host else host for host in hosts]
        return family, [socket.inet_pton(af, host) for host in mapped]
    except OSError:
        raise ValueError(f"{hosts!r} are not two numeric addresses") from None


def _port_of(address: Address) -> int:
    port = address[1]
    if not 0 <= port <= 65535:
        raise ValueError(f"{port!r}: a port is a number from 0 to 65535")
    return port


def _pack_path(path: object) -> bytes:
    if not isinstance(path, str):
        raise ValueError("addresses of two families")
    packed = path.encode("utf-8", "surrogateescape")
    packed = b"\0" + packed[1:] if packed.startswith(b"@") else packed
    if len(packed) > 108:
        raise ValueError("the path of a unix socket has at most 108 bytes")
    return packed
