"""The working directory of the start, from which a configuration's relative paths begin.

``twistd --rundir`` leaves it, and a reload has to resolve the same paths as the start.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from twisted.logger import Logger

EMPTY_DIRECTORY = "/proc/self/fdinfo"
"""A directory in which no file can be found or created by a user's names."""


class StartDirectory:
    """The present working directory, or another one, that of the master that starts a worker."""

    log = Logger()

    def __init__(self, path: str | None = None) -> None:
        self._path = path
        self._identity = (0, 0)
        with suppress(OSError):  # it was deleted: no relative path can be resolved
            self._path = path or os.getcwd()
            self._identity = _identity(self._path)
        self._warned = False

    @property
    def path(self) -> str | None:
        """The directory; None if it was deleted."""
        return self._path

    @property
    def is_left(self) -> bool:
        """True if the process works in another directory now."""
        return self._path is not None and _identity() != self._identity

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be in the directory for a while.  Where it cannot be entered, relative paths fail."""
        if self._path is None or not self.is_left:
            yield
            return
        before: int | str
        try:
            before = os.open(".", getattr(os, "O_PATH", os.O_RDONLY))
        except OSError:  # no descriptor is left
            before = os.getcwd()
        try:
            self._enter(self._path)
            yield
        finally:
            os.chdir(before)
            if isinstance(before, int):
                os.close(before)

    def _enter(self, path: str) -> None:
        try:
            os.chdir(path)
            self._warned = False
        except OSError as error:
            if not self._warned:
                line = "{path}: {error}; relative paths begin there, and cannot be resolved"
                self.log.warn(line, path=path, error=error.strerror)
            self._warned = True
            os.chdir(EMPTY_DIRECTORY)


def _identity(path: str = ".") -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino
