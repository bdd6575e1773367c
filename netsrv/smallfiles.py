"""Small files that a user names: read whole, or refused at once, and never waited for."""

import os
import stat


def read_small_file(path: str, most: int) -> str:
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
