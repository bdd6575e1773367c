"""The access log: a line of JSON for each connection, and for each datagram if asked for.

It has a writer of its own: an event of `twisted.logger` costs too much for every peer.
"""

import time
from collections.abc import Callable
from json.encoder import encode_basestring_ascii as quoted
from typing import Any

from twisted.logger import Logger

from netsrv.addresses import show_sockaddr
from netsrv.interfaces import Drop, IConnection, IDatagrams, Refusal
from netsrv.observers.audience import Observer
from netsrv.observers.linefile import LineFile

PERIOD = 1.0
"""Seconds after which a line is written, at most."""


class AccessLog(Observer):
    """Writes lines to *file*; *clock* provides IReactorTime, *now* gives seconds since 1970.

    With *datagrams*, each datagram makes a line too.
    """

    log = Logger()

    def __init__(
        self,
        clock: Any,
        file: LineFile,
        datagrams: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.file = file
        self._clock = clock
        self.datagrams = datagrams
        self._now = now
        self._timer: Any = None
        self._second = -1
        self._second_text = ""
        self._failing = False
        self._dropped_told = 0

    def connection_closed(self, listener: str, connection: IConnection) -> None:
        self._add(
            listener,
            connection.peer,
            f'"seconds":{connection.seconds:.6f},"received":{connection.received},'
            f'"sent":{connection.sent},"ended":"{connection.ending.value}"',
        )

    def connection_refused(self, listener: str, peer: str, reason: Refusal) -> None:
        self._add(listener, peer, f'"refused":"{reason.value}"')

    def datagrams_received(self, listener: str, datagrams: IDatagrams) -> None:
        self._add_each(listener, datagrams, "received")

    def datagrams_sent(self, listener: str, datagrams: IDatagrams) -> None:
        self._add_each(listener, datagrams, "sent")

    def datagrams_refused(self, listener: str, datagrams: IDatagrams, reason: Drop) -> None:
        if self.datagrams:
            for peer, _size in datagrams:
                self._add(listener, show_sockaddr(peer), f'"dropped":"{reason.value}"')

    def _add_each(self, listener: str, datagrams: IDatagrams, way: str) -> None:
        if self.datagrams:
            for peer, size in datagrams:
                self._add(listener, show_sockaddr(peer), f'"{way}":{size}')

    def reopen(self) -> None:
        """Open the file again under its name, after it was moved away."""
        self.file.reopen()
        self._tell_of_trouble()

    def close(self) -> None:
        """Write what is left, and close the file."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.file.close()
        self._tell_of_trouble()

    def _add(self, listener: str, peer: str, what: str) -> None:
        now = self._now()
        second = int(now)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        moment = f"{self._second_text}.{int((now - second) * 1e6):06d}Z"
        self.file.add(
            f'{{"time":"{moment}","listener":{quoted(listener)},"peer":{quoted(peer)},{what}}}\n'
        )
        if self._timer is None:
            self._timer = self._clock.callLater(PERIOD, self._flush)

    def _flush(self) -> None:
        self._timer = None
        self.file.flush()
        self._tell_of_trouble()

    def _tell_of_trouble(self) -> None:
        """Say when lines begin to be lost, and when that is over."""
        error, path = self.file.error, self.file.path
        if error is not None and not self._failing:
            self.log.warn(
                "access log {path}: {error}; lines that it does not take are counted",
                path=path,
                error=error.strerror,
            )
        elif error is None and self._failing:
            self.log.info(
                "access log {path}: is written again; {dropped} lines were dropped",
                path=path,
                dropped=self.file.dropped - self._dropped_told,
            )
            self._dropped_told = self.file.dropped
        self._failing = error is not None
