"""Whether a peer has sent bytes that were not read."""

import fcntl
import termios
from typing import Any

_size = bytearray(4)
"""Where the kernel writes the answer of FIONREAD, for all connections.

An immutable buffer would cost twice the time: `fcntl.ioctl` tries to write to it first.
"""


def has_unread(transport: Any) -> bool:
    """Return True if the peer of a transport has sent such bytes (FIONREAD, tty_ioctl(4))."""
    try:
        fcntl.ioctl(transport.fileno(), termios.FIONREAD, _size)
    except (AttributeError, OSError, TypeError, ValueError):
        return False  # not a socket of the kernel
    return any(_size)
