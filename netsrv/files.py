"""A file of lines that a server writes, and that can fail without harm to the server.

Lines are gathered and written together.  What the file does not take, because the disk is
full or nobody reads the pipe, is dropped by whole lines and counted.  A file that was moved
away, or removed, is opened again under its name.
"""

import os
import select
import stat
from contextlib import suppress

GATHERED = 65_536
"""Characters after which lines are written, however short the time."""

AT_ONCE = 4096
"""Bytes that a pipe takes without blocking when it takes any (PIPE_BUF, pipe(7))."""

STANDARD_OUTPUT = "-"

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class LogFile:
    """Appends lines to the file at *path*; `STANDARD_OUTPUT` is standard output.

    Raises OSError if it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self.path = path if path == STANDARD_OUTPUT else os.path.abspath(path)
        self.dropped = 0
        """Lines that the file has not taken."""
        self.error: OSError | None = None
        """What keeps it from taking lines, if anything does."""
        self._lines: list[str] = []
        self._size = 0
        self._rest = b""
        self._open()

    def add(self, line: str) -> None:
        """Add a line, its end included; it is written with the next `flush`."""
        self._lines.append(line)
        self._size += len(line)
        if self._size >= GATHERED:
            self.flush()

    def flush(self) -> None:
        """Write what has been gathered."""
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
        """Write what has been gathered, and open the file again under its name.

        Where that fails the file that is open stays, and `error` says why.
        """
        self.flush()
        self._reopen()

    def close(self) -> None:
        """Write what has been gathered, and close the file."""
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
        """See to it that the open file is the one of our name; tell whether it is lost."""
        if not self._regular or self.path == STANDARD_OUTPUT:
            return False
        with suppress(OSError):
            status = os.stat(self.path)
            if (status.st_dev, status.st_ino) == self._identity:
                return False
        self._reopen()
        return os.fstat(self._descriptor).st_nlink == 0

    def _write(self, data: bytes) -> int:
        """Write as much as the file takes now, and give its length."""
        written = 0
        try:
            while written < len(data) and (self._regular or self._writable()):
                chunk = data[written:] if self._regular else data[written : written + AT_ONCE]
                written += os.write(self._descriptor, chunk)
            self.error = None if written == len(data) else BlockingIOError(0, "nobody reads it")
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


def read_text_file(path: str, most: int) -> str:
    """Read a text file of at most *most* bytes, in UTF-8.

    A FIFO or a device is refused before it is opened, and of what is too long no more is
    read than that.  Raises ValueError with what is wrong.
    """
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise ValueError("is a directory, not a file")
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is not a regular file")
        with open(path, "rb", opener=_open_at_once) as file:
            data = file.read(most + 1)
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
    if len(data) > most:
        raise ValueError(f"is too long: a file of at most {most} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"is not text in UTF-8: see the byte at offset {error.start}") from None


def _open_at_once(path: str, flags: int) -> int:
    """Open what may have become a FIFO since we looked."""
    return os.open(path, flags | os.O_NONBLOCK)
