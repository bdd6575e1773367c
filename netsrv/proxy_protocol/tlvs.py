"""The TLVs of a header of version 2: type, length and value (section 2.2.1)."""

import struct
from collections.abc import Iterator, Sequence
from typing import Any

from attrs import frozen

ALPN = 0x01
AUTHORITY = 0x02
CRC32C = 0x03
NOOP = 0x04
UNIQUE_ID = 0x05
SSL = 0x20
NETNS = 0x30

SSL_VERSION = 0x21
SSL_CN = 0x22
SSL_CIPHER = 0x23
SSL_SIG_ALG = 0x24
SSL_KEY_ALG = 0x25
SSL_GROUP = 0x26
SSL_SIG_SCHEME = 0x27
SSL_CLIENT_CERT = 0x28

GCP = 0xE0
AWS = 0xEA
AZURE = 0xEE

MAX_UNIQUE_ID = 128
"""Bytes of a unique id."""

_HEAD = struct.Struct("!BH")
_SSL_HEAD = struct.Struct("!BI")

Tlvs = Sequence[tuple[int, bytes]]


class Overrun(ValueError):
    """A TLV is longer than the bytes that are left."""


def split_tlvs(data: bytes, start: int) -> Iterator[tuple[int, int, int]]:
    """Yield type, first byte and end of the value of each TLV.  Raises `Overrun`."""
    end = len(data)
    while start < end:
        if start + _HEAD.size > end:
            raise Overrun
        kind, length = _HEAD.unpack_from(data, start)
        start += _HEAD.size
        if start + length > end:
            raise Overrun
        yield kind, start, start + length
        start += length


def pack_tlv(kind: int, value: bytes) -> bytes:
    """Return a TLV.  Raises ValueError if the type or the length does not fit."""
    try:
        return _HEAD.pack(kind, len(value)) + value
    except struct.error:
        raise ValueError(f"TLV {kind}: a type is 0..255, a value at most 65,535 bytes") from None


def first_of(tlvs: Tlvs, kind: int) -> bytes | None:
    """Return the first value of a type; None if there is none."""
    return next((value for other, value in tlvs if other == kind), None)


@frozen
class SSLInfo:
    """The TLV SSL: what the proxy says about the TLS of its client."""

    client: int
    """Bits: 1 for TLS, 2 for a certificate on this connection, 4 for one in the session."""
    verify: int
    """0 if the client's certificate was verified, or there was none to verify."""
    tlvs: tuple[tuple[int, bytes], ...] = ()

    @property
    def version(self) -> bytes | None:
        """The version of TLS: ``b"TLSv1.3"``."""
        return first_of(self.tlvs, SSL_VERSION)

    @property
    def cn(self) -> bytes | None:
        """The common name of the client's certificate."""
        return first_of(self.tlvs, SSL_CN)

    @property
    def cipher(self) -> bytes | None:
        """The name of the cipher."""
        return first_of(self.tlvs, SSL_CIPHER)

    @property
    def client_cert(self) -> bytes | None:
        """The client's certificate, in DER."""
        return first_of(self.tlvs, SSL_CLIENT_CERT)


def parse_ssl(value: bytes) -> SSLInfo | None:
    """Parse the value of the TLV SSL; return None if it is malformed."""
    if len(value) < _SSL_HEAD.size:
        return None
    client, verify = _SSL_HEAD.unpack_from(value)
    try:
        inner = tuple(
            (kind, value[start:end]) for kind, start, end in split_tlvs(value, _SSL_HEAD.size)
        )
    except Overrun:
        return None
    return SSLInfo(client, verify, inner)


def pack_ssl(info: SSLInfo) -> bytes:
    """Return the value of the TLV SSL."""
    inner = b"".join(pack_tlv(kind, value) for kind, value in info.tlvs)
    return _SSL_HEAD.pack(info.client, info.verify) + inner


# The names, as nginx has them (ngx_stream_proxy_protocol_vendor_module, ngx_http_core_module)

_TEXTS = {ALPN: "alpn", AUTHORITY: "authority", UNIQUE_ID: "unique_id", NETNS: "netns"}
_SSL_TEXTS = {
    SSL_VERSION: "ssl_version",
    SSL_CN: "ssl_cn",
    SSL_CIPHER: "ssl_cipher",
    SSL_SIG_ALG: "ssl_sig_alg",
    SSL_KEY_ALG: "ssl_key_alg",
    SSL_GROUP: "ssl_group",
    SSL_SIG_SCHEME: "ssl_sig_scheme",
}


def _aws_vpce_id(value: bytes) -> str | None:
    return show_text(value[1:]) if value[:1] == b"\1" else None


def _azure_pel_id(value: bytes) -> str | None:
    is_link = len(value) == 5 and value[0] == 1
    return str(int.from_bytes(value[1:], "little")) if is_link else None


def _gcp_conn_id(value: bytes) -> str | None:
    return str(int.from_bytes(value, "big")) if len(value) == 8 else None


_VENDORS = {
    "aws_vpce_id": (AWS, _aws_vpce_id),
    "azure_pel_id": (AZURE, _azure_pel_id),
    "gcp_conn_id": (GCP, _gcp_conn_id),
}


def vendor_id(tlvs: Tlvs, name: str) -> str | None:
    """Return a vendor's id; None if there is none in the vendor's form."""
    kind, convert = _VENDORS[name]
    value = first_of(tlvs, kind)
    return None if value is None else convert(value)


def show_text(value: bytes) -> str:
    """Return the text of a value, with all but printable characters escaped."""
    text = value.decode("utf-8", "backslashreplace")
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def describe_tlvs(tlvs: Tlvs) -> dict[str, Any]:
    """Return TLVs by nginx's names, ready for JSON: texts, escaped, and numbers."""
    described: dict[str, Any] = {}
    for kind, name in _TEXTS.items():
        if (value := first_of(tlvs, kind)) is not None:
            described[name] = show_text(value)
    ssl_value = first_of(tlvs, SSL)
    ssl = None if ssl_value is None else parse_ssl(ssl_value)
    if ssl is not None:
        described["ssl_client"], described["ssl_verify"] = ssl.client, ssl.verify
        for kind, name in _SSL_TEXTS.items():
            if (value := first_of(ssl.tlvs, kind)) is not None:
                described[name] = show_text(value)
    for name in _VENDORS:
        if (text := vendor_id(tlvs, name)) is not None:
            described[name] = text
    return described
