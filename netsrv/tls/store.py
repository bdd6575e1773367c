"""The certificates of a listener, and their renewal.

A `CertificateSet` is loaded as a whole and never changes.  The `CertificateStore` of a listener
has the set in effect; connections keep the set with which their handshake began.
"""

import os
import ssl
from collections import Counter
from collections.abc import Iterator
from typing import Any

from netsrv.tls.certificates import (
    Certificate,
    find_certificates,
    load_certificate,
)
from netsrv.tls.contexts import ServerObject, label
from netsrv.tls.errors import TLSConfigurationError
from netsrv.tls.settings import TLSSettings

Fingerprint = tuple[tuple[str, int, int, int], ...]
"""Path, inode, size and modification time of each file."""


class CertificateSet:
    """The certificates of one moment.  Raises `TLSConfigurationError` with a line per error."""

    def __init__(self, settings: TLSSettings) -> None:
        self.settings = settings
        self.fingerprint = fingerprint_of(settings)
        """The files as they were before they were read."""
        errors: list[str] = []
        certificates: list[Certificate] = []
        for files in find_certificates(settings):
            try:
                certificates.append(load_certificate(files, settings))
            except TLSConfigurationError as error:
                errors += error.lines
        if errors:
            raise TLSConfigurationError(*dict.fromkeys(errors))
        self.certificates = tuple(certificates)
        """The default one first."""
        self._by_name: dict[str, ssl.SSLContext] = {}
        for certificate in certificates:
            for name in certificate.names:
                self._by_name.setdefault(name, certificate.context)
        self.context = certificates[0].context
        """The context with which handshakes begin."""
        self.context.sni_callback = self._choose

    def context_for(self, name: str) -> ssl.SSLContext | None:
        """Return the context for a name: the exact one, or that of one wildcard label."""
        context = self._by_name.get(name)
        return context or self._by_name.get(f"*.{name.partition('.')[2]}")

    def troubles_at(self, now: float) -> list[str]:
        """Return a line for each certificate that is not valid at *now*, seconds since 1970."""
        return [
            f"{label('certificate', certificate.files.certificate)}: {trouble}"
            for certificate in self.certificates
            if (trouble := certificate.trouble_at(now))
        ]

    def warnings_at(self, now: float) -> list[str]:
        """Return a line for each thing that works, and that the user should know."""
        lines = [line for certificate in self.certificates for line in certificate.warnings]
        return [*dict.fromkeys(lines), *self.troubles_at(now)]

    def _choose(self, handshake: Any, name: str | None, _context: ssl.SSLContext) -> int | None:
        """Choose the certificate, as OpenSSL asks for it; an alert ends the handshake."""
        context = None
        if name is not None:
            name = name.lower().removesuffix(".")
            handshake.server_name = name
            context = self.context_for(name)
        if context is self.context:
            pass  # to set it again takes its time
        elif context is not None:
            handshake.context = context
        elif self.settings.strict_sni:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        return None


class CertificateStore:
    """The certificates in effect, which a renewal replaces as a whole."""

    def __init__(self, certificates: CertificateSet) -> None:
        self.current = certificates
        self.renewals: Counter[str] = Counter()
        """Renewals by result: ``success``, ``failure``."""
        self.error = ""
        """Why the last renewal has failed; empty if it has not."""
        self._failed_fingerprint: Fingerprint = ()

    @property
    def settings(self) -> TLSSettings:
        """The settings in effect."""
        return self.current.settings

    def begin(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ServerObject:
        """Return the server's side of a new connection."""
        return self.current.context.wrap_bio(incoming, outgoing, True)  # type: ignore[return-value]

    def certificates(self) -> list[tuple[str, str, float, tuple[str, ...]]]:
        """Return name, file, expiry in seconds since 1970, and all names of each certificate."""
        return [
            (
                certificate.name,
                certificate.files.certificate,
                certificate.not_after,
                certificate.names,
            )
            for certificate in self.current.certificates
        ]

    def describe(self) -> list[dict[str, Any]]:
        """Return the same as plain values, ready for JSON."""
        names = ("name", "file", "not_after", "names")
        return [dict(zip(names, facts, strict=True)) for facts in self.certificates()]

    def changed(self) -> bool:
        """Return True if a file differs from the one that was read last."""
        present = fingerprint_of(self.settings)
        return present not in (self.current.fingerprint, self._failed_fingerprint)

    def renew(self, now: float) -> CertificateSet:
        """Return the certificates that the files have now; *now* is in seconds since 1970.

        Raises `TLSConfigurationError`, also if one is not valid now and the present ones are.
        """
        fingerprint = fingerprint_of(self.settings)
        try:
            certificates = CertificateSet(self.settings)
            check_dates(certificates, self.current, now)
        except TLSConfigurationError as error:
            error.fingerprint = fingerprint  # type: ignore[attr-defined]
            raise
        return certificates

    def replace(self, certificates: CertificateSet) -> None:
        """Use other certificates for new connections."""
        self.current = certificates
        self.renewals["success"] += 1
        self.error, self._failed_fingerprint = "", ()

    def keep(self, error: TLSConfigurationError) -> None:
        """Keep the present certificates, since a renewal has failed."""
        self.renewals["failure"] += 1
        self.error = "; ".join(error.lines)
        self._failed_fingerprint = getattr(error, "fingerprint", ())


def check_dates(new: CertificateSet, old: CertificateSet, now: float) -> None:
    """Check that a renewal is not worse.

    Raises `TLSConfigurationError` if a new certificate is not valid and the old ones all are.
    """
    lines = new.troubles_at(now)
    if lines and not old.troubles_at(now):
        raise TLSConfigurationError(*lines)


def fingerprint_of(settings: TLSSettings) -> Fingerprint:
    """Return what tells whether a file has changed, without reading any."""
    paths = [*(settings.certificate or ()), *(settings.key or ())]
    paths += filter(None, (settings.client_ca, settings.crl))
    for path in list(paths):
        if os.path.isdir(path):
            paths += _below(path)
    facts = []
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            facts.append((path, 0, 0, 0))
        else:
            facts.append((path, status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(facts)


def _below(folder: str) -> Iterator[str]:
    """Yield the files of a directory, and those of its directories, as certbot has them."""
    for entry in _entries(folder):
        yield entry.path
        if entry.is_dir():
            yield from (file.path for file in _entries(entry.path))


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """Return what a directory has, in order; nothing if it cannot be read."""
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return []
