"""The cases of Twisted's that fail on our reactor, with their reasons.

Each of them fails, or is skipped, on the baseline too: Twisted's reactor for asyncio, on a loop
of uvloop.
That one fails more, which ours does not.  uvloop takes Python's wakeup descriptor for itself,
so that Twisted gets no SIGCHLD: most cases of ``PTYProcessTestsBuilder`` run out of
time, and those of ``ProcessTestsBuilder`` pass only as the pipes of a child tell of its end.
And uvloop watches a descriptor no more once it is in an error (EPOLLERR), be there
something to read or not: two or three of ``AbortConnectionTests``, which ones depends on
how the kernel cuts what is sent, never hear that their peer has reset them.
"""

import functools
import os
import subprocess
import sys
from collections.abc import Callable

import attrs


@attrs.frozen
class Known:
    """A case that fails, why, and whether it does on this machine."""

    case: str
    reason: str
    applies: Callable[[], bool]


@functools.cache
def others_may_not_run_python() -> bool:
    """Return True if root runs the tests with a Python that another user may not run."""
    if os.geteuid() != 0:
        return False
    try:
        subprocess.run([sys.executable, "-c", ""], user=1, capture_output=True, check=True)
    except (PermissionError, subprocess.CalledProcessError):
        return True
    return False


KNOWN = [
    Known(
        f"twisted.internet.test.test_process.{builder}_JudgedTests.test_changeUID",
        "Its child runs this Python as user 1, which may not enter the directory of that.",
        others_may_not_run_python,
    )
    for builder in ("ProcessTestsBuilder", "PTYProcessTestsBuilder")
] + [
    Known(
        "twisted.internet.test.test_fdset.ReactorFDSetTestsBuilder_JudgedTests"
        ".test_lostFileDescriptor",
        "The kernel forgets a descriptor that is closed while an epoll object watches it, and "
        "reports nothing; Twisted skips this case for the reactors on epoll that it knows by name.",
        lambda: sys.platform == "linux",
    )
]
