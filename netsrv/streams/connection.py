"""A connection in the gate: between the reactor's transport and the service's protocol.

It counts bytes, confines a service's exceptions to the connection in which they are raised,
and closes so that the peer gets our last bytes.  The states of a connection:

- open: both sides may send;
- closing: the service has closed, or the peer has ended its side; what was written is still
  sent, then FIN;
- lingering: FIN is sent, and we read on for a short time until the peer ends its side too: a
  close with unread input would make the kernel send RST, which destroys what the peer has
  not read yet;
- lost: the transport is gone.
"""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import Enum
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import (
    IConsumer,
    IFileDescriptorReceiver,
    IHalfCloseableProtocol,
    IProtocol,
    IPushProducer,
    ISSLTransport,
    ISystemHandle,
    ITCPTransport,
    ITLSTransport,
)
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from netsrv.forwarding import forward, unsent_of
from netsrv.gate import Permit
from netsrv.interfaces import CloseReason, IConnection
from netsrv.shortcuts import shortcut_of
from netsrv.sockets.addresses import show_sockaddr
from netsrv.streams.producer import Producer
from netsrv.streams.unread import has_unread


class State(Enum):
    """The states that the module describes."""

    OPEN = "open"
    CLOSING = "closing"
    LINGERING = "lingering"
    LOST = "lost"


OPEN, CLOSING, LINGERING, LOST = State

_LOST_PROTOCOL: Any = Protocol()
"""The protocol of a connection that is lost."""

ORDINARY = frozenset({CloseReason.PEER, CloseReason.SERVICE})
"""Reasons that a later, more telling one replaces."""


@forward(
    "transport",
    ITCPTransport,
    ITLSTransport,
    ISystemHandle,
    *"TLS client disconnected fileno getPeerCertificate hostname logPrefix".split(),
    *"negotiatedProtocol reactor sendFileDescriptor server sessionno socket".split(),
    "connect_delay",
)
@implementer(IConnection, IFileDescriptorReceiver, IConsumer, IPushProducer)
class Connection:
    """A protocol to the reactor, a transport to the service's protocol.

    What is not its own work is the transport's.  *permit* names the gate, which gets the
    connection's beginning, its linger and its end.
    """

    __slots__ = (
        "__dict__",
        "_fin_sent",
        "_gate",
        "_passing_descriptor",
        "_peer_ended",
        "_producer",
        "_state",
        "aborted",
        "close_reason",
        "connected",
        "paused",
        "permit",
        "protocol",
        "received",
        "seconds",
        "sent",
        "transport",
    )

    proxy: Any = None
    tls: Any = None

    def __init__(self, permit: Permit, protocol: IProtocol) -> None:
        self._gate = permit.gate
        self.permit = permit
        self.protocol: Any = protocol
        self.transport: Any = None
        self.connected = 0
        self.received = 0
        """Bytes that the peer has sent."""
        self.sent = 0
        """Bytes that the service has written; at the end, those that were sent."""
        self.seconds = 0.0
        """How long the connection was served, once it has ended."""
        self.close_reason: CloseReason | None = None
        """Why it ends, once that is known."""
        self.aborted = False
        self._state = OPEN
        self._peer_ended = False
        self._fin_sent = False
        self._passing_descriptor = False
        self._producer: Any = None
        self.paused = False
        """True while the service does not want to read."""

    # The protocol's side: the reactor calls

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self.connected = 1
        self._gate.connection_made(self)
        try:
            self.protocol.makeConnection(self)
        except BaseException:  # as Twisted: not even SystemExit ends the server
            self._service_failed("connectionMade")
        shortcut = shortcut_of(self.protocol)
        if shortcut is not None:
            self._take(shortcut)

    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)
        if self._state is OPEN:
            try:
                self.protocol.dataReceived(data)
            except BaseException:
                self._service_failed("dataReceived")

    def fileDescriptorReceived(self, descriptor: int) -> None:
        """Pass on a descriptor that a peer on a unix socket has sent, or close it."""
        if self._passing_descriptor or not IFileDescriptorReceiver.providedBy(self.protocol):
            os.close(descriptor)  # also if a wrapper of the service has forwarded it to us
            return
        self._passing_descriptor = True
        receive = self.protocol.fileDescriptorReceived
        self._call_service("fileDescriptorReceived", receive, descriptor)
        self._passing_descriptor = False

    def readConnectionLost(self) -> None:
        """The peer has half-closed the connection (FIN received).

        A service that does not know half-closed connections gets `connectionLost` once all
        that it has written is sent.  A protocol wrapper may claim to know them and forward the
        call to its transport, which is this connection: then the service behind it does not.
        """
        forwarded, self._peer_ended = self._peer_ended, True
        if self._state is not OPEN:
            self.transport.loseConnection()
        elif not forwarded and IHalfCloseableProtocol.providedBy(self.protocol):
            self._call_service("readConnectionLost", self.protocol.readConnectionLost)
            self._close_if_over()
        else:
            self._start_closing()
            self._set_reason(CloseReason.PEER)
            self._stop_producer()
            self.transport.loseConnection()

    def readConnectionTruncated(self) -> None:
        """The peer's FIN came without the end of TLS: what it has sent may be incomplete."""
        self._peer_ended = True
        self.end(CloseReason.TLS_TRUNCATED)
        self.transport.loseConnection()  # also if the service has closed before

    def writeConnectionLost(self) -> None:
        """All written data was sent, and so was our FIN."""
        if self._fin_sent:
            return  # forwarded by a wrapper of the service
        self._fin_sent = True
        if self._state is CLOSING:
            self._linger()
        elif IHalfCloseableProtocol.providedBy(self.protocol):
            self._call_service("writeConnectionLost", self.protocol.writeConnectionLost)
            self._close_if_over()

    def __conform__(self, interface: Any) -> Any:
        """Be half-closeable for the reactor, which adapts its protocol to the interface.

        The interface is not declared: the service's transport would provide it too, and
        wrappers mirror the interfaces of their transport.
        """
        over_tls = interface is ISSLTransport and self.tls is not None
        return self if over_tls or interface is IHalfCloseableProtocol else None

    def connectionLost(self, reason: Failure) -> None:
        if self._state is LOST:
            return  # forwarded by a wrapper of the service
        self.connected = 0
        if reason.type is not ConnectionDone and not self._closed_by_unix_peer():
            self._set_reason(CloseReason.RESET)
        elif self.close_reason is None:
            self.close_reason = CloseReason.PEER
        if self.sent:
            self.sent -= self.unsent
        self._state = LOST
        try:
            self.protocol.connectionLost(reason)
        except BaseException:
            self._service_failed("connectionLost")
        self.seconds = self._gate.now() - self.permit.since
        self._gate.connection_lost(self)
        # Reference cycles would wait for the garbage collector.
        self.protocol, self._producer = _LOST_PROTOCOL, None

    # The transport's side: the service calls

    def write(self, data: bytes) -> None:
        self.sent += len(data)
        self.transport.write(data)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        self.write(b"".join(iovec))

    def loseConnection(self) -> None:
        """Close once everything written is sent, so that the peer gets it."""
        if self._state is not OPEN:
            return
        self._start_closing()
        if self.close_reason is None:
            self.close_reason = CloseReason.PEER if self._peer_ended else CloseReason.SERVICE
        if self._fin_sent and not self._peer_ended:
            self.transport.resumeProducing()
            self._linger()
        elif (self.sent or has_unread(self.transport)) and self._can_linger():
            self.transport.resumeProducing()
            self.transport.loseWriteConnection()
        else:
            self.transport.loseConnection()

    def abortConnection(self) -> None:
        """Reset the connection; what was not sent is lost."""
        self.abort(CloseReason.ABORTED)

    @property
    def unsent(self) -> int:
        """Bytes that were written and wait because the peer does not read."""
        return unsent_of(self.transport)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._producer = producer if producer is self else Producer(producer, self._call_service)
        self.transport.registerProducer(self._producer, streaming)

    def unregisterProducer(self) -> None:
        self._producer = None
        self.transport.unregisterProducer()
        if self._state is CLOSING and self._can_linger():
            self.transport.loseWriteConnection()  # it has waited for the producer

    def pauseProducing(self) -> None:
        if self._state is OPEN:
            self.paused = True
            self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self.paused = False
        if not self._peer_ended:
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        self.loseConnection()

    @property
    def disconnecting(self) -> bool:
        """True if the connection is being closed by us."""
        return self._state is not OPEN

    # The gate's side

    def end(self, reason: CloseReason) -> None:
        """Close for *reason*, even if the service still has data to send."""
        self._set_reason(reason)
        self._stop_producer()
        self.loseConnection()

    def abort(self, reason: CloseReason) -> None:
        """Reset the connection for *reason*; what was not sent is lost."""
        if self._state is not LOST:
            self._set_reason(reason)
            self._state = CLOSING
            self.aborted = True
            self.transport.abortConnection()

    def end_linger(self) -> None:
        """Close the transport: the peer has had its time to read our last bytes."""
        self.transport.loseConnection()

    def give_up(self) -> None:
        """End the connection although its transport does not: free the slot and the socket."""
        reason = Failure(ConnectionAborted())
        with suppress(BaseException):  # the transport has failed before
            self.transport.connectionLost(reason)
        self.connectionLost(reason)

    @property
    def peer(self) -> str:
        """The peer's address, as in ``127.0.0.1:40000``."""
        return show_sockaddr(self.permit.sockaddr)

    @property
    def details(self) -> dict[str, Any] | None:
        """What the service adds to the access log: its protocol's *access_log_details*."""
        return getattr(self.protocol, "access_log_details", None)

    def write_to(self, transport: Any) -> None:
        """Write to another transport from now on, and register the producer there."""
        before, self.transport = self.transport, transport
        if self._producer is not None:
            streaming = before.streamingProducer
            before.unregisterProducer()
            transport.registerProducer(self._producer, streaming)

    # Internals

    def _take(self, shortcut: str) -> None:
        """Let the transport do the service's work, unless an observer intercepts what comes."""
        work = getattr(self.transport, shortcut, None)
        seen = getattr(self.dataReceived, "__func__", None) is not Connection.dataReceived
        if work is not None and self._state is OPEN and not seen:
            work(self)

    def relay(self, protocol: Any, other: Any) -> None:
        """Let the transport and *other* pass on what comes to each other, if they can.

        *protocol* is the service's, which did that until now; one with a wrapper goes on with it.
        """
        relay = getattr(self.transport, "relay", None)
        seen = getattr(self.dataReceived, "__func__", None) is not Connection.dataReceived
        if relay is not None and self._state is OPEN and protocol is self.protocol and not seen:
            relay(other, self)

    def _start_closing(self) -> None:
        self._state = CLOSING
        self._gate.start_closing(self)

    def _set_reason(self, reason: CloseReason) -> None:
        """Set the reason; what goes wrong during an ordinary close replaces its reason."""
        if self.close_reason is None or (self.close_reason in ORDINARY and reason not in ORDINARY):
            self.close_reason = reason

    def _close_if_over(self) -> None:
        """Close if both FINs were exchanged: no byte can follow (RFC 9293, 3.6)."""
        if self._peer_ended and self._fin_sent:
            self.loseConnection()

    def _closed_by_unix_peer(self) -> bool:
        """Return True for a plain close on a unix socket, which Twisted reports as a loss.

        Twisted's transport closes by sending no bytes, which is EPIPE if the peer has closed.
        """
        is_unix = not isinstance(self.permit.sockaddr, tuple)
        return is_unix and self._peer_ended and not self.unsent

    def _linger(self) -> None:
        self._state = LINGERING
        self._gate.linger(self)

    def _can_linger(self) -> bool:
        """True if FIN is still to be sent to a peer that may send; not if TLS cannot half-close."""
        if self._peer_ended or self._fin_sent or self.aborted:
            return False
        transport = self.transport
        return not getattr(transport, "TLS", False) or getattr(transport, "half_closes", 0) is True

    def _stop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            self.transport.unregisterProducer()
            producer.stopProducing()

    def _call_service(self, callback: str, call: Callable[..., Any], *arguments: Any) -> None:
        """Call the service; an exception that it raises ends this connection and no other."""
        try:
            call(*arguments)
        except BaseException:
            self._service_failed(callback)

    def _service_failed(self, callback: str) -> None:
        self._gate.report_failure(callback)
        self.abort(CloseReason.SERVICE_FAILED)
