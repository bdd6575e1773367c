"""What is known of a connection: its addresses, its options, its names."""

import socket
from typing import Any

from twisted.internet.interfaces import ILoggingContext
from twisted.logger import Logger
from twisted.python.context import defaultContextDict
from twisted.python.failure import Failure
from twisted.python.log import ILogContext

from netsrv.uvreactor.socket_handle import SocketHandle, to_address


class ConnectionInfo:
    """The server's end of a connection.

    *origin* is who has accepted it: an object with the attributes ``reactor``, and
    ``no_delay``, which tells whether the listening socket has TCP_NODELAY.
    """

    # There may be many: what few of them need is in the dictionary.
    __slots__ = (
        "__dict__",
        "__weakref__",
        "_acceptor",
        "_no_delay_restored",
        "_transport",
        "_write_buffer",
        "connected",
        "disconnecting",
        "producer",
        "protocol",
    )

    log = Logger()
    streamingProducer = False
    producerPaused = False
    TLS = False
    _reason: Failure | None = None
    _socket_handle: SocketHandle | None = None
    _early_read: Any = None
    _full = False
    _paused = False
    _peer_ended = False
    _pulls = False
    _write_ending = False
    _write_ended = False

    def __init__(self, origin: Any) -> None:
        self._acceptor = origin
        self._no_delay_restored = False
        self._write_buffer: Any = None
        self._transport: Any = None
        self.connected = False
        self.disconnecting = False
        self.producer: Any = None
        self.protocol: Any = None

    def getPeer(self) -> Any:
        return to_address(self._transport.get_extra_info("peername"))

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

    def getHandle(self) -> Any:
        """Give the socket."""
        return self.socket

    @property
    def socket(self) -> Any:
        """The socket: for its options, not to be read or written."""
        if self._socket_handle is None:
            inner = self._transport.get_extra_info("socket")
            self._socket_handle = SocketHandle(
                inner.family, inner.type, inner.proto, inner.fileno()
            )
            self._socket_handle.setblocking(False)
            self._socket_handle.connection = self
            self._restore_no_delay()
        return self._socket_handle

    def _restore_no_delay(self) -> None:
        """Give the socket the TCP_NODELAY of its listener, which uvloop has set."""
        if not self._no_delay_restored:
            self._no_delay_restored = True
            if not self._acceptor.no_delay:
                inner = self._transport.get_extra_info("socket")
                inner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)

    def fileno(self) -> int:
        """The descriptor; -1 once the connection is gone."""
        if not self.connected:
            return -1
        return int(self._transport.get_extra_info("socket").fileno())

    @property
    def sessionno(self) -> int:
        """The number of the connection: the peer's port."""
        return int(self.getPeer().port)

    @property
    def disconnected(self) -> bool:
        """Whether the connection is gone."""
        return not self.connected

    @property
    def reading(self) -> bool:
        """Whether what the peer sends is read."""
        return self.connected and not (self._paused or self.disconnecting or self._peer_ended)

    @property
    def reactor(self) -> Any:
        """The reactor that runs it."""
        return self._acceptor.reactor

    @property
    def logstr(self) -> str:
        """The same as `logPrefix`."""
        return self.logPrefix()

    def logPrefix(self) -> str:
        """How this connection is named in the log."""
        protocol = self.protocol
        if ILoggingContext.providedBy(protocol):
            name = protocol.logPrefix()
        else:
            name = protocol.__class__.__name__
        peer = self.getPeer()
        return f"{name},{peer.port},{peer.host}"

    def __getitem__(self, key: Any) -> Any:
        """Give the log its prefix: while the protocol is called, this is the log's context."""
        if key is ILogContext:
            return {**defaultContextDict[ILogContext], "system": self.logPrefix()}
        raise KeyError(key)

    def __repr__(self) -> str:
        name = self.protocol.__class__.__name__
        return f"<{name} #{self.getPeer().port} on {self.getHost().port}>"
