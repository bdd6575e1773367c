"""How many descriptors the process may have, and how many of them connections may use."""

import os
import resource
from typing import Any

from netsrv.sockets.steps import AddressUnavailable

RESERVED_DESCRIPTORS = 64
"""Descriptors that connections leave to everything else."""

SPARE_DESCRIPTORS = 16
"""Descriptors that must be free beside the sockets: for the reactor, the log, and imports."""

FD_SETSIZE = 1024


def connection_limit(reactor: Any) -> int:
    """Return how many connections the process has descriptors for (getrlimit(2)).

    The select reactor cannot watch descriptors from FD_SETSIZE, 1,024, on (select(2)).
    """
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if type(reactor).__module__ == "twisted.internet.selectreactor":
        soft = min(soft, FD_SETSIZE)
    return max(1, soft - RESERVED_DESCRIPTORS)


def check_spare_descriptors() -> None:
    """Raise `AddressUnavailable` if the open sockets leave too few descriptors."""
    spare: list[int] = []
    try:
        while len(spare) < SPARE_DESCRIPTORS:
            spare.append(os.open(os.sep, os.O_RDONLY))
    except OSError as error:
        raise AddressUnavailable(
            f"{error.strerror}: the sockets leave {len(spare)} descriptors, and the server "
            f"needs {SPARE_DESCRIPTORS}; raise the limit (ulimit -n)"
        ) from error
    finally:
        for descriptor in spare:
            os.close(descriptor)
