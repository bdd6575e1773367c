"""The parser: bytes in, a header or a verdict out."""

from netsrv.proxy_protocol import v1, v2
from netsrv.proxy_protocol.header import Header, HeaderError, Rules, Transport

DEFAULT_RULES = Rules()


def parse(data: bytes, rules: Rules = DEFAULT_RULES) -> Header | None:
    """Return the header at the beginning of *data*; None if more bytes may complete it.

    However the bytes of a header are split, the verdict is the same.  Raises `HeaderError` as
    soon as no bytes can complete it.  A datagram has a header of version 2.
    """
    if data.startswith(v2.SIGNATURE):
        return v2.parse(data, rules)
    if rules.transport is Transport.STREAM and data.startswith(v1.START):
        return v1.parse(data, rules)
    if v2.SIGNATURE.startswith(data) or v1.START.startswith(data):
        return None
    raise HeaderError("no PROXY header")
