"""SSL contexts of a server, made from the settings."""

import ssl
import warnings
from typing import Any

from netsrv.files import read_text_file
from netsrv.settings import MAX_SHOWN_PATH, shorten
from netsrv.tls.errors import TLSConfigurationError
from netsrv.tls.settings import ClientVerify, MinVersion, TLSSettings

MAX_PEM_SIZE = 16 * 2**20
"""Bytes of a PEM file: a bundle of all public authorities has 0.2 MiB."""

_VERSIONS = {
    MinVersion.TLS_1_2: ssl.TLSVersion.TLSv1_2,
    MinVersion.TLS_1_3: ssl.TLSVersion.TLSv1_3,
}

_VERIFY_MODES = {
    ClientVerify.NONE: ssl.CERT_NONE,
    ClientVerify.OPTIONAL: ssl.CERT_OPTIONAL,
    ClientVerify.REQUIRED: ssl.CERT_REQUIRED,
}

_BINARY = "is not in PEM form; openssl x509, pkey or pkcs12 can convert it"

_REASONS = {
    "CALLBACK_FAILED": "unrecognized server name",
    "EE_KEY_TOO_SMALL": "is shorter than OpenSSL allows",
}
"""Reasons that OpenSSL words for its own developers."""

_NEWER = {"ciphersuites": "set_ciphersuites", "groups": "set_groups"}
"""Settings that only Python 3.15 can make, and its methods for them."""


class ServerObject(ssl.SSLObject):
    """The server's side of a TLS connection."""

    server_name: str | None = None
    """The name that the client has asked for, as soon as it is known."""


def make_context(settings: TLSSettings) -> ssl.SSLContext:
    """Return a context without a certificate, which asks clients for none.

    Raises `TLSConfigurationError`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = ServerObject
    context.minimum_version = _VERSIONS[settings.min_version]
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.options |= ssl.OP_NO_COMPRESSION
    if not settings.session_tickets:
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    if settings.alpn:
        context.set_alpn_protocols(list(settings.alpn))
    if settings.ciphers is not None:
        try:
            context.set_ciphers(settings.ciphers)
        except ssl.SSLError:
            text = f"ciphers {settings.ciphers!r}: OpenSSL knows no such cipher suite"
            raise TLSConfigurationError(text) from None
    for name, method in _NEWER.items():
        value = getattr(settings, name)
        if value is not None:
            _set_newer(context, name, method, value)
    return context


def _set_newer(context: Any, name: str, method: str, value: str) -> None:
    if not hasattr(context, method):
        raise TLSConfigurationError(f"{name}: only the ssl module of Python 3.15 can set them")
    try:
        getattr(context, method)(value)
    except ssl.SSLError as error:
        text = f"{name} {value!r}: OpenSSL refuses them: {reason_of(error)}"
        raise TLSConfigurationError(text) from None


def verify_clients(context: ssl.SSLContext, settings: TLSSettings) -> None:
    """Make a context ask clients for certificates.  Raises `TLSConfigurationError`."""
    if settings.client_ca is not None:
        _load(context, "client_ca", settings.client_ca, "CERTIFICATE-----", "certificate")
    if settings.crl is not None:
        _load(context, "crl", settings.crl, "X509 CRL-----", "revocation list")
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    context.verify_mode = _VERIFY_MODES[settings.verify]


def _load(context: ssl.SSLContext, name: str, path: str, marker: str, noun: str) -> None:
    text = read_pem(name, path)
    if f"-----BEGIN {marker}" not in text:
        raise TLSConfigurationError(f"{label(name, path)}: has no {noun} in PEM form")
    try:
        context.load_verify_locations(path)
    except (ssl.SSLError, OSError) as error:
        raise TLSConfigurationError(f"{label(name, path)}: {reason_of(error)}") from None


def read_pem(name: str, path: str) -> str:
    """Return the text of a file.  Raises `TLSConfigurationError`."""
    try:
        return read_text_file(path, MAX_PEM_SIZE)
    except ValueError as error:
        text = _BINARY if isinstance(error.__context__, UnicodeDecodeError) else str(error)
        raise TLSConfigurationError(f"{label(name, path)}: {text}") from None


def label(name: str, path: str) -> str:
    """Return the name of a file in messages."""
    return f"{name} {shorten(path, MAX_SHOWN_PATH)}"


def reason_of(error: OSError) -> str:
    """Return the reason of an error of `ssl` in lower case, without OpenSSL's place in its code."""
    verify = getattr(error, "verify_message", None)
    if verify:
        return str(verify)
    reason = getattr(error, "reason", None)
    if reason:
        return _REASONS.get(reason) or str(reason).lower().replace("_", " ")
    text = error.strerror or str(error)
    return "cannot be decoded" if "PEM lib" in text else text


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    NO_CHECK_TIME = ssl.VerifyFlags(0x200000)
    """X509_V_FLAG_NO_CHECK_TIME, which Python has no name for."""
