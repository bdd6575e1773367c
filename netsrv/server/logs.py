"""The logs of a server: the observers that write lines, as the configuration has them."""

from collections.abc import Callable
from typing import Any

from netsrv.config.model import Configuration, LogLevel
from netsrv.files import LogFile
from netsrv.observers.accesslog import AccessLog
from netsrv.observers.dispatch import Observer, ObserverDispatcher
from netsrv.observers.line_rate import LineRate
from netsrv.observers.log import LogObserver
from netsrv.observers.peer_log import EndLog, PeerLog


class ServerLogs:
    """Adds observers to *observers* from `start` to `stop`; *clock* provides IReactorTime.

    Lines about peers name the listener while *names_listeners* returns True.
    """

    def __init__(
        self, clock: Any, observers: ObserverDispatcher, names_listeners: Callable[[], bool]
    ) -> None:
        self.access_log: AccessLog | None = None
        self._clock = clock
        self._observers = observers
        self._names_listeners = names_listeners
        self._rate = LineRate(clock, 0)
        self._log: LogObserver | None = None
        self._peer_logs: list[Observer] = []

    @property
    def suppressed_lines(self) -> int:
        """The number of lines about single peers that ``log_rate`` has summed up."""
        return self._rate.suppressed

    def start(self, configuration: Configuration, access_log: LogFile | None) -> None:
        """Log from now on; *access_log* is open, or None if there is none."""
        self._log = LogObserver(self._rate)
        self._observers.add(self._log)
        self.configure(configuration)
        self.open_access_log(access_log, configuration.access_log_datagrams)

    def configure(self, configuration: Configuration) -> None:
        """Use the rate and the level of another configuration.

        Lines about peers that are not wanted have no observer, so they cost nothing.
        """
        self._rate.rate = configuration.log_rate
        self._remove_peer_logs()
        if configuration.log_rate and configuration.level in (LogLevel.INFO, LogLevel.DEBUG):
            self._peer_logs = [PeerLog(self._rate, self._names_listeners)]
            if configuration.level is LogLevel.DEBUG:
                self._peer_logs.append(EndLog(self._rate, self._names_listeners))
        for observer in self._peer_logs:
            self._observers.add(observer)
        if self.access_log is not None:
            self.access_log.datagrams = configuration.access_log_datagrams

    def open_access_log(self, file: LogFile | None, datagrams: bool) -> None:
        """Write the access log to another file, or to none."""
        self._close_access_log()
        if file is not None:
            self.access_log = AccessLog(self._clock, file, datagrams)
            self._observers.add(self.access_log)

    def _close_access_log(self) -> None:
        if self.access_log is not None:
            self._observers.remove(self.access_log)
            self.access_log.close()
            self.access_log = None

    def stop(self) -> None:
        """Write the sums that are left, and close the access log."""
        self._close_access_log()
        self._remove_peer_logs()
        if self._log is not None:
            self._observers.remove(self._log)
            self._log = None
        self._rate.close()

    def _remove_peer_logs(self) -> None:
        for observer in self._peer_logs:
            self._observers.remove(observer)
        self._peer_logs = []
