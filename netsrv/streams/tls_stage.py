"""TLS before a service: the handshake is a stage, and the connection is above it."""

import ssl
from collections.abc import Callable

from netsrv.interfaces import RejectReason
from netsrv.sockets.addresses import show_sockaddr
from netsrv.streams.pending import PendingConnection, Stage
from netsrv.tls.handshake import HANDSHAKE_RECORD, Handshake
from netsrv.tls.odd_names import ODD_NAMES
from netsrv.tls.session import session_of
from netsrv.tls.store import CertificateStore


class TLSStage(Stage):
    """Awaits a TLS handshake, for which *store* has the certificates."""

    name = "tls"
    timeout_reason = RejectReason.TLS_TIMEOUT
    lost_reason = RejectReason.TLS_HANDSHAKE

    def __init__(self, store: CertificateStore) -> None:
        self.store = store
        self.timeout = store.settings.handshake_timeout

    def start(self, connection: PendingConnection) -> Callable[[bytes], None]:
        return _PendingHandshake(connection, self.store).receive


class _PendingHandshake:
    """The handshake of one connection."""

    __slots__ = ("_begun", "_connection", "_handshake", "_since", "_store")

    def __init__(self, connection: PendingConnection, store: CertificateStore) -> None:
        self._connection = connection
        self._store = store
        self._handshake: Handshake | None = None
        self._since = connection.permit.gate.now()

    def receive(self, data: bytes) -> None:
        """Go on with *data* from the peer, and serve it once the handshake is complete."""
        handshake = self._handshake
        if handshake is None:
            if data[0] != HANDSHAKE_RECORD:
                self._connection.fail(RejectReason.TLS_PLAINTEXT)
                return
            handshake = Handshake(self._connection.transport, self._store.begin)
            self._handshake = handshake
        try:
            with ODD_NAMES.counted():
                complete = handshake.receive(data)
        except ssl.SSLError:
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
        transport.start()
