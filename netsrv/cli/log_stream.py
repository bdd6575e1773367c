"""Standard output and error while the server runs: streams that never block it.

A pipe that is not read, or a terminal stopped by Ctrl-S, would otherwise stop the whole server,
its signals included.
"""

import io
import sys
import threading
from contextlib import suppress
from typing import Any

from twisted.logger import Logger

from netsrv.files import LineWriter


class LogStream(io.TextIOBase):
    """A text stream in the place of *stream*, which has a descriptor.

    Text that is not accepted, because the disk is full, the pipe is closed or not read, or the
    terminal is stopped, is counted by lines.  When text is accepted again, their number is
    logged first.  *reopen* is that of `LineWriter`.
    """

    def __init__(self, stream: Any, reopen: bool = True, log: Logger | None = None) -> None:
        self._stream = stream
        self._encoding = stream.encoding or "utf-8"
        self._log = log or Logger()
        self._writer = LineWriter(stream.fileno(), reopen)
        self._lock = threading.RLock()
        self._pending: list[str] = []
        self._writing = False
        self._reporting = False
        self._lost = 0
        self.dropped = 0
        """Lines that were not accepted, since the start."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the stream; it escapes the characters that it lacks."""
        return str(self._encoding)

    @property
    def buffer(self) -> Any:
        """The stream's own buffer, for binary data: it may block."""
        return self._stream.buffer

    def fileno(self) -> int:
        return int(self._stream.fileno())

    def isatty(self) -> bool:
        return bool(self._stream.isatty())

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with self._lock:
            if self._lost and not self._report_lost():
                self._count_lost(text.count("\n"))
                return len(text)
            self._pending.append(text)
            if not self._writing:  # or a signal handler has interrupted this very method
                self._writing = True
                try:
                    while self._pending:
                        self._write_text(self._pending.pop(0))
                finally:
                    self._writing = False
        return len(text)

    def _write_text(self, text: str) -> None:
        before = self._writer.dropped
        self._writer.write(text.encode(self._encoding, "backslashreplace"))
        self._count_lost(self._writer.dropped - before)

    def _count_lost(self, lines: int) -> None:
        self._lost += lines
        self.dropped += lines

    def _report_lost(self) -> bool:
        """Log how many lines were lost; return False if no line can be written yet."""
        if self._reporting or self._writing:
            return True
        if not self._writer.writable():
            return False
        lost, self._lost = self._lost, 0
        self._reporting = True
        try:
            lines = "1 line of the log was" if lost == 1 else f"{lost} lines of the log were"
            self._log.warn("{lines} lost before this one", lines=lines, lost=lost)
        finally:
            self._reporting = False
        if self._lost:  # also the line that has just been logged
            self._lost += lost - 1
        return True


def replace_standard_streams(reopen: bool = True) -> None:
    """Put a `LogStream` in the place of standard output and error, if they are open."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or isinstance(stream, LogStream):
            continue
        stream.flush()
        with suppress(io.UnsupportedOperation):  # it has no descriptor, and cannot block
            setattr(sys, name, LogStream(stream, reopen))
