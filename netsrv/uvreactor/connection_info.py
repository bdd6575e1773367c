"""The state of a connection, and what is known of it: addresses, options, names."""

import socket
from contextlib import suppress
from contextvars import copy_context
from enum import Enum
from typing import Any

from twisted.internet.interfaces import ILoggingContext
from twisted.logger import Logger
from twisted.python.context import defaultContextDict
from twisted.python.failure import Failure
from twisted.python.log import ILogContext

from netsrv.uvreactor import socket_handle
from netsrv.uvreactor.early_read import EarlyRead
from netsrv.uvreactor.socket_handle import (
    SocketHandle,
    peer_of_reset,
    to_address,
)


class WriteMode(Enum):
    """What happens to the next write."""

    NEXT_TURN = "joined with others, and sent in the next turn of the loop"
    JOIN = "joined with others, and sent when the current call of the protocol returns"
    UNBUFFERED = "sent immediately; then the pull producer is called again"
    TLS = "encrypted"
    DISCARD = "dropped: the connection is closed, or at least its writing side"


NEXT_TURN, JOIN, UNBUFFERED, TLS, DISCARD = WriteMode


class ConnectionInfo:
    """The server's end of a connection that *acceptor* has accepted.

    *acceptor* has the attributes ``reactor``, ``no_delay``, which is True if the listening
    socket has TCP_NODELAY, and ``port``, the listening port of Twisted or None.
    """

    __slots__ = (
        "TLS",
        "__dict__",
        "__weakref__",
        "_acceptor",
        "_close_reason",
        "_early_read",
        "_forks",
        "_full",
        "_half_closing",
        "_no_delay_restored",
        "_number",
        "_paused",
        "_peer_ended",
        "_peername",
        "_pull_scheduled",
        "_relayed",
        "_socket_handle",
        "_tls",
        "_transport",
        "_write_buffer",
        "_write_mode",
        "connected",
        "context",
        "disconnecting",
        "producer",
        "producerPaused",
        "protocol",
        "streamingProducer",
    )

    log = Logger()

    def __init__(self, acceptor: Any) -> None:
        self._acceptor = acceptor
        self.context = copy_context()
        """The context variables of the connection: a copy of those in which its port listens."""
        self._forks = socket_handle.forks
        self._number = -1
        self._peername: Any = None
        self._transport: Any = None
        self._no_delay_restored = False
        self._socket_handle: SocketHandle | None = None
        self.protocol: Any = None
        self.connected = False
        # Reading
        self._paused = False
        self._peer_ended = False
        self._early_read: EarlyRead | None = None
        self._relayed: Any = None
        """The connection to which this one's data goes, without a call of the protocol."""
        # Writing
        self._write_mode = NEXT_TURN
        self._write_buffer: bytes | list[bytes] = b""  # one write that was joined, or several
        self._full = False
        self.producer: Any = None
        self.streamingProducer = False
        self.producerPaused = False
        self._pull_scheduled = False
        self.TLS = False
        self._tls: Any = None
        # The end
        self._half_closing = False
        self.disconnecting = False
        self._close_reason: Failure | None = None

    @property
    def peername(self) -> Any:
        """The peer's address, as ``accept`` returns it; None if it is not known any more."""
        if self._peername is None:
            self._peername = self._transport.get_extra_info("peername") or peer_of_reset(
                self._transport.get_extra_info("socket")
            )
        return self._peername

    def getPeer(self) -> Any:
        return to_address(self.peername)

    def getHost(self) -> Any:
        return to_address(self._transport.get_extra_info("sockname"))

    def getTcpNoDelay(self) -> bool:
        return bool(self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, int(enabled))

    def getTcpKeepAlive(self) -> bool:
        return bool(self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(enabled))

    @property
    def socket(self) -> Any:
        """The socket: for its options, not to be read or written."""
        if self._socket_handle is None:
            inner = self._transport.get_extra_info("socket")
            handle = SocketHandle(inner.family, inner.type, inner.proto, inner.fileno())
            handle.setblocking(False)
            handle.connection = self
            self._socket_handle = handle
            self._restore_no_delay()
        return self._socket_handle

    def _restore_no_delay(self) -> None:
        """Set TCP_NODELAY as the listening socket has it; uvloop sets it on every connection."""
        if not self._no_delay_restored:
            self._no_delay_restored = True
            if not self._acceptor.no_delay:
                inner = self._transport.get_extra_info("socket")
                with suppress(OSError):  # macOS refuses it after a reset
                    inner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)

    def fileno(self) -> int:
        """Return the descriptor; -1 once the connection is lost."""
        if not self.connected:
            return -1
        return self._descriptor

    @property
    def _descriptor(self) -> int:
        return int(self._transport.get_extra_info("socket").fileno())

    @property
    def client(self) -> tuple[Any, ...]:
        """The peer's address as a tuple; the host of a link-local peer has its zone."""
        sockaddr = self.peername
        return (to_address(sockaddr).host, *sockaddr[1:])

    @property
    def hostname(self) -> str:
        """The peer's host, as text."""
        return str(self.client[0])

    @property
    def server(self) -> Any:
        """The listening port of Twisted; None if the connection was accepted without one."""
        return self._acceptor.port

    @property
    def sessionno(self) -> int:
        """The number of the connection at its port; the peer's port if there is none."""
        return self._number if self._number >= 0 else int(self.peername[1])

    @property
    def writing(self) -> bool:
        """True if something that was written waits for the peer."""
        return self.connected and bool(self._transport.get_write_buffer_size())

    @property
    def disconnected(self) -> bool:
        """True once the connection is lost."""
        return not self.connected

    @property
    def reading(self) -> bool:
        """True if data from the peer is read."""
        return self.connected and not (self._paused or self.disconnecting or self._peer_ended)

    @property
    def reactor(self) -> Any:
        """The reactor of the connection."""
        return self._acceptor.reactor

    @property
    def logstr(self) -> str:
        """The same as `logPrefix`."""
        return self.logPrefix()

    def logPrefix(self) -> str:
        """Return the name of this connection in the log."""
        protocol = self.protocol
        if ILoggingContext.providedBy(protocol):
            name = protocol.logPrefix()
        else:
            name = protocol.__class__.__name__
        return f"{name},{self.sessionno},{self.getPeer().host}"

    def __getitem__(self, key: Any) -> Any:
        """Return the log's prefix: during a call of the protocol, this is the log's context."""
        if key is ILogContext:
            return {**defaultContextDict[ILogContext], "system": self.logPrefix()}
        raise KeyError(key)

    def __repr__(self) -> str:
        name = self.protocol.__class__.__name__
        return f"<{name} #{self.sessionno} on {self.getHost().port}>"
