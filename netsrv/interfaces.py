"""The words of the house: what a service is, why a peer is refused, what an observer is told.

No code that does anything lives here.  Whoever writes a service for netsrv needs
this module and Twisted, and nothing else of ours.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import DatagramProtocol
from twisted.plugin import IPlugin
from zope.interface import Attribute, Interface


class RejectReason(StrEnum):
    """Why a connection is not served; the value is the word in logs and metrics."""

    ACCESS = "access"
    MAX_CONNECTIONS = "max_connections"
    PER_SOURCE = "per_source"
    CONNECTION_RATE = "connection_rate"


class DropReason(StrEnum):
    """Why a datagram was not received, served or sent; the value is the label in metrics."""

    ACCESS = "access"
    SOURCE_PORT = "source_port"
    OWN_PORT = "own_port"
    NOT_UNICAST = "not_unicast"
    DESTINATION = "destination"
    MARTIAN = "martian"
    DATAGRAM_RATE = "datagram_rate"
    REPLY_TOO_LONG = "reply_too_long"
    TOO_LONG = "too_long"
    """It is longer than a datagram can be, and was cut by the kernel."""
    STOPPED = "stopped"
    """The listener stopped before the datagram was served."""
    RECEIVE_ERROR = "receive_error"
    SEND_ERROR = "send_error"


class CloseReason(StrEnum):
    """Why a connection has ended; the value is the word in logs and metrics."""

    PEER = "peer"
    """The peer ended it, or said its last first."""
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
    """The service, or the peer, closed it, and the peer did not take what was left in time."""
    SHUTDOWN = "shutdown"
    """It was still there at the end of a drain."""


class IService(IPlugin):
    """What every service has, whatever it is spoken on.

    Put an object that provides `IStreamService`, `IDatagramService` or both into a
    module in ``twisted/plugins/`` and netsrv finds it by its name.
    """

    name = Attribute("str: the word that chooses it, as in ``--tcp NAME=ADDRESS``")
    description = Attribute("str: one line for --list-services")
    settings = Attribute("A frozen class for the service's own settings, or None if it has none")


class IStreamService(IService):
    """A service that is spoken on connections: TCP and unix sockets."""

    def stream(settings: Any) -> IProtocolFactory:
        """Make the factory for one listener.

        *settings* is an instance of the service's settings class, or None.  The
        factory's ``buildProtocol`` is called for each connection.
        """


class IDatagramService(IService):
    """A service that is spoken in datagrams: UDP."""

    def datagram(settings: Any) -> DatagramProtocol:
        """Make the protocol for one listener; *settings* as for `IStreamService`.

        Its ``datagramReceived`` is called for each datagram, with the sender's
        ``(host, port)``.
        """


class IDatagramBatch(Interface):
    """Datagrams that were received in one call, and may all be served."""

    sizes = Attribute("list of int: the bytes of each, 0 included, in the order of arrival")

    def send_back() -> None:
        """Send each back to where it came from, as it is.

        It is done at once, in one call where the system has one; nothing is copied, and
        nothing raised: what cannot be sent is counted.  Raises RuntimeError if that was
        done before, or the batch is over.
        """


class IDatagramBatchProtocol(Interface):
    """A `DatagramProtocol` provides it too if it takes a whole batch of datagrams at once.

    Its ``datagramReceived`` is called for a datagram that came alone, and must do the same.
    Where a class derived from such a protocol overrides ``datagramReceived`` alone, that is
    called for each datagram.
    """

    def datagramsReceived(batch: Any) -> None:
        """Serve an `IDatagramBatch`, which is valid until this returns."""


class IConnection(Interface):
    """What observers see of a connection."""

    peer = Attribute("str: who is at the other end, as in ``127.0.0.1:40000``")
    received = Attribute("int: bytes that the peer has sent")
    sent = Attribute("int: bytes that the service has written; at the end, those that went out")
    seconds = Attribute("float: how long it has been served")
    close_reason = Attribute("CloseReason, or None: why it ends, once that is known")


class IDatagrams(Interface):
    """Datagrams that were received, sent or refused together, as observers see them."""

    count = Attribute("int: the number of datagrams, at least one")
    size = Attribute("int: the sum of their sizes in bytes")

    def __iter__() -> Iterator[tuple[tuple[str, int], int]]:
        """Yield the peer's ``(host, port)`` and the size in bytes of each, in order."""


class IObserver(Interface):
    """What is told of everything that happens to peers; it is never asked.

    Derive from `netsrv.observers.Observer` to be told of some events only.  A
    *listener* is the text that names one in the log: ``tcp 0.0.0.0:7 (echo)``.
    """

    def connection_made(listener: str, connection: IConnection) -> None:
        """A connection was accepted and is now served."""

    def connection_refused(listener: str, peer: str, reason: RejectReason) -> None:
        """A connection was closed, or reset, and never served."""

    def connection_closed(listener: str, connection: IConnection) -> None:
        """A connection that was served has ended, for its ``close_reason``."""

    def suspended(listener: str, reason: RejectReason | None) -> None:
        """The listener takes nothing in for now; newcomers wait in the backlog.

        It is at a limit, or, with None, was told so.
        """

    def resumed(listener: str) -> None:
        """The listener accepts again."""

    def datagrams_received(listener: str, datagrams: IDatagrams) -> None:
        """Datagrams were received and go to the service."""

    def datagrams_sent(listener: str, datagrams: IDatagrams) -> None:
        """Datagrams were sent."""

    def datagrams_refused(listener: str, datagrams: IDatagrams, reason: DropReason) -> None:
        """A rule for datagrams rejected these requests, or these replies, for one *reason*."""

    def datagram_dropped(listener: str, reason: DropReason, error: OSError | None) -> None:
        """A datagram was lost before it was served, or could not be sent.

        *error* is that of the system call for RECEIVE_ERROR and SEND_ERROR, otherwise None.
        """

    def accept_failed(listener: str, error: OSError) -> None:
        """A connection could not be accepted; the listener goes on."""

    def service_failed(listener: str, what: str) -> None:
        """A service's *what* raised the exception that is being handled."""

    def listener_failed(listener: str, error: OSError) -> None:
        """The listening socket has failed for good; nobody is accepted there any more."""

    def stalled(seconds: float) -> None:
        """Something has blocked the reactor: for so long nobody at all was served."""
