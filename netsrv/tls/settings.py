"""The settings of TLS: ``[listener.tls]``, and the options of the command line."""

import os
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

from attrs import fields, frozen

from netsrv.settings import (
    BOOLEAN,
    SECONDS,
    TEXT,
    Kind,
    Section,
    choice,
    parse_each,
    parse_text,
    quote_value,
    setting,
    short_repr,
)


class ClientVerify(Enum):
    """Whether clients show a certificate."""

    NONE = "none"
    """They are not asked for one."""
    OPTIONAL = "optional"
    """One that is shown must be valid."""
    REQUIRED = "required"
    """A handshake without one fails."""


class MinVersion(Enum):
    """The oldest version of TLS that is spoken."""

    TLS_1_2 = "1.2"
    TLS_1_3 = "1.3"


def _parse_path(value: Any) -> str:
    text = parse_text(value)
    if not text or "\0" in text:
        raise ValueError(f"{quote_value(value)}: the path of a file")
    return text


def _parse_paths(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (_parse_path(value),)
    if not isinstance(value, Sequence) or not value:
        raise ValueError(f"{quote_value(value)}: a path, or a list of paths")
    return parse_each(_parse_path, value)


def _parse_option_paths(text: str) -> tuple[str, ...]:
    return (_parse_path(text),)


def _resolve(folder: str, path: str) -> str:
    return os.path.join(folder, path) if path else path


def _plain_paths(paths: tuple[str, ...] | None) -> Any:
    return paths[0] if paths and len(paths) == 1 else paths


def _parse_protocols(value: Any) -> tuple[str, ...]:
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
        raise ValueError(f"{quote_value(value)}: a list of protocols, as in ['h2', 'http/1.1']")
    return parse_each(_parse_protocol, value)


def _parse_protocol(value: Any) -> str:
    text = parse_text(value)
    if not (text.isascii() and 0 < len(text) <= MAX_PROTOCOL_LENGTH):
        raise ValueError(f"{quote_value(value)}: 1 to {MAX_PROTOCOL_LENGTH} ASCII characters")
    return text


MAX_PROTOCOL_LENGTH = 255
"""Bytes of the name of a protocol (RFC 7301, 3.1)."""

_PATHS_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
    ]
}
CERTIFICATES = Kind(
    _parse_paths,
    "the path of a file or of a directory, or a list of paths",
    "FILE|DIRECTORY",
    _parse_option_paths,
    plain=_plain_paths,
    resolve=_resolve,
    schema=_PATHS_SCHEMA,
)
KEYS = Kind(
    _parse_paths,
    "the path of a file, or a list with one for each certificate",
    "FILE",
    _parse_option_paths,
    plain=_plain_paths,
    resolve=_resolve,
    schema=_PATHS_SCHEMA,
)
PATH = Kind(
    _parse_path,
    "the path of a file",
    "FILE",
    _parse_path,
    resolve=_resolve,
    schema={"type": "string", "minLength": 1},
)
PROTOCOLS = Kind(
    _parse_protocols,
    "a list of protocols",
    "LIST",
    schema={"type": "array", "items": {"type": "string"}},
)

TLS = Section("TLS", "tls", "tls_")


@frozen(repr=False)
class TLSSettings:
    """How a listener speaks TLS.  Without a certificate it does not."""

    certificate: tuple[str, ...] | None = setting(
        None,
        TLS,
        CERTIFICATES,
        "serve TLS with the certificate in FILE, or with those in DIRECTORY, chosen by SNI",
        details="The file is in PEM form: the server's certificate, then those of the "
        "intermediate authorities. The key may be in the same file.",
        default_text="off",
    )
    key: tuple[str, ...] | None = setting(
        None,
        TLS,
        KEYS,
        "take the key of --tls-certificate from FILE",
        default_text="the file of the certificate",
    )
    client_ca: str | None = setting(
        None,
        TLS,
        PATH,
        "trust the client certificates that the authorities in this file have issued",
        option=None,
    )
    client_verify: ClientVerify | None = setting(
        None,
        TLS,
        choice(ClientVerify),
        "ask clients for a certificate",
        details="``optional`` lets clients without one in; ``required`` does not.",
        default_text="required with client_ca, otherwise none",
        option=None,
    )
    crl: str | None = setting(
        None,
        TLS,
        PATH,
        "reject the client certificates that the revocation lists in this file name",
        details="The file has a list in PEM form for each authority that issues client "
        "certificates.",
        option=None,
    )
    alpn: tuple[str, ...] = setting(
        (),
        TLS,
        PROTOCOLS,
        "offer these protocols by ALPN, the preferred one first",
        details="A client that knows none of them is served without one.",
        default_text="none",
        option=None,
    )
    min_version: MinVersion = setting(
        MinVersion.TLS_1_2, TLS, choice(MinVersion), "speak no older version of TLS", option=None
    )
    ciphers: str | None = setting(
        None,
        TLS,
        TEXT,
        "allow these cipher suites of TLS 1.2",
        details="The text is OpenSSL's, as in ``openssl ciphers``.",
        default_text="those of Python",
        option=None,
    )
    ciphersuites: str | None = setting(
        None,
        TLS,
        TEXT,
        "allow these cipher suites of TLS 1.3, with colons between",
        details="It needs Python 3.15.",
        default_text="those of OpenSSL",
        option=None,
    )
    groups: str | None = setting(
        None,
        TLS,
        TEXT,
        "allow these groups for the key exchange, with colons between",
        details="It needs Python 3.15.",
        default_text="those of OpenSSL",
        option=None,
    )
    session_tickets: bool = setting(
        True,
        TLS,
        BOOLEAN,
        "let clients resume sessions",
        details="Clients resume at the process that they were connected to before, until its "
        "certificates change.",
        option=None,
    )
    strict_sni: bool = setting(
        False,
        TLS,
        BOOLEAN,
        "reject clients that ask for no name, or for one that no certificate has",
        details="Otherwise they get the first certificate.",
        option=None,
    )
    handshake_timeout: float = setting(
        5.0,
        TLS,
        SECONDS,
        "reject a client whose handshake takes longer than S seconds",
        option=None,
    )

    __repr__ = short_repr

    @property
    def verify(self) -> ClientVerify:
        """Whether clients show a certificate, as it is in effect."""
        if self.client_verify is not None:
            return self.client_verify
        return ClientVerify.NONE if self.client_ca is None else ClientVerify.REQUIRED


NO_TLS = TLSSettings()


def mistakes_of(settings: TLSSettings) -> Iterator[tuple[str, str]]:
    """Yield the settings that do not fit the others, each with a message."""
    verify = settings.client_verify
    if settings.certificate is None:
        given = [name for name in _NAMES if getattr(settings, name) != getattr(NO_TLS, name)]
        if given:
            yield given[0], "needs a certificate; there is no TLS without one"
    if verify in (ClientVerify.OPTIONAL, ClientVerify.REQUIRED) and settings.client_ca is None:
        yield "client_verify", f"{verify.value!r} needs client_ca, the authorities to trust"
    if settings.crl is not None and settings.client_ca is None:
        yield "crl", "needs client_ca, the authorities whose lists they are"


_NAMES = [field.name for field in fields(TLSSettings)]
