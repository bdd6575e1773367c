"""The file of a unix socket: its permissions, and whether a server still listens on it.

The kernel takes paths of 107 bytes (unix(7)).  A relative path may be short where the absolute
one is not.
"""

import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from netsrv.sockets.addresses import MAX_SUN_PATH
from netsrv.sockets.steps import AddressUnavailable, create, error_text

LOCK_TRIES = 200
LOCK_INTERVAL = 0.005
"""Seconds between two tries to lock a folder; after all of them it is not locked."""


def path_to_bind(written: str) -> str:
    """Return the absolute path of a socket file, or as it was *written* if only that is short.

    Raises OSError if both are too long.
    """
    for path in (os.path.abspath(written), written):
        if len(os.fsencode(path)) <= MAX_SUN_PATH:
            return path
    size = len(os.fsencode(written))
    raise OSError(
        errno.ENAMETOOLONG,
        f"the path is too long: it has {size} bytes, and a unix socket's has at most "
        f"{MAX_SUN_PATH}; a relative path may be shorter",
    )


@contextmanager
def lock_folder(path: str) -> Iterator[None]:
    """Let one process at a time look at the socket files of a folder and replace them.

    The lock is advisory (flock(2)), and another program may hold it: then the block runs
    without it after a second.  A folder that cannot be read is not locked.
    """
    try:
        folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        for _ in range(LOCK_TRIES):
            with suppress(BlockingIOError):
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(LOCK_INTERVAL)
        yield
    finally:
        os.close(folder)


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
    with create(socket.AF_UNIX, socket.SOCK_STREAM) as probe, _short(path) as short:
        try:
            probe.connect(short)
        except ConnectionRefusedError:
            return True
        except BlockingIOError:
            pass  # the backlog is full, so a server listens
    return False


@contextmanager
def _short(path: str) -> Iterator[str]:
    """Return a path that the kernel takes, by way of the folder's descriptor if it has to be."""
    if len(os.fsencode(path)) <= MAX_SUN_PATH:
        yield path
        return
    folder, name = os.path.split(path)
    descriptor = os.open(folder or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)
