"""CRC-32C (Castagnoli, RFC 3720 appendix B.4), the checksum of a header of version 2."""

from netsrv.proxy_protocol.tlvs import CRC32C, pack_tlv

_POLYNOMIAL = 0x82F63B78  # reflected


def _make_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        remainder = byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (_POLYNOMIAL if remainder & 1 else 0)
        table.append(remainder)
    return tuple(table)


_TABLE = _make_table()

EMPTY_TLV = pack_tlv(CRC32C, bytes(4))
"""The TLV over which the checksum of its header is computed."""


def crc32c(data: bytes) -> int:
    """Return the checksum of *data*."""
    table, remainder = _TABLE, 0xFFFFFFFF
    for byte in data:
        remainder = table[(remainder ^ byte) & 0xFF] ^ remainder >> 8
    return remainder ^ 0xFFFFFFFF
