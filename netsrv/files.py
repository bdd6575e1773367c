"""Files: a text file that is read, a log file that is appended to, and one without a name.

A log can fail without harm to the server.  Whole lines are dropped and counted if the disk is
full or the pipe is not read.  A file's lines are buffered and written together, and a file that
was moved away, or removed, is reopened under its name.
"""

import os
import re
import select
import socket
import stat
import tempfile
from contextlib import suppress

BUFFER_SIZE = 65_536
"""Characters after which the buffered lines are written."""

PIPE_CHUNK = 4096
"""Bytes that a writable pipe accepts without blocking (PIPE_BUF, pipe(7))."""

STANDARD_OUTPUT = "-"

MAX_LINKS = 40
"""Symbolic links that a path may lead through (path_resolution(7))."""

_REOPEN_FLAGS = os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_FLAGS = _REOPEN_FLAGS | os.O_APPEND | os.O_CREAT

_STANDARD_OUTPUTS = {"1": 1, "2": 2}
_DESCRIPTOR_FOLDERS = r"/dev/fd|/proc/{pid}(/task/[0-9]+)?/fd"


class LineWriter:
    """Writes lines to a descriptor, and never waits for the process that reads them.

    A pipe or a terminal is opened once more, because O_NONBLOCK on *descriptor* would change it
    for other processes too.  If that is not allowed, or not wanted (*reopen* is False), at most
    `PIPE_CHUNK` bytes are written at a time, and only while poll(2) reports room.
    """

    def __init__(self, descriptor: int, reopen: bool = True) -> None:
        self.dropped = 0
        """Lines that were not written."""
        self.error: OSError | None = None
        """The error that keeps lines from being written; None if there is none."""
        self._rest = b""
        self._end = 0  # of a regular file when a line was begun
        self._own = -1
        self.attach(descriptor, reopen)

    def attach(self, descriptor: int, reopen: bool = True) -> None:
        """Write to another descriptor from now on; a line that was begun is dropped."""
        self.detach()
        self.drop(0)
        self.error = None
        mode = os.fstat(descriptor).st_mode
        self._descriptor = descriptor
        self._regular = stat.S_ISREG(mode)
        self._socket = stat.S_ISSOCK(mode)
        if reopen and (stat.S_ISFIFO(mode) or os.isatty(descriptor)):
            with suppress(OSError):
                self._own = os.open(f"/proc/self/fd/{descriptor}", _REOPEN_FLAGS)

    def detach(self) -> None:
        """Close what was opened here; the descriptor itself is the caller's."""
        if self._own != -1:
            os.close(self._own)
            self._own = -1

    def write(self, data: bytes) -> None:
        """Write lines: first the rest of one that was begun; drop those that find no room."""
        if self.begun and self._regular and os.fstat(self._descriptor).st_size != self._end:
            self.drop(0)  # the file was truncated, or another process has written to it
        data = self._rest + data
        written = self._write(data)
        begun = self.begun if written == 0 else data[written - 1 : written] != b"\n"
        left = data[written:]
        self._rest = left[: left.find(b"\n") + 1] if begun else b""
        self.dropped += max(0, left.count(b"\n") - begun)

    def drop(self, lines: int) -> None:
        """Drop lines, and one that was begun."""
        self.dropped += lines + self.begun
        self._rest = b""

    @property
    def begun(self) -> bool:
        """True if a line is written in part only."""
        return bool(self._rest)

    def writable(self) -> bool:
        """Return True if the descriptor accepts something, or has an error to report."""
        if self._regular:
            return True
        poll = select.poll()
        poll.register(self._target, select.POLLOUT)
        return bool(poll.poll(0))

    @property
    def _target(self) -> int:
        return self._descriptor if self._own == -1 else self._own

    def _write(self, data: bytes) -> int:
        """Write as much as is accepted now, and return the number of bytes."""
        written = 0
        self.error = None
        try:
            while written < len(data) and (self._own != -1 or self.writable()):
                written += self._write_chunk(data[written:])
            if written < len(data):
                raise BlockingIOError
        except BlockingIOError:
            self.error = BlockingIOError(0, "the pipe is not read")
        except OSError as error:
            self.error = error
        if self._regular and written < len(data):
            written -= self._take_back(written - data.rfind(b"\n", 0, written) - 1)
        return written

    def _write_chunk(self, data: bytes) -> int:
        if self._regular:
            return os.write(self._descriptor, data)
        if not self._socket:
            return os.write(self._target, data[:PIPE_CHUNK])
        sock = socket.socket(fileno=self._descriptor)
        try:
            return sock.send(data[:PIPE_CHUNK], socket.MSG_DONTWAIT)
        finally:
            sock.detach()

    def _take_back(self, size: int) -> int:
        """Remove a begun line from the end of the file, and return the number of its bytes.

        If another process has appended to the file since, the line stays: 0 is returned.
        """
        with suppress(OSError):
            self._end = os.lseek(self._descriptor, 0, os.SEEK_CUR)
            if os.fstat(self._descriptor).st_size == self._end:
                os.ftruncate(self._descriptor, self._end - size)
                os.lseek(self._descriptor, self._end - size, os.SEEK_SET)
                return size
        return 0


class LogFile:
    """Appends lines to the file at *path*; `STANDARD_OUTPUT` is standard output.

    A path that leads to our standard output or error, such as ``/dev/stdout``, stands for the
    open descriptor.  Raises OSError if the file cannot be opened.
    """

    def __init__(self, path: str) -> None:
        standard = standard_descriptor(path)
        self._standard = standard is not None
        self.reopen_error: OSError | None = None
        """The error that keeps the file from being opened again; None if there is none."""
        self.path = path if self._standard else os.path.abspath(path)
        self._lines: list[str] = []
        self._size = 0
        self._descriptor = self._open() if standard is None else standard
        self._writer = LineWriter(self._descriptor, reopen=self._standard)

    @property
    def dropped(self) -> int:
        """The number of lines that were not written."""
        return self._writer.dropped

    @property
    def error(self) -> OSError | None:
        """The error that keeps lines from being written; None if there is none."""
        return self._writer.error

    def add(self, line: str) -> None:
        """Add a line, its end included; it is written with the next `flush`."""
        self._lines.append(line)
        self._size += len(line)
        if self._size >= BUFFER_SIZE:
            self.flush()

    def flush(self) -> None:
        """Write the buffered lines, and a begun one whose rest found no room."""
        if not (self._lines or self._writer.begun):
            return
        lines, self._lines, self._size = self._lines, [], 0
        if self._reopen_if_rotated():
            self._writer.drop(len(lines))
            self._writer.error = self.reopen_error
        else:
            self._writer.write("".join(lines).encode())

    def reopen(self) -> None:
        """Write the buffered lines, and reopen the file under its name.

        If that fails, the present file stays open, and `reopen_error` has the reason.
        """
        self.flush()
        self._reopen()

    def close(self) -> None:
        """Write the buffered lines, and close the file."""
        if self._descriptor != -1:
            self.flush()
            self._writer.detach()
            if not self._standard:
                os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> int:
        """Open the file under its name, and return its descriptor."""
        descriptor = os.open(self.path, _FLAGS, 0o644)
        status = os.fstat(descriptor)
        self._regular = stat.S_ISREG(status.st_mode)
        self._identity = (status.st_dev, status.st_ino)
        return descriptor

    def _reopen(self) -> None:
        if self._standard:
            return
        try:
            descriptor = self._open()
        except OSError as error:
            self.reopen_error = error
            return
        self.reopen_error = None
        before, self._descriptor = self._descriptor, descriptor
        self._writer.attach(descriptor, reopen=False)
        os.close(before)

    def _reopen_if_rotated(self) -> bool:
        """Reopen a file that was moved away or removed; return True if its lines would be lost."""
        if self._standard or not self._regular:
            return False
        with suppress(OSError):
            status = os.stat(self.path)
            if (status.st_dev, status.st_ino) == self._identity:
                self.reopen_error = None
                return False
        self._reopen()
        return os.fstat(self._descriptor).st_nlink == 0


def standard_descriptor(path: str) -> int | None:
    """Return 1 or 2 if *path* leads to our standard output or error, and None otherwise."""
    if path == STANDARD_OUTPUT:
        return 1
    folders = re.compile(_DESCRIPTOR_FOLDERS.format(pid=os.getpid()))
    with suppress(OSError, ValueError):
        for _ in range(MAX_LINKS):
            folder, name = os.path.split(os.path.abspath(path))
            if name in _STANDARD_OUTPUTS and folders.fullmatch(os.path.realpath(folder)):
                return _STANDARD_OUTPUTS[name]
            path = os.path.join(folder, os.readlink(path))
    return None


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


def open_nameless() -> int:
    """Open an empty file without a name, in memory where the kernel can; return its descriptor."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("netsrv")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _open_nonblocking(path: str, flags: int) -> int:
    """Open a path that may have become a FIFO since the check."""
    return os.open(path, flags | os.O_NONBLOCK)
