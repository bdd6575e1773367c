"""TLS before a service: the handshake is a stage, and the connection is above it."""

import ssl
from collections.abc import Callable

from twisted.logger import Logger

from netsrv.interfaces import RejectReason
from netsrv.sockets.addresses import show_sockaddr
from netsrv.streams.pending import PendingConnection, Stage
from netsrv.tls.contexts import reason_of
from netsrv.tls.handshake import HANDSHAKE_RECORD, Handshake
from netsrv.tls.odd_names import ODD_NAMES
from netsrv.tls.session import session_of
from netsrv.tls.store import CertificateStore

MAX_LOGGED_REASONS = 50
"""Reasons of failed handshakes that a listener logs, once each."""


class TLSStage(Stage):
    """Awaits a TLS handshake, for which *store* has the certificates."""

    name = "tls"
    timeout_reason = RejectReason.TLS_TIMEOUT
    lost_reason = RejectReason.TLS_HANDSHAKE
    log = Logger()

    def __init__(self, store: CertificateStore) -> None:
        self.store = store
        self.timeout = store.settings.handshake_timeout

        self._logged: set[str] = set()

    def start(self, connection: PendingConnection) -> Callable[[bytes], None]:
        return _PendingHandshake(connection, self).receive

    def report(self, connection: PendingConnection, reason: str) -> None:
        """Log why a handshake has failed, the first time for each reason."""
        if reason not in self._logged and len(self._logged) < MAX_LOGGED_REASONS:
            self._logged.add(reason)
            line = "{listener}: TLS handshake with {peer} failed: {reason}"
            listener = connection.permit.gate.listener_info
            self.log.info(line, listener=listener, peer=connection.peer, reason=reason)


class _PendingHandshake:
    """The handshake of one connection."""

    __slots__ = ("_connection", "_handshake", "_since", "_stage")

    def __init__(self, connection: PendingConnection, stage: TLSStage) -> None:
        self._connection = connection
        self._stage = stage
        self._handshake: Handshake | None = None
        self._since = connection.permit.gate.now()

    def receive(self, data: bytes) -> None:
        """Go on with *data* from the peer, and serve it once the handshake is complete."""
        handshake = self._handshake
        if handshake is None:
            if data[0] != HANDSHAKE_RECORD:
                self._connection.fail(RejectReason.TLS_PLAINTEXT)
                return
            handshake = Handshake(self._connection.transport, self._stage.store.begin)
            self._handshake = handshake
        try:
            complete = ODD_NAMES.counted(handshake.receive, data)
        except ssl.SSLError as error:
            self._stage.report(self._connection, reason_of(error))
            self._connection.fail(RejectReason.TLS_HANDSHAKE)
            return
        if complete:
            self._complete(handshake)

    def _complete(self, handshake: Handshake) -> None:
        connection, gate = self._connection, self._connection.permit.gate
        server_name = handshake.ssl_object.server_name
        connection.tls = session = session_of(handshake.ssl_object, server_name)
        below = handshake.below
        below.protocol = transport = handshake.transport(connection)
        gate.observer.tls_handshake_completed(
            gate.listener_info,
            show_sockaddr(connection.permit.sockaddr),
            session,
            gate.now() - self._since,
        )
        connection.complete(b"", transport)
        transport.start(handshake.rest)
