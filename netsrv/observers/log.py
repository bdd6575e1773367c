"""The log lines about listeners, about peers that are not served, and about exceptions.

The first line of each kind is logged; later ones are summed up, see `LineRate`.
"""

import errno
import time
from collections.abc import Callable, Sequence

from twisted.logger import Logger

from netsrv.interfaces import (
    CloseReason,
    DropReason,
    IConnection,
    IDatagrams,
    IServedConnections,
    ListenerInfo,
    RejectReason,
)
from netsrv.observers.dispatch import Observer
from netsrv.observers.line_rate import LineRate
from netsrv.sockets.addresses import show_sockaddr

TRACEBACK_INTERVAL = 60.0
"""Seconds from one traceback of a service to the next; exceptions in between are counted."""

TIME_LIMITS = frozenset(
    {
        CloseReason.IDLE_TIMEOUT,
        CloseReason.LIFETIME,
        CloseReason.WRITE_TIMEOUT,
        CloseReason.CLOSE_GRACE,
    }
)

RULES = {
    DropReason.ACCESS: "its network is not allowed (--only-from, --no-access)",
    DropReason.SOURCE_PORT: "its source port is one of a server (--refuse-source-ports)",
    DropReason.OWN_PORT: "its source port is one that this server serves",
    DropReason.NOT_UNICAST: "its source address is not a unicast address",
    DropReason.DESTINATION: "it was sent to a broadcast or multicast address",
    DropReason.MARTIAN: "its loopback source address came in on another interface",
    DropReason.DATAGRAM_RATE: "its source exceeds the rate (--datagram-rate)",
    DropReason.LOOP: "it repeats without end, as from a server that answers us (--datagram-rate)",
    DropReason.UNTRUSTED_PROXY: "its sender is no trusted proxy (--proxy-protocol)",
    DropReason.PROXY_HEADER: "it has no valid PROXY header (--proxy-protocol)",
    DropReason.REPLY_TOO_LONG: "the reply is more than three times as long as the request",
}
"""The rule that refused a datagram, with the option that changes it."""

LOSSES = {
    DropReason.TOO_LONG: "too long",
    DropReason.STOPPED: "stopped",
    DropReason.RECEIVE_ERROR: "receive",
    DropReason.SEND_ERROR: "send",
    DropReason.FAULT: "a fault on purpose",
}
"""Why a datagram was dropped by no rule; the name of the error follows, if there is one."""


class LogObserver(Observer):
    """Logs events, with sums by *rate*; *now* returns seconds of a monotonic clock."""

    log = Logger()

    def __init__(self, rate: LineRate, now: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._now = now
        self._logged: dict[ListenerInfo, set[tuple[object, ...]]] = {}
        self._traceback_at: dict[str, float] = {}

    # Listeners

    def listener_closed(self, listener: ListenerInfo) -> None:
        self._logged.pop(listener, None)

    def listener_failed(self, listener: ListenerInfo, error: OSError, reopening: bool) -> None:
        line = "{listener}: the listening socket failed: {error}; no more connections are accepted"
        if reopening:
            line = "{listener}: the socket failed: {error}; reopening it"
        self.log.error(line, listener=listener, error=error.strerror)

    def listener_reopen_failed(self, listener: ListenerInfo, reason: str) -> None:
        line = "{listener}: cannot reopen the socket: {reason}; retrying every second"
        self.log.error(line, listener=listener, reason=reason)

    def listener_reopened(self, listener: ListenerInfo) -> None:
        self.log.info("{listener}: the socket is open again", listener=listener)

    def suspended(self, listener: ListenerInfo, reason: RejectReason | None) -> None:
        if reason is None:
            self.log.info("{listener}: suspended, new connections wait", listener=listener)
        elif self._first(listener, "suspended", reason):
            line = "{listener}: new connections wait in the backlog ({option})"
            self.log.warn(line, listener=listener, option=reason.option, reason=reason)

    # Connections

    def connection_refused(self, listener: ListenerInfo, peer: str, reason: RejectReason) -> None:
        if self._first(listener, reason):
            line = "{listener}: rejected {peer} ({option}); further rejections are counted"
            option = reason.option
            self.log.warn(line, listener=listener, peer=peer, option=option, reason=reason)
        else:
            self._rate.suppress(("rejected connection", f" ({reason})"))

    def connection_closed(self, listener: ListenerInfo, connection: IConnection) -> None:
        limit = connection.close_reason
        if limit not in TIME_LIMITS:
            return
        option = "--" + limit.replace("_", "-")
        if self._first(listener, limit):
            line = "{listener}: closed {peer} ({option}); further closes are counted"
            peer = connection.peer
            self.log.info(line, listener=listener, peer=peer, option=option, reason=limit)
        else:
            self._rate.suppress(("closed connection", f" ({limit})"))

    def connections_closed(
        self, listener: ListenerInfo, connections: Sequence[IConnection]
    ) -> None:
        for connection in connections:
            if connection.close_reason in TIME_LIMITS:
                self.connection_closed(listener, connection)

    def connections_served(self, listener: ListenerInfo, connections: IServedConnections) -> None:
        """Ignore them: the service has closed them, and no time limit."""

    def accept_failed(self, listener: ListenerInfo, error: OSError) -> None:
        name = _error_name(error)
        if self._first(listener, "accept", name):
            line = "{listener}: accept failed: {error}; further errors are counted"
            self.log.warn(line, listener=listener, error=error.strerror)
        else:
            self._rate.suppress(("accept error", f" ({name})"))

    # Datagrams

    def datagrams_refused(
        self, listener: ListenerInfo, datagrams: IDatagrams, reason: DropReason
    ) -> None:
        first = self._first(listener, reason)
        if first:
            peer, _size = next(iter(datagrams))
            line = "{listener}: dropped a datagram from {peer}: {rule}; further drops are counted"
            fields = {"peer": show_sockaddr(peer), "rule": RULES[reason], "reason": reason}
            self.log.warn(line, listener=listener, **fields)
        if datagrams.count > first:
            self._rate.suppress(("dropped datagram", f" ({reason})"), datagrams.count - first)

    def datagram_dropped(
        self, listener: ListenerInfo, reason: DropReason, error: OSError | None
    ) -> None:
        text = LOSSES[reason] if error is None else f"{LOSSES[reason]} {_error_name(error)}"
        if self._rate.count_lines(("dropped datagram", f" ({text})"), 1):
            line = "{listener}: dropped a datagram: {text}"
            self.log.warn(line, listener=listener, text=text, reason=reason)

    # Exceptions

    def service_failed(self, listener: ListenerInfo, callback: str) -> None:
        if self._may_log_traceback(listener.service, callback):
            self.log.failure("{listener}: {callback} raised", listener=listener, callback=callback)

    def transport_failed(self, listener: ListenerInfo, peer: str) -> None:
        if self._may_log_traceback("a transport", "a transport"):
            line = "{listener}: the transport of {peer} failed; the connection is given up"
            self.log.failure(line, listener=listener, peer=peer)

    def _may_log_traceback(self, source: str, origin: str) -> bool:
        """Return True once in `TRACEBACK_INTERVAL` for each source; count in between."""
        now = self._now()
        if now - self._traceback_at.get(source, -TRACEBACK_INTERVAL) >= TRACEBACK_INTERVAL:
            self._traceback_at[source] = now
            return True
        self._rate.suppress(("exception", f" in {origin}"))
        return False

    # The server

    def stalled(self, seconds: float) -> None:
        self.log.warn("Reactor blocked for {seconds:.1f} s", seconds=seconds)

    def _first(self, listener: ListenerInfo, *event: object) -> bool:
        """Return True for the first such event of a listener; later ones are summed up."""
        logged = self._logged.setdefault(listener, set())
        if event in logged:
            return False
        logged.add(event)
        return True


def _error_name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "?")
