"""The log lines about single peers that are served."""

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from twisted.logger import Logger

from netsrv.interfaces import IConnection, IDatagrams, IServedConnections, ListenerInfo
from netsrv.observers.dispatch import Observer
from netsrv.observers.line_rate import CONNECTION, DATAGRAM, ENDED_CONNECTION, LineRate
from netsrv.sockets.addresses import show_sockaddr

NAMED = " on {listener}"
"""The end of a line that names the listener."""


class PeerLog(Observer):
    """Logs a line for each connection and each datagram, within *rate*.

    *names_listeners* returns True if the lines name the listener.
    """

    log = Logger()

    def __init__(self, rate: LineRate, names_listeners: Callable[[], bool]) -> None:
        self._rate = rate
        self._names_listeners = names_listeners

    def connection_made(self, listener: ListenerInfo, connection: IConnection) -> None:
        self._log_connections(listener, (connection,), 1)

    def connections_made(self, listener: ListenerInfo, connections: Sequence[IConnection]) -> None:
        self._log_connections(listener, connections, len(connections))

    def connections_served(self, listener: ListenerInfo, connections: IServedConnections) -> None:
        self._log_connections(listener, connections, connections.count)

    def _log_connections(self, listener: ListenerInfo, connections: Any, count: int) -> None:
        if self._rate.used_up:
            self._rate.suppress(CONNECTION, count)
            return
        line = self._named("Got connection from {peer}")
        for connection in islice(connections, self._rate.count_lines(CONNECTION, count)):
            self.log.info(line, peer=connection.peer, listener=listener)

    def datagrams_received(self, listener: ListenerInfo, datagrams: IDatagrams) -> None:
        if self._rate.used_up:
            self._rate.suppress(DATAGRAM, datagrams.count)
            return
        line = self._named("Got data from {peer} ({size} bytes)")
        for peer, size in islice(datagrams, self._rate.count_lines(DATAGRAM, datagrams.count)):
            self.log.info(line, peer=show_sockaddr(peer), size=size, listener=listener)

    def _named(self, line: str) -> str:
        return f"{line}{NAMED}" if self._names_listeners() else line


class EndLog(Observer):
    """Logs a line at level debug for each connection that has ended; arguments as `PeerLog`."""

    log = Logger()

    def __init__(self, rate: LineRate, names_listeners: Callable[[], bool]) -> None:
        self._rate = rate
        self._names_listeners = names_listeners

    def connection_closed(self, listener: ListenerInfo, connection: IConnection) -> None:
        if not self._rate.count_lines(ENDED_CONNECTION, 1):
            return
        name = NAMED if self._names_listeners() else ""
        self.log.debug(
            f"Closed {{peer}}{name}: "
            "{reason}, {seconds:.3f} s, {received} B in, {sent} B out",
            peer=connection.peer,
            listener=listener,
            reason=connection.close_reason,
            seconds=connection.seconds,
            received=connection.received,
            sent=connection.sent,
        )
