"""The log lines about peers, and their bound.

All lines go through `twisted.logger`, which costs about 28 us an event: little for a bounded
number of lines a second, too much for every peer of a busy server.  So lines about single
peers have a rate; beyond it a peer costs an addition, and one line a second gives the sums.
"""

import errno
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

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
from netsrv.sockets.addresses import show_sockaddr

WINDOW = 1.0
"""Seconds for which lines are counted, and after which the sums are logged."""

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
    DropReason.REPLY_TOO_LONG: "the reply is more than three times as long as the request",
}
"""The rule that refused a datagram, with the option that changes it."""

LOSSES = {
    DropReason.TOO_LONG: "too long",
    DropReason.STOPPED: "stopped",
    DropReason.RECEIVE_ERROR: "receive",
    DropReason.SEND_ERROR: "send",
}
"""Why a datagram was dropped by no rule; the name of the error follows, if there is one."""

Kind = tuple[str, str]
"""What a suppressed line is about: a singular noun, and a detail that follows it."""


class LogObserver(Observer):
    """Logs events, at most *rate* lines a second about single peers.

    *clock* provides IReactorTime; *now* returns seconds of a monotonic clock.
    """

    log = Logger()

    def __init__(self, clock: Any, rate: int, now: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._now = now
        self.rate = rate
        self._lines = 0
        self._suppressed: Counter[Kind] = Counter()
        self._window: Any = None
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
            self.log.warn(line, listener=listener, option=reason.option)

    # Connections

    def connection_made(self, listener: ListenerInfo, connection: IConnection) -> None:
        if self._lines >= self.rate and self._window is not None:
            self._suppressed["connection", ""] += 1
        elif self._count_lines(("connection", ""), 1):
            self.log.info("Got connection from {peer}", peer=connection.peer)

    def connections_made(self, listener: ListenerInfo, connections: Sequence[IConnection]) -> None:
        self._log_peers(connections, len(connections))

    def connections_served(self, listener: ListenerInfo, connections: IServedConnections) -> None:
        self._log_peers(connections, connections.count)

    def _log_peers(self, connections: Any, count: int) -> None:
        if self._lines >= self.rate and self._window is not None:
            self._suppressed["connection", ""] += count
            return
        for connection in islice(connections, self._count_lines(("connection", ""), count)):
            self.log.info("Got connection from {peer}", peer=connection.peer)

    def connection_refused(self, listener: ListenerInfo, peer: str, reason: RejectReason) -> None:
        if self._first(listener, reason):
            line = "{listener}: rejected {peer} ({option}); further rejections are counted"
            self.log.warn(line, listener=listener, peer=peer, option=reason.option)
        else:
            self._suppressed["rejected connection", f" ({reason})"] += 1

    def connection_closed(self, listener: ListenerInfo, connection: IConnection) -> None:
        limit = connection.close_reason
        if limit not in TIME_LIMITS:
            return
        option = "--" + limit.replace("_", "-")
        if self._first(listener, limit):
            line = "{listener}: closed {peer} ({option}); further closes are counted"
            self.log.info(line, listener=listener, peer=connection.peer, option=option)
        else:
            self._suppressed["closed connection", f" ({limit})"] += 1

    def connections_closed(
        self, listener: ListenerInfo, connections: Sequence[IConnection]
    ) -> None:
        for connection in connections:
            if connection.close_reason in TIME_LIMITS:
                self.connection_closed(listener, connection)

    def accept_failed(self, listener: ListenerInfo, error: OSError) -> None:
        name = _error_name(error)
        if self._first(listener, "accept", name):
            line = "{listener}: accept failed: {error}; further errors are counted"
            self.log.warn(line, listener=listener, error=error.strerror)
        else:
            self._suppressed["accept error", f" ({name})"] += 1

    # Datagrams

    def datagrams_received(self, listener: ListenerInfo, datagrams: IDatagrams) -> None:
        if self._lines >= self.rate and self._window is not None:
            self._suppressed["datagram", ""] += datagrams.count
            return
        for peer, size in islice(datagrams, self._count_lines(("datagram", ""), datagrams.count)):
            self.log.info(
                "Got data from {peer} ({size} bytes)", peer=show_sockaddr(peer), size=size
            )

    def datagrams_refused(
        self, listener: ListenerInfo, datagrams: IDatagrams, reason: DropReason
    ) -> None:
        first = self._first(listener, reason)
        if first:
            peer, _size = next(iter(datagrams))
            line = "{listener}: dropped a datagram from {peer}: {rule}; further drops are counted"
            self.log.warn(line, listener=listener, peer=show_sockaddr(peer), rule=RULES[reason])
        if datagrams.count > first:
            self._suppressed["dropped datagram", f" ({reason})"] += datagrams.count - first

    def datagram_dropped(
        self, listener: ListenerInfo, reason: DropReason, error: OSError | None
    ) -> None:
        text = LOSSES[reason] if error is None else f"{LOSSES[reason]} {_error_name(error)}"
        if self._count_lines(("dropped datagram", f" ({text})"), 1):
            self.log.warn("{listener}: dropped a datagram: {text}", listener=listener, text=text)

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
        self._start_window()
        self._suppressed["exception", f" in {origin}"] += 1
        return False

    # The server

    def stalled(self, seconds: float) -> None:
        self.log.warn("Reactor blocked for {seconds:.1f} s", seconds=seconds)

    def close(self) -> None:
        """Log the sums that are left, and cancel the timer."""
        if self._window is not None:
            self._window.cancel()
            self._end_window()

    # The bound

    def _first(self, listener: ListenerInfo, *event: object) -> bool:
        """Return True for the first such event of a listener; later ones are summed up."""
        self._start_window()
        logged = self._logged.setdefault(listener, set())
        if event in logged:
            return False
        logged.add(event)
        return True

    def _count_lines(self, kind: Kind, wanted: int) -> int:
        """Count so many lines, and return how many of them may be logged."""
        self._start_window()
        lines = min(wanted, max(0, self.rate - self._lines))
        self._lines += wanted
        if lines < wanted:
            self._suppressed[kind] += wanted - lines
        return lines

    def _start_window(self) -> None:
        if self._window is None:
            self._window = self._clock.callLater(WINDOW, self._end_window)

    def _end_window(self) -> None:
        self._window = None
        self._lines = 0
        suppressed, self._suppressed = self._suppressed, Counter()
        if suppressed:
            sums = ", ".join(_show_sum(count, *kind) for kind, count in suppressed.items())
            self.log.info("Suppressed in the last second (--log-rate): {sums}", sums=sums)


def _show_sum(count: int, noun: str, detail: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}{detail}"


def _error_name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "?")
