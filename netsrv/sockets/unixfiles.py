"""The file of a unix socket: its permissions, and whether a server still listens on it."""

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from netsrv.sockets.steps import AddressUnavailable, create, error_text


@contextmanager
def file_mode(mode: int | None) -> Iterator[None]:
    """Create socket files with permissions *mode*; None leaves them to the umask.

    The umask is set, because a chmod after the bind would leave a moment with other
    permissions, and would follow a link that another user put in the file's place.
    """
    if mode is None:
        yield
        return
    before = os.umask(0o777 & ~mode)
    try:
        yield
    finally:
        os.umask(before)


def find_stale_file(label: str, path: str) -> bool:
    """Return True if *path* is a socket file on which no server listens, False if it is absent.

    Raises `AddressUnavailable`, with *label*, for any other file: it is not ours to remove.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return False
    except OSError as error:
        raise AddressUnavailable(f"{label}: {error_text(error)}") from error
    if not stat.S_ISSOCK(mode):
        raise AddressUnavailable(f"{label}: the path exists and is not a socket; it is left alone")
    try:
        if is_stale(path):
            return True
    except OSError as error:
        raise AddressUnavailable(f"{label}: {error_text(error)}; it is left alone") from error
    in_use = os.strerror(errno.EADDRINUSE)
    raise AddressUnavailable(f"{label}: {in_use}: a server listens there", in_use=True)


def is_stale(path: str) -> bool:
    """Return True if no server listens on a socket file.

    Raises OSError if connecting to it does not tell.
    """
    with create(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except BlockingIOError:
            pass  # the backlog is full, so a server listens
    return False
