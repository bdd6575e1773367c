"""The certificates of listeners, loaded from the files that their settings name.

What they need is imported late: a server without TLS does without.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from netsrv.config.model import ConfigurationError, ListenerSettings
from netsrv.tls.errors import TLSConfigurationError
from netsrv.tls.settings import TLSSettings

if TYPE_CHECKING:
    from netsrv.tls.store import CertificateStore

Stores = Mapping[TLSSettings, "CertificateStore"]
"""Listeners with equal settings of TLS have one store."""


def load_certificates(
    listeners: Iterable[ListenerSettings], present: Stores | None = None
) -> dict[TLSSettings, CertificateStore]:
    """Load the certificates of *listeners*, but for those that are *present*.

    Raises `ConfigurationError` with a line for each error.
    """
    stores = dict(present or {})
    lines: dict[str, None] = {}
    for settings in listeners:
        tls = settings.tls
        if tls.certificate is None or tls in stores:
            continue
        from netsrv.tls.store import CertificateSet, CertificateStore

        try:
            stores[tls] = CertificateStore(CertificateSet(tls))
        except TLSConfigurationError as error:
            lines |= dict.fromkeys(f"{settings.address_label}: {line}" for line in error.lines)
    if lines:
        raise ConfigurationError(*lines)
    return stores


def certificate_warnings(stores: Iterable[CertificateStore]) -> list[str]:
    """Return a line for each thing about certificates that works, and that users should know."""
    lines: list[str] = []
    for store in stores:
        lines += store.current.warnings_at(time.time())
    return list(dict.fromkeys(lines))
