"""The reload of a configuration file: read and checked in a thread, applied over turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from threading import Thread
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from netsrv.cli.collector import FullCollections
from netsrv.config.model import ConfigurationError, ListenerSettings
from netsrv.server.checked import CheckedConfiguration
from netsrv.settings import MAX_TEXT_LENGTH, exception_text, shorten
from netsrv.sockets.addresses import printable
from netsrv.sockets.steps import SocketError

if TYPE_CHECKING:
    from netsrv.server.server import Server

Read = Callable[[Sequence[ListenerSettings]], CheckedConfiguration]
"""Reads the configuration for a server that runs with these settings; called in a thread."""


def start_thread(call: Callable[[], None]) -> None:
    """Call in a thread for which neither the reactor nor the process waits at its end."""
    Thread(target=call, daemon=True, name="reload").start()


class Reloader:
    """Reloads a server's configuration, one reload after the other.

    However many reloads are asked for during one, one follows it, and reads the file again.
    The log has the result of each.  *progress* is called with True when one begins, and with
    False when it has ended.  *full_collections* are those of the process.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        server: Server,
        read: Read,
        in_thread: Callable[[Callable[[], None]], None] = start_thread,
        in_directory: Callable[[], AbstractContextManager[None]] = nullcontext,
        progress: Callable[[bool], None] = lambda reloading: None,
        full_collections: FullCollections | None = None,
    ) -> None:
        self._reactor = reactor
        self._server = server
        self._read = read
        self._in_thread = in_thread
        self._in_directory = in_directory
        self._progress = progress
        self._full_collections = full_collections or FullCollections()
        self._reloading = False
        self._again = False

    def reload(self) -> None:
        """Begin a reload, or have one follow the present one."""
        if self._reloading:
            self._again = True
            return
        self._reloading = True
        self._progress(True)
        self._full_collections.postpone()
        running = [listener.settings for listener in self._server.listeners]
        self._in_thread(lambda: self._read_in_thread(running))

    def _read_in_thread(self, running: Sequence[ListenerSettings]) -> None:
        try:
            result: CheckedConfiguration | Failure = self._read(running)
        except BaseException:  # a third party's plugin may raise anything at all
            result = Failure()
        with suppress(RuntimeError):  # the loop is closed: the server has ended meanwhile
            self._reactor.callFromThread(self._apply, result)

    def _apply(self, result: CheckedConfiguration | Failure) -> None:
        """Apply what was read, or log why that cannot be."""
        applied: Deferred[None] = maybeDeferred(self._start, result)
        applied.addErrback(self._failed).addCallback(self._finished)

    def _start(self, result: CheckedConfiguration | Failure) -> Deferred[None]:
        if isinstance(result, Failure):
            self._server.status.reloads.add(result.value)
            result.raiseException()
        return self._server.reload_in_turns(result, entered=self._in_directory)

    def _failed(self, failure: Failure) -> None:
        error = cast(BaseException, failure.value)
        expected = isinstance(error, ConfigurationError | SocketError | OSError)
        if self._server.running and not expected:
            self.log.failure("The reload failed", failure)
        self._report_unchanged(error)

    def _finished(self, _result: None) -> None:
        self._reloading = False
        self._progress(False)
        self._full_collections.allow()
        if self._again:
            self._again = False
            if self._server.running:
                self.reload()

    def _report_unchanged(self, error: BaseException) -> None:
        for line in format_errors(error):
            self.log.error("{line}", line=line)
        self.log.error("Nothing is changed: the configuration is as before")


def format_errors(error: BaseException) -> Sequence[str]:
    """Return the lines about an error, escaped."""
    if isinstance(error, ConfigurationError):
        lines: Sequence[str] = error.lines
    elif isinstance(error, SocketError | OSError):
        lines = [str(error)]
    else:
        lines = [exception_text(error)]
    return [shorten(printable(line), MAX_TEXT_LENGTH) for line in lines]
