"""The access log: a line of JSON for each connection, and for each datagram on request.

It has a writer of its own, since an event of `twisted.logger` costs too much for every peer.
An event is recorded as a tuple; the lines are formatted together, before they are written.
"""

import json
import time
from collections.abc import Callable, Sequence
from json.encoder import encode_basestring_ascii as quoted
from typing import Any

from attrs import asdict

from netsrv.files import LogFile
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

FLUSH_INTERVAL = 1.0
"""Seconds after which a line is written, at most."""

HEAD = '{"time":"%s.%06dZ","listener":%s,"peer":'
CLOSED = '%s,"seconds":%.6f,"received":%d,"sent":%d,"ended":"%s"%s}\n'
SERVED = ',"seconds":%.6f,"received":0,"sent":0,"ended":"%s"}\n'
REFUSED = '%s,"refused":"%s"}\n'
RECEIVED = '%s,"received":%d}\n'
SENT = '%s,"sent":%d}\n'
DROPPED = '%s,"dropped":"%s"}\n'
"""The beginning of all lines, and the ends.  The operator ``%`` formats them fastest."""

MAX_RECORDS = 512
"""Records that are kept before their lines are formatted."""

Record = tuple[str, float, ListenerInfo, Sequence[Any]]
"""The end of a line, Unix time, the listener, and the values of each line (a tuple, or one)."""


class AccessLog(Observer):
    """Writes lines to *file*; *clock* provides IReactorTime, *now* returns seconds since 1970.

    With *datagrams*, there is a line for each datagram too.
    """

    def __init__(
        self,
        clock: Any,
        file: LogFile,
        datagrams: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.file = file
        self._clock = clock
        self.datagrams = datagrams
        self._now = now
        self._timer: Any = None
        self._records: list[Record] = []
        self._quoted_names = _QuotedNames()
        self._second = -1
        self._second_text = ""

    def listener_closed(self, listener: ListenerInfo) -> None:
        self._format()
        self._quoted_names.pop(listener, None)

    def connection_closed(self, listener: ListenerInfo, connection: IConnection) -> None:
        self.connections_closed(listener, (connection,))

    def connections_closed(
        self, listener: ListenerInfo, connections: Sequence[IConnection]
    ) -> None:
        self._add(
            CLOSED,
            listener,
            [
                (
                    quoted(connection.peer),
                    connection.seconds,
                    connection.received,
                    connection.sent,
                    connection.close_reason,
                    _describe(connection),
                )
                for connection in connections
            ],
        )

    def connections_served(self, listener: ListenerInfo, connections: IServedConnections) -> None:
        end = SERVED % (connections.seconds, CloseReason.SERVICE)
        self._add(f"%s{end}", listener, [quoted(peer) for peer in connections.peers])

    def connection_refused(self, listener: ListenerInfo, peer: str, reason: RejectReason) -> None:
        self._add(REFUSED, listener, [(quoted(peer), reason)])

    def datagrams_received(self, listener: ListenerInfo, datagrams: IDatagrams) -> None:
        self._add_each(RECEIVED, listener, datagrams)

    def datagrams_sent(self, listener: ListenerInfo, datagrams: IDatagrams) -> None:
        self._add_each(SENT, listener, datagrams)

    def datagrams_refused(
        self, listener: ListenerInfo, datagrams: IDatagrams, reason: DropReason
    ) -> None:
        if self.datagrams:
            lines = [(quoted(show_sockaddr(peer)), reason) for peer, _size in datagrams]
            self._add(DROPPED, listener, lines)

    def _add_each(self, end: str, listener: ListenerInfo, datagrams: IDatagrams) -> None:
        if self.datagrams:
            lines = [(quoted(show_sockaddr(peer)), size) for peer, size in datagrams]
            self._add(end, listener, lines)

    def reopen(self) -> None:
        """Reopen the file under its name, after it was moved away."""
        self._format()
        self.file.reopen()

    def close(self) -> None:
        """Write the remaining lines, and close the file."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._format()
        self.file.close()

    def _add(self, end: str, listener: ListenerInfo, lines: Sequence[Any]) -> None:
        self._records.append((end, self._now(), listener, lines))
        if self._timer is None:
            self._timer = self._clock.callLater(FLUSH_INTERVAL, self._flush)
        if len(self._records) >= MAX_RECORDS:
            self._format()

    def _format(self) -> None:
        """Pass the lines of all records to the file."""
        records, self._records = self._records, []
        add, names = self.file.add, self._quoted_names
        for end, now, listener, lines in records:
            second = int(now)
            text = self._second_text if second == self._second else self._begin_second(second)
            head = HEAD % (text, (now - second) * 1e6, names[listener])
            for values in lines:
                add(head + end % values)

    def _begin_second(self, second: int) -> str:
        self._second = second
        self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return self._second_text

    def _flush(self) -> None:
        self._timer = None
        self._format()
        self.file.flush()


def _describe(connection: IConnection) -> str:
    """Return the keys that only some connections have: ``proxy``, ``tls``, and the service's."""
    proxy, tls, details = connection.proxy, connection.tls, connection.details
    if proxy is tls is details is None:
        return ""
    values = dict(details or {})
    if proxy is not None:
        values["proxy"] = proxy.describe()
    if tls is not None:
        values["tls"] = asdict(tls, filter=lambda _attribute, value: value is not None)
    return f",{json.dumps(values, separators=(',', ':'))[1:-1]}"


class _QuotedNames(dict[ListenerInfo, str]):
    """The listeners' names as JSON strings, each made once."""

    def __missing__(self, listener: ListenerInfo) -> str:
        name = self[listener] = quoted(str(listener))
        return name
