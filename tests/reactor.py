"""The reactor and the process of the tests: what is open, and waiting for a condition."""

import os
import stat
from collections.abc import Callable

from twisted.internet import reactor, task


def watched() -> set[object]:
    """Return what the reactor watches, except what it watches for itself."""
    everything = {*reactor.getReaders(), *reactor.getWriters()}
    return {reader for reader in everything if "_signals" not in type(reader).__module__}


def sockets_open() -> int:
    """Count the sockets that this process has open."""
    count = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            count += stat.S_ISSOCK(os.fstat(int(fd)).st_mode)
        except OSError:
            continue  # the descriptor with which the folder was read
    return count


async def until(condition: Callable[[], object]) -> None:
    """Let the reactor run until a condition is true; the test's clients have time limits."""
    while not condition():
        await task.deferLater(reactor, 0)
