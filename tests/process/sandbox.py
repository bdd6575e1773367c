"""Sandboxes in which system calls are refused, by a filter of seccomp(2)."""

import ctypes
import os
import platform
import struct
from collections.abc import Callable, Sequence

import pytest

from tests.process.running import interruptible

NUMBERS = {
    "x86_64": {"recvmmsg": 299, "sendmmsg": 307},
    "aarch64": {"recvmmsg": 243, "sendmmsg": 269},
}
"""The numbers of system calls, by machine."""

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD_NUMBER, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
RET_ERRNO, RET_ALLOW = 0x00050000, 0x7FFF0000


def refusing(calls: Sequence[str], error: int) -> Callable[[], None]:
    """Return a *preexec_fn* for a process whose *calls* fail, or skip the test."""
    numbers = NUMBERS.get(platform.machine())
    if numbers is None:
        pytest.skip(f"the numbers of the calls are not known on {platform.machine()}")
    program = [(LOAD_NUMBER, 0, 0, 0)]
    for call in calls:
        program += [(JUMP_IF_EQUAL, 0, 1, numbers[call]), (RETURN, 0, 0, RET_ERRNO | error)]
    program.append((RETURN, 0, 0, RET_ALLOW))
    code = b"".join(struct.pack("=HBBI", *step) for step in program)
    buffer = ctypes.create_string_buffer(code)
    library = ctypes.CDLL(None, use_errno=True)

    def enter() -> None:
        interruptible()
        header = struct.pack("=HxxxxxxQ", len(program), ctypes.addressof(buffer))
        if library.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or library.prctl(
            PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.create_string_buffer(header), 0, 0
        ):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    return enter
