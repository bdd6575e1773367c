"""The parser and the writer against the package proxy-protocol, both ways."""

import asyncio
import socket
from ipaddress import ip_address

import pytest

from netsrv.proxy_protocol import make_v1, make_v2, parse

pytest.importorskip("proxyprotocol")

from proxyprotocol.detect import ProxyProtocolDetect
from proxyprotocol.reader import ProxyProtocolReader
from proxyprotocol.result import ProxyResultIPv4, ProxyResultIPv6
from proxyprotocol.tlv import ProxyProtocolTLV, Type
from proxyprotocol.v1 import ProxyProtocolV1
from proxyprotocol.v2 import ProxyProtocolV2

V4 = (("203.0.113.7", 56324), ("198.51.100.9", 443))
V6 = (("2001:db8::7", 56324), ("::ffff:203.0.113.7", 0))
BOTH = pytest.mark.parametrize("pair", [V4, V6], ids=["ipv4", "ipv6"])


def read(data):
    """Return what the package reads from a whole header."""

    async def feed():
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        return await ProxyProtocolReader(ProxyProtocolDetect()).read(reader)

    return asyncio.run(feed())


def as_addresses(pair):
    """Return addresses as values, since IPv6 has many texts."""
    return [(ip_address(host), port) for host, port in pair]


@BOTH
def test_it_reads_what_we_write(pair):
    """The same addresses, and the same TLV."""
    for data in (make_v1(*pair), make_v2(*pair, tlvs=[(2, b"a.example")], checked=True)):
        result = read(data)
        assert [result.source, result.dest] == as_addresses(pair)
    assert result.tlv.authority == "a.example"


@BOTH
def test_we_read_what_it_writes(pair):
    """The same addresses, and the same TLV."""
    kind = ProxyResultIPv4 if pair is V4 else ProxyResultIPv6
    tlv = ProxyProtocolTLV(init={Type.PP2_TYPE_AUTHORITY: b"a.example"})
    result = kind(*as_addresses(pair), tlv=tlv, protocol=socket.SOCK_STREAM)
    for packer in (ProxyProtocolV1(), ProxyProtocolV2()):
        header = parse(packer.pack(result))
        assert as_addresses([header.source, header.destination]) == as_addresses(pair)
    assert header.authority == b"a.example"
