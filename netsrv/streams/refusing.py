"""A listening socket that refuses connections for a while, and keeps its address.

The kernel resets the connections that wait in the backlog, and answers those that come with RST,
as if there were no server.
"""

import errno
import socket
from typing import Any


def stop_listening(sock: Any) -> bool:
    """Let a socket refuse connections; return False if its kind cannot, as a unix socket."""
    if sock.family == socket.AF_UNIX:
        return False
    name = sock.getsockname()
    sock.shutdown(socket.SHUT_RD)
    if isinstance(sock, socket.socket):  # and none in memory
        try:
            sock.bind(name)  # a port that the kernel has chosen is lost with the listening
        except OSError as error:
            if error.errno != errno.EINVAL:  # it is bound
                raise
    return True
