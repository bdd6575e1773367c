"""The maximum size of a reply to a datagram.

The address of a sender can be forged, and then the reply goes to a victim.  A server whose
replies are longer than the requests amplifies such an attack (CISA TA14-017A: chargen 358.8
times).  So a reply is at most three times as long as its request, on the wire: the rule of QUIC
(RFC 9000, section 8).
"""

AMPLIFICATION_LIMIT = 3
_IPV4_HEADERS = 20 + 8
_IPV6_HEADERS = 40 + 8


def max_reply_size(request: int, host: str) -> int:
    """Return the maximum payload, in bytes, of a reply to *request* bytes from *host*.

    That is 56 + 3n to IPv4, also to an IPv4 address inside IPv6; 96 + 3n to IPv6.
    """
    headers = wire_size(0, host)
    return reply_budget(request, headers) - headers


def reply_budget(request: int, headers: int) -> int:
    """Return the bytes on the wire of all replies together; *headers* are those of each packet."""
    return AMPLIFICATION_LIMIT * (headers + request)


def wire_size(payload: int, host: str) -> int:
    """Return the bytes of a datagram to or from *host*, with IP and UDP headers."""
    ipv6 = ":" in host and not host.startswith("::ffff:")
    return (_IPV6_HEADERS if ipv6 else _IPV4_HEADERS) + payload
