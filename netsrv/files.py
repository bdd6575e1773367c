"""Files that a user names: a text file that is read, and a log file that is appended to.

A log file can fail without harm to the server.  Lines are buffered and written together.
Whole lines are dropped and counted if the disk is full or the pipe is not read.  A file that
was moved away, or removed, is reopened under its name.
"""

import os
import select
import stat
from contextlib import suppress

BUFFER_SIZE = 65_536
"""Characters after which the buffered lines are written."""

PIPE_CHUNK = 4096
"""Bytes that a writable pipe accepts without blocking (PIPE_BUF, pipe(7))."""

STANDARD_OUTPUT = "-"

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class LogFile:
    """Appends lines to the file at *path*; `STANDARD_OUTPUT` is standard output.

    Raises OSError if it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self.path = path if path == STANDARD_OUTPUT else os.path.abspath(path)
        self.dropped = 0
        """Lines that were not written."""
        self.error: OSError | None = None
        """The error that keeps lines from being written; None if there is none."""
        self._lines: list[str] = []
        self._size = 0
        self._rest = b""
        self._open()

    def add(self, line: str) -> None:
        """Add a line, its end included; it is written with the next `flush`."""
        self._lines.append(line)
        self._size += len(line)
        if self._size >= BUFFER_SIZE:
            self.flush()

    def flush(self) -> None:
        """Write the buffered lines."""
        if not (self._lines or self._rest):
            return
        lost = self._reopen_if_rotated()
        data = self._rest + "".join(self._lines).encode()
        self._lines, self._size = [], 0
        written = 0 if lost else self._write(data)
        begun = bool(self._rest) if written == 0 else data[written - 1 : written] != b"\n"
        left = data[written:]
        self._rest = left[: left.find(b"\n") + 1] if begun else b""
        self.dropped += left.count(b"\n") - begun

    def reopen(self) -> None:
        """Write the buffered lines, and reopen the file under its name.

        If that fails, the present file stays open, and `error` has the reason.
        """
        self.flush()
        self._reopen()

    def close(self) -> None:
        """Write the buffered lines, and close the file."""
        if self._descriptor != -1:
            self.flush()
            self._close()

    def _open(self) -> None:
        if self.path == STANDARD_OUTPUT:
            self._descriptor = os.dup(1)
        else:
            self._descriptor = os.open(self.path, _FLAGS, 0o644)
        status = os.fstat(self._descriptor)
        self._regular = stat.S_ISREG(status.st_mode)
        self._identity = (status.st_dev, status.st_ino)

    def _reopen(self) -> None:
        if self.path == STANDARD_OUTPUT:
            return
        before = self._descriptor
        try:
            self._open()
        except OSError as error:
            self.error = error
            return
        os.close(before)
        self.dropped += bool(self._rest)
        self._rest = b""
        self.error = None

    def _reopen_if_rotated(self) -> bool:
        """Reopen a file that was moved away or removed; return True if its lines would be lost."""
        if not self._regular or self.path == STANDARD_OUTPUT:
            return False
        with suppress(OSError):
            status = os.stat(self.path)
            if (status.st_dev, status.st_ino) == self._identity:
                return False
        self._reopen()
        return os.fstat(self._descriptor).st_nlink == 0

    def _write(self, data: bytes) -> int:
        """Write as much as the file accepts now, and return the number of bytes."""
        written = 0
        try:
            while written < len(data) and (self._regular or self._writable()):
                chunk = data[written:] if self._regular else data[written : written + PIPE_CHUNK]
                written += os.write(self._descriptor, chunk)
            self.error = (
                None if written == len(data) else BlockingIOError(0, "the pipe is not read")
            )
        except OSError as error:
            self.error = error
        return written

    def _writable(self) -> bool:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        return bool(poll.poll(0))

    def _close(self) -> None:
        os.close(self._descriptor)
        self._descriptor = -1


def read_text_file(path: str, max_size: int) -> str:
    """Return the text of a file of at most *max_size* bytes, in UTF-8.

    A FIFO or a device is rejected without being opened, and no more than *max_size* bytes of
    a longer file are read.  Raises ValueError with the reason.
    """
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise ValueError("is a directory, not a file")
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is not a regular file")
        with open(path, "rb", opener=_open_nonblocking) as file:
            data = file.read(max_size + 1)
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
    if len(data) > max_size:
        raise ValueError(f"is too long: a file of at most {max_size} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"is not text in UTF-8: see the byte at offset {error.start}") from None


def _open_nonblocking(path: str, flags: int) -> int:
    """Open a path that may have become a FIFO since the check."""
    return os.open(path, flags | os.O_NONBLOCK)
