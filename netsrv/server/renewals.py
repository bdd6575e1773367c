"""Renews certificates while a server runs, and tells before one expires."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from netsrv.in_thread import call_in_thread
from netsrv.settings import count_of
from netsrv.sockets.addresses import printable
from netsrv.tls.errors import TLSConfigurationError

if TYPE_CHECKING:
    from netsrv.tls.certificates import Certificate
    from netsrv.tls.store import CertificateSet, CertificateStore

CHECK_INTERVAL = 5.0
"""Seconds from one look at the files to the next: stat(2) of each."""

WARNING_TIME = 7 * 86400.0
"""Seconds before its expiry from which on a certificate is in the log."""

WARNING_INTERVAL = 86400.0
"""Seconds from one such line to the next."""


class Renewals:
    """Looks at the files of the certificates that *stores* returns.

    *clock* is the reactor; *now* returns seconds since 1970.
    """

    log = Logger()

    def __init__(
        self,
        clock: Any,
        stores: Callable[[], Iterable[CertificateStore]],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._stores = stores
        self._now = now
        self._timer: Any = None
        self._renewing: set[CertificateStore] = set()
        self._warned: dict[str, float] = {}

    def start(self) -> None:
        """Look from now on, if there are certificates; call it again when there may be others."""
        if self._timer is None and any(True for _store in self._stores()):
            self._warn_of_expiry()
            self._timer = self._clock.callLater(CHECK_INTERVAL, self._tick)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def check(self) -> None:
        """Renew the certificates whose files have changed, and look again later."""
        self.start()
        for store in set(self._stores()):
            if store not in self._renewing and store.changed():
                self._renewing.add(store)
                renewed = call_in_thread(self._clock, store.renew, self._now())
                renewed.addCallback(self._replace, store)
                renewed.addErrback(self._keep, store).addErrback(self._failed)

    def _tick(self) -> None:
        self._timer = None
        self.check()

    def _replace(self, certificates: CertificateSet, store: CertificateStore) -> None:
        self._renewing.discard(store)
        store.replace(certificates)
        for line in certificates.warnings_at(self._now()):
            self.log.warn("{line}", line=printable(line))
        self._warned.clear()
        count = count_of(len(certificates.certificates), "certificate")
        first = printable(certificates.certificates[0].files.certificate)
        self.log.info("Renewed {count}: {file}", count=count, file=first)
        self._warn_of_expiry()

    def _keep(self, failure: Failure, store: CertificateStore) -> None:
        self._renewing.discard(store)
        error = failure.value
        if not isinstance(error, TLSConfigurationError):
            failure.raiseException()
        store.keep(error)
        for line in error.lines:
            self.log.error("{line}", line=printable(line))
        self.log.error("The certificates are not renewed: those of before stay in use")

    def _failed(self, failure: Failure) -> None:
        self.log.failure("The renewal of certificates failed", failure)

    def _warn_of_expiry(self) -> None:
        now = self._now()
        for store in self._stores():
            for certificate in store.current.certificates:
                self._warn(certificate, now)

    def _warn(self, certificate: Certificate, now: float) -> None:
        file = certificate.files.certificate
        left = certificate.not_after - now
        if left > WARNING_TIME or now - self._warned.get(file, 0.0) < WARNING_INTERVAL:
            return
        self._warned[file] = now
        line = "certificate {file} ({name}) {verb} on {date}"
        self.log.warn(
            line,
            file=printable(file),
            name=printable(certificate.name),
            verb="expires" if left > 0 else "has expired",
            date=certificate.expiry,
        )
