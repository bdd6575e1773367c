"""Certificates with their keys: found in files, loaded and proved.

A certificate is proved by a handshake with ourselves, in memory: so the key fits, the settings
allow a connection, and its names and dates are known, without another library.
"""

import os
import re
import ssl
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from attrs import frozen

from netsrv.settings import count_of
from netsrv.tls.contexts import (
    NO_CHECK_TIME,
    label,
    make_context,
    read_pem,
    reason_of,
    verify_clients,
)
from netsrv.tls.errors import TLSConfigurationError
from netsrv.tls.session import show_name
from netsrv.tls.settings import TLSSettings

MAX_CERTIFICATES = 10_000
"""Files of a directory."""

MAX_ROUNDS = 10
"""Rounds after which a handshake with ourselves has failed; it needs three."""

_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_KEY = "PRIVATE KEY-----"
_MISMATCHES = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
_SUFFIXES = (".pem", ".crt", ".cer", ".cert")
_CERTBOT = ("fullchain.pem", "privkey.pem")


@frozen
class CertificateFiles:
    """The file of a certificate and the file of its key, which may be the same."""

    certificate: str
    key: str


@frozen(eq=False)
class Certificate:
    """A certificate that is ready to serve."""

    files: CertificateFiles
    subject: str
    """Its subject, as in ``CN=www.example.org``."""
    names: tuple[str, ...]
    """Its DNS names in lower case, and its IP addresses."""
    not_before: float
    """When it begins to be valid, in seconds since 1970."""
    not_after: float
    """When it expires."""
    context: ssl.SSLContext
    warnings: tuple[str, ...]
    """What is odd about it, a line each."""

    @property
    def name(self) -> str:
        """The first of its names, or its subject."""
        return self.names[0] if self.names else self.subject

    @property
    def expiry(self) -> str:
        """When it expires, as ``2026-11-26 04:30:00 UTC``."""
        return show_date(self.not_after)

    def trouble_at(self, now: float) -> str:
        """Return why it is not valid at *now*, in seconds since 1970; empty if it is."""
        if now >= self.not_after:
            return f"has expired on {self.expiry}"
        if now < self.not_before:
            return f"is not valid before {show_date(self.not_before)}"
        return ""


def show_date(seconds: float) -> str:
    """Return a time as ``2026-11-26 04:30:00 UTC``."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


# Files


def find_certificates(settings: TLSSettings) -> list[CertificateFiles]:
    """Return the files of all certificates that the settings name, the default one first.

    Raises `TLSConfigurationError`.
    """
    paths, keys = settings.certificate or (), settings.key
    if keys is not None and len(keys) != len(paths):
        text = f"{count_of(len(paths), 'certificate')}, but {count_of(len(keys), 'key')}"
        raise TLSConfigurationError(f"{text}: give each certificate its key")
    files: list[CertificateFiles] = []
    for index, path in enumerate(paths):
        if os.path.isdir(path):
            if keys is not None:
                text = "a directory has the keys beside the certificates; leave out the key"
                raise TLSConfigurationError(f"{label('certificate', path)}: {text}")
            files += _in_directory(path)
        else:
            files.append(CertificateFiles(path, path if keys is None else keys[index]))
    return files


def _in_directory(path: str) -> list[CertificateFiles]:
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        raise TLSConfigurationError(f"{label('certificate', path)}: {error.strerror}") from None
    if len(names) > MAX_CERTIFICATES:
        text = f"more than {MAX_CERTIFICATES} files"
        raise TLSConfigurationError(f"{label('certificate', path)}: {text}")
    files = list(_pairs(path, names))
    if not files:
        raise TLSConfigurationError(
            f"{label('certificate', path)}: has no certificate: a file like name.pem, with the key "
            "in it or in name.key, or a folder with fullchain.pem and privkey.pem"
        )
    return files


def _pairs(folder: str, names: list[str]) -> Iterator[CertificateFiles]:
    for name in names:
        path = os.path.join(folder, name)
        stem, suffix = os.path.splitext(name)
        if name.startswith("."):
            continue
        if os.path.isdir(path):
            chain, key = (os.path.join(path, file) for file in _CERTBOT)
            if os.path.exists(chain):
                yield CertificateFiles(chain, key)
        elif suffix in _SUFFIXES:
            keys = [os.path.join(folder, file) for file in (f"{stem}.key", f"{name}.key")]
            key = next(filter(os.path.exists, keys), path)
            if key != path or _KEY in read_pem("certificate", path):
                yield CertificateFiles(path, key)


# Loading


def load_certificate(files: CertificateFiles, settings: TLSSettings) -> Certificate:
    """Load a certificate and its key, and prove them.  Raises `TLSConfigurationError`."""
    chain = _CERTIFICATE.findall(read_pem("certificate", files.certificate))
    if not chain:
        text = "has no certificate in PEM form"
        raise TLSConfigurationError(f"{label('certificate', files.certificate)}: {text}")
    _check_key_file(files)
    context = make_context(settings)
    _load_pair(context, files, chain)
    facts = _prove(context, files, chain[0])
    if settings.ciphers is not None and context.minimum_version is ssl.TLSVersion.TLSv1_2:
        _prove(context, files, chain[0], ssl.TLSVersion.TLSv1_2)
    verify_clients(context, settings)
    return Certificate(
        files,
        show_name(facts["subject"]),
        _names_of(facts),
        ssl.cert_time_to_seconds(facts["notBefore"]),
        ssl.cert_time_to_seconds(facts["notAfter"]),
        context,
        tuple(_oddities(files, facts, chain)),
    )


def _check_key_file(files: CertificateFiles) -> None:
    text = read_pem("key", files.key)
    if "ENCRYPTED" in text and _KEY in text:
        text = "is encrypted; write it without a passphrase, as in openssl pkey -in OLD -out NEW"
        raise TLSConfigurationError(f"{label('key', files.key)}: {text}")
    if _KEY not in text:
        missing = "has no key in PEM form"
        if files.key == files.certificate:
            missing += "; name the file of the key, or add the key to this one"
        raise TLSConfigurationError(f"{label('key', files.key)}: {missing}")


def _load_pair(context: ssl.SSLContext, files: CertificateFiles, chain: list[str]) -> None:
    try:
        context.load_cert_chain(files.certificate, files.key, _no_passphrase)
    except ssl.SSLError as error:
        if error.reason not in _MISMATCHES:
            which = _broken_file(files, chain[0])
            raise TLSConfigurationError(f"{which}: {reason_of(error)}") from None
        text = "does not fit the certificate"
        for position, pem in enumerate(chain[1:], 2):
            if _fits(pem, files.key):
                text = (
                    f"fits certificate {position} of {files.certificate}; "
                    "the server's own certificate must be the first"
                )
        raise TLSConfigurationError(f"{label('key', files.key)}: {text}") from None
    except OSError as error:
        text = f"{label('key', files.key)}: {error.strerror}"
        raise TLSConfigurationError(text) from None


def _no_passphrase() -> str:
    """Stand for a passphrase, so that OpenSSL never asks for one at the terminal."""
    return ""


def _broken_file(files: CertificateFiles, leaf: str) -> str:
    """Return the label of the file that OpenSSL cannot read."""
    try:
        ssl.create_default_context().load_verify_locations(cadata=leaf)
    except (ssl.SSLError, ValueError):
        return label("certificate", files.certificate)
    return label("key", files.key)


def _fits(pem: str, key: str) -> bool:
    """Return True if a certificate and the key in a file belong together."""
    with suppress(ssl.SSLError, OSError), tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(pem)
        file.flush()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file.name, key, _no_passphrase)
        return True
    return False


def _prove(
    server: ssl.SSLContext,
    files: CertificateFiles,
    leaf: str,
    version: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED,
) -> dict[str, Any]:
    """Complete a handshake with ourselves, and return what the certificate says.

    Raises `TLSConfigurationError`.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.maximum_version = version
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | NO_CHECK_TIME
    try:
        client.load_verify_locations(cadata=leaf)
        facts = _shake_hands(client, server)
    except ssl.SSLError as error:
        text = f"no client can use it: {reason_of(error)}"
        raise TLSConfigurationError(f"{label('certificate', files.certificate)}: {text}") from None
    return facts


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> dict[str, Any]:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, True)]
    for _ in range(MAX_ROUNDS):
        waiting = 0
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                waiting += 1
        if not waiting:
            return ends[0].getpeercert() or {}
    raise ssl.SSLError("the handshake does not end")


# What a certificate says


def _names_of(facts: dict[str, Any]) -> tuple[str, ...]:
    alternatives = facts.get("subjectAltName", ())
    names = [name.lower() for kind, name in alternatives if kind in ("DNS", "IP Address")]
    if not names:
        parts = [pair for part in facts["subject"] for pair in part]
        names = [str(text).lower() for key, text in parts if key == "commonName"]
    return tuple(dict.fromkeys(names))


def _oddities(files: CertificateFiles, facts: dict[str, Any], chain: list[str]) -> Iterator[str]:
    """Yield a line for each thing that works, and that the user should know."""
    with suppress(OSError):
        if os.stat(files.key).st_mode & stat.S_IROTH:
            mode = stat.S_IMODE(os.stat(files.key).st_mode)
            yield f"{label('key', files.key)}: every user can read it (mode {mode:04o})"
    issuer = facts.get("issuer")
    for position, pem in enumerate(chain[1:], 2):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with suppress(ssl.SSLError):
            context.load_verify_locations(cadata=pem)
        [authority] = context.get_ca_certs() or [{}]
        if authority.get("subject") != issuer:
            text = f"certificate {position} has not issued the one before it"
            yield f"{label('certificate', files.certificate)}: {text}; order the chain upwards"
            return
        issuer = authority.get("issuer")
