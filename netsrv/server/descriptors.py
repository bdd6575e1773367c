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


def descriptor_limit(reactor: Any = None) -> int:
    """Return how many descriptors the process may have open (getrlimit(2)).

    The select reactor cannot watch descriptors from FD_SETSIZE, 1,024, on (select(2)).
    """
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    on_select = type(reactor).__module__ == "twisted.internet.selectreactor"
    return min(soft, FD_SETSIZE) if on_select else soft


def connection_limit(descriptors: int) -> int:
    """Return for how many connections there are *descriptors*."""
    return max(1, descriptors - RESERVED_DESCRIPTORS)


def show_max_connections(asked: int | None, descriptors: int) -> str:
    """Return the limit in effect and its origin: ``960 (auto: 1024 descriptors less 64)``."""
    limit = connection_limit(descriptors)
    origin = f"{descriptors} descriptors less {RESERVED_DESCRIPTORS}"
    if asked is None:
        return f"{limit} (auto: {origin})"
    return str(asked) if asked <= limit else f"{limit} ({asked} asked for: {origin})"


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
