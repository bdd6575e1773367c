"""What a TLS handshake has agreed on."""

import hashlib
import ssl
from typing import Any

from attrs import frozen


@frozen
class TLSSession:
    """The TLS session of one connection, as the service, ``info`` and the access log see it."""

    version: str
    """``TLSv1.2`` or ``TLSv1.3``."""
    cipher: str
    """OpenSSL's name of the cipher suite: ``TLS_AES_256_GCM_SHA384``."""
    group: str | None
    """The group of the key exchange; None where Python's ssl cannot tell it (before 3.15)."""
    server_name: str | None
    """The name that the client has asked for (SNI), in lower case; None if it asked for none."""
    alpn: str | None
    """The protocol that was chosen by ALPN."""
    client_subject: str | None
    """The subject of the client's certificate: ``CN=alice,O=Example``; None without one."""
    client_sha256: str | None
    """The SHA-256 fingerprint of the client's certificate, in hexadecimal digits."""
    resumed: bool
    """True if the client has resumed a session of before."""


def session_of(handshake: Any, server_name: str | None) -> TLSSession:
    """Describe a handshake that is complete; *handshake* is an `ssl.SSLObject`."""
    der = handshake.getpeercert(True)
    group = getattr(handshake, "group", None)
    cipher = handshake.cipher()
    return TLSSession(
        version=str(handshake.version()),
        cipher=cipher[0] if cipher else "",
        group=group() if group is not None else None,
        server_name=server_name,
        alpn=handshake.selected_alpn_protocol(),
        client_subject=None if der is None else show_name(handshake.getpeercert()["subject"]),
        client_sha256=None if der is None else hashlib.sha256(der).hexdigest(),
        resumed=bool(handshake.session_reused),
    )


_SHORT_NAMES = {
    "commonName": "CN",
    "countryName": "C",
    "stateOrProvinceName": "ST",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "domainComponent": "DC",
    "userId": "UID",
}


def show_name(name: Any) -> str:
    """Return a distinguished name as `ssl` has it in the form of RFC 4514, the last part first."""
    parts = [
        "+".join(f"{_SHORT_NAMES.get(key, key)}={_escape(text)}" for key, text in part)
        for part in reversed(name)
    ]
    return ",".join(parts)


def _escape(text: str) -> str:
    """Escape what has a meaning in a distinguished name (RFC 4514, 2.4)."""
    escaped = "".join(f"\\{char}" if char in '"+,;<>\\' else char for char in text)
    if escaped[:1] in ("#", " "):
        escaped = f"\\{escaped}"
    return escaped


def peer_certificate(handshake: Any) -> Any:
    """Return the peer's certificate as Twisted has it, and None if there is none.

    That is a ``OpenSSL.crypto.X509`` if pyOpenSSL is installed, and otherwise the DER bytes.
    """
    try:
        der = handshake.getpeercert(True)
    except (ValueError, ssl.SSLError):  # the connection has failed
        return None
    if der is None:
        return None
    try:
        from OpenSSL import crypto
    except ImportError:
        return der
    return crypto.load_certificate(crypto.FILETYPE_ASN1, der)
