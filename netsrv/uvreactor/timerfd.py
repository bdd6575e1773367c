"""A timer of the kernel's that counts nanoseconds (timerfd_create(2)): those of uvloop count
milliseconds."""

import ctypes
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

CLOCK_MONOTONIC = 1
TFD_TIMER_ABSTIME = 1
NANOSECONDS = 1_000_000_000


class _Setting(ctypes.Structure):
    """struct itimerspec."""

    _fields_ = (
        ("interval_seconds", ctypes.c_long),
        ("interval_nanoseconds", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("nanoseconds", ctypes.c_long),
    )


class KernelTimer:
    """Calls *fired* in *loop*, an asyncio event loop, at a time of the monotonic clock.

    Raises OSError or AttributeError where the kernel, a sandbox or the C library has none.
    """

    _descriptor = -1

    def __init__(self, loop: Any, fired: Callable[[], None]) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        self._settime = library.timerfd_settime
        self._descriptor = library.timerfd_create(CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor == -1:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        self._fired = fired
        self._setting = _Setting()
        self._address = ctypes.c_void_p(ctypes.addressof(self._setting))
        loop.add_reader(self._descriptor, self._read)

    def set(self, when: float) -> None:
        """Fire at *when*, in seconds, and not at the time that was set before."""
        setting = self._setting
        setting.seconds, setting.nanoseconds = divmod(max(int(when * NANOSECONDS), 1), NANOSECONDS)
        self._settime(self._descriptor, TFD_TIMER_ABSTIME, self._address, None)

    def _read(self) -> None:
        with suppress(BlockingIOError):  # it was set again meanwhile
            os.read(self._descriptor, 8)
            self._fired()

    def __del__(self) -> None:
        if self._descriptor != -1:
            os.close(self._descriptor)
