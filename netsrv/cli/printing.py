"""What the commands print: reports on standard output, errors on standard error."""

import io
import os
import select
import signal
import sys
from contextlib import suppress
from enum import IntEnum
from typing import NoReturn, TextIO

from netsrv.cli.signals import release_signals


class ExitStatus(IntEnum):
    """Exit statuses of ``netsrv serve``, after sysexits(3)."""

    DRAINED = 0
    ABORTED = 3
    USAGE = 64
    UNAVAILABLE = 69
    SOFTWARE = 70
    IO_ERROR = 74
    CONFIGURATION = 78


def print_report(text: str, io_error: int) -> NoReturn:
    """Print a report on standard output, and exit.

    The status is 0, also if the reader is gone; it is *io_error* if the report cannot be
    printed.  From here on signals end the process, as those of any command that prints.
    """
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    release_signals()
    try:
        write_text(sys.stdout, f"{text}\n")
    except BrokenPipeError:
        pass  # such as that of head(1), which has read enough
    except OSError as error:
        print_error(f"netsrv: standard output: {error.strerror}")
        raise SystemExit(io_error) from None
    raise SystemExit(0)


def print_line(text: str) -> None:
    """Print a line on standard output, whose reader may be gone."""
    with suppress(OSError):
        write_text(sys.stdout, f"{text}\n")


def print_error(text: str) -> None:
    """Print text on standard error, which may be closed or full."""
    with suppress(OSError):
        write_text(sys.stderr, f"{text}\n")


def write_text(stream: TextIO | None, text: str) -> None:
    """Write text to a standard stream, with escapes for what its encoding lacks.

    Nothing stays in a buffer, which Python would write at its exit, with an error of its own.
    Raises OSError.
    """
    if stream is None:
        return
    encoding = stream.encoding or "utf-8"
    data = text.encode(encoding, "backslashreplace")
    try:
        descriptor = stream.fileno()
    except io.UnsupportedOperation:
        stream.write(data.decode(encoding))
        return
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:
            select.select([], [descriptor], [])
