"""The contracts of netsrv: what a service is, the reasons in logs and metrics, events.

This module holds no behaviour.  To write a service for netsrv, this module and Twisted are
all that is needed.
"""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any, Self

from attrs import frozen
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import DatagramProtocol
from twisted.plugin import IPlugin
from zope.interface import Attribute, Interface


class RejectReason(StrEnum):
    """Why a connection is rejected; the value is the word in logs and metrics."""

    option: str
    """The option that changes it, as the log shows it."""

    def __new__(cls, value: str, option: str) -> Self:
        reason = str.__new__(cls, value)
        reason._value_ = value
        reason.option = option
        return reason

    ACCESS = "access", "--only-from, --no-access"
    MAX_CONNECTIONS = "max_connections", "--max-connections"
    PER_SOURCE = "per_source", "--per-source"
    CONNECTION_RATE = "connection_rate", "--connection-rate"
    UNTRUSTED_PROXY = "untrusted_proxy", "--proxy-protocol"
    """The peer is not among the proxies from which a PROXY header is awaited."""
    PROXY_CONNECTIONS = "proxy_connections", "per_proxy"
    """The proxy has as many connections as one proxy may have."""
    PROXY_HEADER = "proxy_header", "--proxy-protocol"
    """The PROXY header is missing, malformed or too long."""
    PROXY_TIMEOUT = "proxy_timeout", "header_timeout"
    TLS_HANDSHAKE = "tls_handshake", "--tls-certificate"
    """The peers have not agreed on TLS, or the peer has left."""
    TLS_PLAINTEXT = "tls_plaintext", "--tls-certificate"
    """The peer does not speak TLS."""
    TLS_TIMEOUT = "tls_timeout", "handshake_timeout"
    FAULT = "fault", "--fault"


class DropReason(StrEnum):
    """Why a datagram was not received, served or sent; the value is the label in metrics."""

    ACCESS = "access"
    SOURCE_PORT = "source_port"
    OWN_PORT = "own_port"
    NOT_UNICAST = "not_unicast"
    DESTINATION = "destination"
    MARTIAN = "martian"
    DATAGRAM_RATE = "datagram_rate"
    LOOP = "loop"
    """It seems to be an answer to one of ours, from a server that answers us for ever."""
    UNTRUSTED_PROXY = "untrusted_proxy"
    """Its sender is not among the proxies from which datagrams are awaited."""
    PROXY_HEADER = "proxy_header"
    """It has no valid header of the PROXY protocol."""
    REPLY_TOO_LONG = "reply_too_long"
    TOO_LONG = "too_long"
    """It is longer than a datagram can be, and was cut by the kernel."""
    STOPPED = "stopped"
    """The listener stopped before the datagram was served."""
    RECEIVE_ERROR = "receive_error"
    SEND_ERROR = "send_error"
    FAULT = "fault"
    """A fault that is on purpose has dropped it."""


class CloseReason(StrEnum):
    """Why a connection has ended; the value is the word in logs and metrics."""

    PEER = "peer"
    """The peer closed it, or half-closed it first."""
    SERVICE = "service"
    """The service closed it."""
    RESET = "reset"
    """The peer reset it, or the network failed."""
    ABORTED = "aborted"
    """The service aborted it."""
    SERVICE_FAILED = "service_failed"
    """The service raised an exception."""
    IDLE_TIMEOUT = "idle_timeout"
    LIFETIME = "lifetime"
    WRITE_TIMEOUT = "write_timeout"
    CLOSE_GRACE = "close_grace"
    """It was closed, and the peer did not read the remaining output in time."""
    TLS_TRUNCATED = "tls_truncated"
    """The peer has ended its side without the end of TLS: bytes may be missing."""
    FAULT = "fault"
    """A fault that is on purpose has ended it."""
    SHUTDOWN = "shutdown"
    """It was still open at the end of a drain."""


class ListenerState(StrEnum):
    """What a listener does; the value is the word in the status."""

    SERVING = "serving"
    SUSPENDED = "suspended"
    """Its owner has suspended it: new peers wait in the kernel."""
    FULL = "full"
    """It is at a limit: new connections wait, or are rejected."""
    FAILED = "failed"
    """Its socket has failed."""
    CLOSING = "closing"
    """It is closed, and old connections go on."""


@frozen(eq=False)
class ListenerInfo:
    """The identity of a running listener, in events, logs and metrics; `str` is its log name.

    Each running listener has one object of its own.  A listener that gets another service at
    a reload gets a new one.
    """

    transport: str
    """``tcp``, ``udp`` or ``unix``."""
    address: str
    """The address in effect: ``0.0.0.0:7``, ``[::1]:7``, ``/run/echo.sock``."""
    service: str
    """The service's name, as the log shows it."""

    def __str__(self) -> str:
        return f"{self.transport} {self.address} ({self.service})"


class IService(IPlugin):
    """The common part of all services.

    Put an object that provides `IStreamService`, `IDatagramService` or both into a
    module in ``twisted/plugins/``, or name its class by an entry point of the group
    ``netsrv.services``, and netsrv finds it by its name.
    """

    name = Attribute("str: the name that selects it, as in ``--tcp NAME=ADDRESS``")
    description = Attribute("str: one line for --list-services")
    settings = Attribute("A frozen class for the service's own settings, or None if it has none")


class IStreamService(IService):
    """A service on connections: TCP and unix sockets."""

    def stream(settings: Any) -> IProtocolFactory:
        """Return the factory for one listener.

        *settings* is an instance of the service's settings class, or None.  The
        factory's ``buildProtocol`` is called for each connection.
        """


class IMessageFactory(IProtocolFactory):
    """A factory whose connections each send one message and are closed: `daytime`, for example.

    A listener may serve it without a protocol and a transport, in the accept loop itself.
    ``buildProtocol`` must do the same, for all other listeners;
    `netsrv.services.message.MessageFactory` has it from *message*.  If a subclass overrides
    ``buildProtocol`` only, that is called.
    """

    def message(peer: Any) -> bytes:
        """Return what a peer gets; empty bytes if its connection is closed without a message.

        *peer* has ``getPeer``, ``getHost`` and ``getHandle``, as Twisted's transports do, and is
        valid until this returns.
        """


class IDatagramService(IService):
    """A service on datagrams: UDP."""

    def datagram(settings: Any) -> DatagramProtocol:
        """Return the protocol for one listener; *settings* as for `IStreamService`.

        Its ``datagramReceived`` is called for each datagram, with the sender's
        ``(host, port)``.
        """


class IFault(IPlugin):
    """The common part of all types of faults that plugins add.

    Put an object that provides `IStreamFault` or `IDatagramFault` into a module in
    ``twisted/plugins/``, or name its class by an entry point of the group ``netsrv.faults``, and
    netsrv finds it by its name.  The names of built-in types are reserved.
    """

    name = Attribute("str: the type that users write, as in ``type = 'NAME'``")
    description = Attribute("str: what it does, in one line: ``delays data by a latency``")
    attributes = Attribute(
        "A frozen attrs class of the attributes that users set, all with defaults; or None"
    )
    stage = Attribute("The class that does the fault")


class IStreamFault(IFault):
    """A type of faults on connections: ``stage`` is a subclass of `netsrv.faults.stages.Stage`."""


class IDatagramFault(IFault):
    """A type of faults on datagrams.

    ``stage`` is a subclass of `netsrv.faults.datagram_stage.DatagramStage`.
    """


class IServerStatus(Interface):
    """What a service may ask about the server in which it runs."""

    ready = Attribute("bool: whether new peers are welcome, as ``/readyz`` says")
    free_share = Attribute(
        "float: the free part of the connections that there may be, from 0.0 to 1.0, at the "
        "listener that has the smallest; listeners of an `IServerAware` do not count"
    )


class IServerAware(Interface):
    """A factory, or a `DatagramProtocol`, that asks about its server provides this too."""

    server = Attribute("IServerStatus: set by the server before the listener starts")


class IDatagramBatch(Interface):
    """Datagrams that were received together, and passed all rules."""

    sizes = Attribute("list of int: the bytes of each, 0 included, in the order of arrival")

    def send_back() -> None:
        """Send each back to its sender, unchanged.

        They are sent immediately, in one call where the system has one, and not copied.  A
        datagram that cannot be sent is counted, and no error of the network is raised.  Raises
        RuntimeError if the batch was sent back before, or is over.
        """


class IDatagramBatchProtocol(Interface):
    """A `DatagramProtocol` that accepts batches provides this too.

    Its ``datagramReceived`` is called for a datagram that came alone, and must do the same.
    A subclass that overrides only ``datagramReceived`` is called once per datagram.
    """

    def datagramsReceived(batch: Any) -> None:
        """Serve an `IDatagramBatch`, which is valid until this returns."""


class IConnection(Interface):
    """A connection, as observers see it."""

    peer = Attribute("str: the peer's address, as in ``127.0.0.1:40000``")
    received = Attribute("int: bytes that the peer has sent")
    sent = Attribute("int: bytes that the service has written; at the end, those that were sent")
    seconds = Attribute("float: how long it was served, once it has ended")
    close_reason = Attribute("CloseReason, or None: why it ends, once that is known")
    proxy = Attribute("The header of the PROXY protocol with which it came, or None")
    tls = Attribute("The TLS session, or None")
    details = Attribute("dict or None: what the service adds to the access log, ready for JSON")


class IServedConnections(Interface):
    """Connections that were over as soon as they were accepted, as observers see them.

    No byte came or went on them, and the service closed them.
    """

    count = Attribute("int: the number of connections, at least one")
    peers = Attribute("sequence of str: the address of each peer, in the order of accept")
    seconds = Attribute("float: how long each was served, on average")

    def __iter__() -> Iterator[IConnection]:
        """Yield each connection."""


class IDatagrams(Interface):
    """Datagrams that were received, sent or refused together, as observers see them."""

    count = Attribute("int: the number of datagrams, at least one")
    size = Attribute("int: the sum of their sizes in bytes")

    def __iter__() -> Iterator[tuple[tuple[str, int], int]]:
        """Yield the peer's ``(host, port)`` and the size in bytes of each, in order."""


class IObserver(Interface):
    """Receives an event for everything that happens to listeners, connections and datagrams.

    Return values are ignored.  An observer that raises is removed.  Derive from
    `netsrv.observers.Observer` to receive some events only.  The argument *listener* is the
    `ListenerInfo` of the listener at which the event happens.
    """

    def listener_started(listener: ListenerInfo) -> None:
        """A listener starts to serve."""

    def listener_closed(listener: ListenerInfo) -> None:
        """A listener is closed, and its last connection has ended; no event of it follows."""

    def listener_failed(listener: ListenerInfo, error: OSError, reopening: bool) -> None:
        """A listener's socket has failed: for good, or until it is open again if *reopening*."""

    def listener_reopen_failed(listener: ListenerInfo, reason: str) -> None:
        """A failed socket cannot be opened again, for a new *reason*; it is tried every second."""

    def listener_reopened(listener: ListenerInfo) -> None:
        """A failed socket is open again."""

    def connection_made(listener: ListenerInfo, connection: IConnection) -> None:
        """A connection was accepted and is now served."""

    def connections_made(listener: ListenerInfo, connections: Sequence[IConnection]) -> None:
        """Connections were accepted and served in one turn of the reactor.

        It is called instead of `connection_made`; `Observer` calls that for each of them.
        """

    def connections_closed(listener: ListenerInfo, connections: Sequence[IConnection]) -> None:
        """Connections that were served have ended; called instead of `connection_closed`."""

    def connections_served(listener: ListenerInfo, connections: IServedConnections) -> None:
        """Connections were accepted and closed in one turn of the reactor.

        It is called instead of `connections_made` and `connections_closed`; `Observer` calls both.
        """

    def connection_refused(listener: ListenerInfo, peer: str, reason: RejectReason) -> None:
        """A connection was closed, or reset, without being served."""

    def connection_closed(listener: ListenerInfo, connection: IConnection) -> None:
        """A connection that was served has ended, for its ``close_reason``."""

    def proxy_header_received(listener: ListenerInfo, peer: str, header: Any) -> None:
        """A valid header of the PROXY protocol has come; *peer* is the client's address."""

    def tls_handshake_completed(
        listener: ListenerInfo, peer: str, session: Any, seconds: float
    ) -> None:
        """A TLS handshake is complete; it took so many *seconds*."""

    def suspended(listener: ListenerInfo, reason: RejectReason | None) -> None:
        """A listener stops accepting for now; new connections wait in the backlog.

        It is at the limit that *reason* names, or was suspended by its owner if that is None.
        """

    def resumed(listener: ListenerInfo) -> None:
        """A listener accepts again."""

    def datagrams_received(listener: ListenerInfo, datagrams: IDatagrams) -> None:
        """Datagrams were received and go to the service."""

    def datagrams_sent(listener: ListenerInfo, datagrams: IDatagrams) -> None:
        """Datagrams were sent."""

    def datagrams_refused(
        listener: ListenerInfo, datagrams: IDatagrams, reason: DropReason
    ) -> None:
        """A rule for datagrams rejected these requests, or these replies, for one *reason*."""

    def datagram_dropped(listener: ListenerInfo, reason: DropReason, error: OSError | None) -> None:
        """A datagram was lost before it was served, or could not be sent.

        *error* is that of the system call for RECEIVE_ERROR and SEND_ERROR, otherwise None.
        """

    def accept_failed(listener: ListenerInfo, error: OSError) -> None:
        """A connection could not be accepted; the listener goes on."""

    def service_failed(listener: ListenerInfo, callback: str) -> None:
        """A service's *callback* raised the exception that is being handled."""

    def transport_failed(listener: ListenerInfo, peer: str) -> None:
        """The transport of a peer raised the exception that is being handled.

        The connection is given up.
        """

    def stalled(seconds: float) -> None:
        """The reactor was blocked for so long; no connection was served in that time."""
