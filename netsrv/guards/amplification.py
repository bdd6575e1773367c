"""How long the answer to a datagram may be.

A sender's address can be forged, and then the answer goes to a victim.  A server that
answers with more than it was sent multiplies such an attack (CISA TA14-017A:
chargen 358.8 times).  So an answer is at most three times as long as its request, on the
wire, the rule of QUIC (RFC 9000, section 8).
"""

_FACTOR = 3
_IPV4_HEADERS = 20 + 8
_IPV6_HEADERS = 40 + 8


def max_reply_size(request: int, host: str) -> int:
    """Bytes of payload that may answer *request* bytes from *host*.

    56 + 3n to IPv4, also to an IPv4 address inside IPv6; 96 + 3n to IPv6.
    """
    headers = wire_size(0, host)
    return reply_budget(request, headers) - headers


def reply_budget(request: int, headers: int) -> int:
    """Bytes on the wire of all answers together; *headers* is the wire size of nothing."""
    return _FACTOR * (headers + request)


def wire_size(payload: int, host: str) -> int:
    """Bytes of a datagram to or from *host*, IP and UDP headers included."""
    ipv6 = ":" in host and not host.startswith("::ffff:")
    return (_IPV6_HEADERS if ipv6 else _IPV4_HEADERS) + payload
