"""The PROXY protocol, as HAProxy specifies it: a parser and a writer, both without any I/O.

A proxy sends a header before the bytes of its client, with the addresses that the client and
the proxy see.  Version 1 is a line of text, version 2 is binary and may carry more.

Specification: https://www.haproxy.org/download/dev/doc/proxy-protocol.txt (2026-04-27)
"""

from netsrv.proxy_protocol.header import Command, Family, Header, HeaderError, Rules, Transport
from netsrv.proxy_protocol.parser import parse
from netsrv.proxy_protocol.tlvs import SSLInfo
from netsrv.proxy_protocol.writer import make_local, make_v1, make_v2

__all__ = [
    "Command",
    "Family",
    "Header",
    "HeaderError",
    "Rules",
    "SSLInfo",
    "Transport",
    "make_local",
    "make_v1",
    "make_v2",
    "parse",
]
