"""The log lines about peers, and how they stay bounded.

Everything goes through `twisted.logger`, which takes its time for each event: fine for
so many lines a second, too much for every peer of a busy server.  So lines about single
peers have a rate; beyond it a peer costs an addition, and one line tells the sum.
"""

import errno
import time
from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import Any

from twisted.logger import Logger

from netsrv.interfaces import CloseReason, DropReason, IConnection, IDatagrams, RejectReason
from netsrv.observers.dispatch import Observer
from netsrv.sockets.addresses import show_sockaddr

WINDOW = 1.0
"""Seconds over which lines are counted, and after which the surplus is summed up."""


TRACEBACK_EVERY = 60.0
"""Seconds from one traceback of a service to the next; its exceptions between are counted."""


TIME_LIMITS = frozenset(
    {
        CloseReason.IDLE_TIMEOUT,
        CloseReason.LIFETIME,
        CloseReason.WRITE_TIMEOUT,
        CloseReason.CLOSE_GRACE,
    }
)


OPTIONS = {
    RejectReason.ACCESS: "--only-from, --no-access",
    RejectReason.MAX_CONNECTIONS: "--max-connections",
    RejectReason.PER_SOURCE: "--per-source",
    RejectReason.CONNECTION_RATE: "--connection-rate",
}
"""The option that changes what a peer was refused for."""


RULES = {
    DropReason.ACCESS: "its network may not come in (--only-from, --no-access)",
    DropReason.SOURCE_PORT: "it seems to come from a server's port (--refuse-source-ports)",
    DropReason.OWN_PORT: "it seems to come from a port that this server serves",
    DropReason.NOT_UNICAST: "nobody can have its address",
    DropReason.DESTINATION: "it was sent to a broadcast or multicast address",
    DropReason.MARTIAN: "its loopback address came over another interface",
    DropReason.DATAGRAM_RATE: "its source sends too many (--datagram-rate)",
    DropReason.REPLY_TOO_LONG: "the answer is more than three times as long",
}
"""The rule that refused a datagram, with the option that changes it."""


LOSSES = {
    DropReason.TOO_LONG: "too long",
    DropReason.STOPPED: "stopped",
    DropReason.RECEIVE_ERROR: "receive",
    DropReason.SEND_ERROR: "send",
}
"""Why a datagram was dropped by no rule; the name of the error follows, if there is one."""


class LogObserver(Observer):
    """Writes what happens to peers into the log, at most *rate* lines a second.

    *clock* provides IReactorTime; *now* gives seconds that never go back.
    """

    log = Logger()

    def __init__(self, clock: Any, rate: int, now: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._now = now
        self.rate = rate
        self._lines = 0
        self._surplus: Counter[str] = Counter()
        self._window: Any = None
        self._seen: set[tuple[object, ...]] = set()
        self._traceback_at: dict[str, float] = {}

    def connection_made(self, listener: str, connection: IConnection) -> None:
        if self._lines >= self.rate and self._window is not None:
            self._surplus["connections"] += 1
        elif self._within_rate("connections"):
            self.log.info("Got connection from {peer}", peer=connection.peer)

    def connection_refused(self, listener: str, peer: str, reason: RejectReason) -> None:
        if self._first(listener, reason):
            line = "{listener}: refused {peer} ({option}); from now on such peers are counted"
            self.log.warn(line, listener=listener, peer=peer, option=OPTIONS[reason])
        else:
            self._surplus[f"connections refused ({reason})"] += 1

    def connection_closed(self, listener: str, connection: IConnection) -> None:
        limit = connection.close_reason
        if limit not in TIME_LIMITS:
            return
        option = "--" + limit.replace("_", "-")
        if self._first(listener, limit):
            line = "{listener}: ended {peer} ({option}); from now on such ends are counted"
            self.log.info(line, listener=listener, peer=connection.peer, option=option)
        else:
            self._surplus[f"connections ended ({limit})"] += 1

    def suspended(self, listener: str, reason: RejectReason | None) -> None:
        if reason is None:
            self.log.info("{listener}: suspended, newcomers wait", listener=listener)
        elif self._first(listener, "suspended", reason):
            line = "{listener}: newcomers wait in the backlog ({option})"
            self.log.warn(line, listener=listener, option=OPTIONS[reason])

    def datagrams_received(self, listener: str, datagrams: IDatagrams) -> None:
        if self._lines >= self.rate and self._window is not None:
            self._surplus["datagrams"] += datagrams.count
            return
        for peer, size in islice(datagrams, self._count_lines("datagrams", datagrams.count)):
            self.log.info(
                "Got data from {peer} ({size} bytes)", peer=show_sockaddr(peer), size=size
            )

    def datagram_dropped(self, listener: str, reason: DropReason, error: OSError | None) -> None:
        text = LOSSES[reason] if error is None else f"{LOSSES[reason]} {_error_name(error)}"
        if self._within_rate(f"datagrams dropped ({text})"):
            self.log.warn("{listener}: dropped a datagram: {text}", listener=listener, text=text)

    def datagrams_refused(self, listener: str, datagrams: IDatagrams, reason: DropReason) -> None:
        first = self._first(listener, reason)
        if first:
            peer, _size = next(iter(datagrams))
            line = "{listener}: dropped a datagram of {peer}: {why}; from now on such are counted"
            self.log.warn(line, listener=listener, peer=show_sockaddr(peer), why=RULES[reason])
        if datagrams.count > first:
            self._surplus[f"datagrams dropped ({reason})"] += datagrams.count - first

    def accept_failed(self, listener: str, error: OSError) -> None:
        name = _error_name(error)
        if self._first(listener, "accept", name):
            line = "{listener}: accept: {error}; from now on such errors are counted"
            self.log.warn(line, listener=listener, error=error.strerror)
        else:
            self._surplus[f"accept errors ({name})"] += 1

    def service_failed(self, listener: str, what: str) -> None:
        service = listener.rpartition(" ")[2]
        now = self._now()
        if now - self._traceback_at.get(service, -TRACEBACK_EVERY) >= TRACEBACK_EVERY:
            self._traceback_at[service] = now
            self.log.failure("{listener}: {what} raised", listener=listener, what=what)
        else:
            self._start_window()
            self._surplus[f"exceptions in {what}"] += 1

    def listener_failed(self, listener: str, error: OSError) -> None:
        self.log.error(
            "{listener}: the listening socket failed: {error}; nobody is accepted there any more",
            listener=listener,
            error=error.strerror,
        )

    def stalled(self, seconds: float) -> None:
        self.log.warn(
            "For {seconds:.1f} s nobody was served: something has blocked the reactor",
            seconds=seconds,
        )

    def _first(self, *what: object) -> bool:
        """Whether this happens for the first time; later times are summed up."""
        self._start_window()
        if what in self._seen:
            return False
        self._seen.add(what)
        return True

    def close(self) -> None:
        """Sum up what is left, and leave no timer behind."""
        if self._window is not None:
            self._window.cancel()
            self._end_window()

    def _within_rate(self, kind: str) -> bool:
        """Count a line; tell whether it may be written."""
        return self._count_lines(kind, 1) == 1

    def _count_lines(self, kind: str, wanted: int) -> int:
        """Count so many lines; tell how many may be written."""
        self._start_window()
        lines = min(wanted, max(0, self.rate - self._lines))
        self._lines += wanted
        if lines < wanted:
            self._surplus[kind] += wanted - lines
        return lines

    def _start_window(self) -> None:
        if self._window is None:
            self._window = self._clock.callLater(WINDOW, self._end_window)

    def _end_window(self) -> None:
        self._window = None
        self._lines = 0
        surplus, self._surplus = self._surplus, Counter()
        if surplus:
            sums = ", ".join(f"{count} {kind}" for kind, count in surplus.items())
            self.log.info("In a second, without a line each: {sums}", sums=sums)


def _error_name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "?")
