"""Sockets that are passed to this process, as systemd does it."""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from unittest.mock import patch

from netsrv.sockets import inherited

FIRST = 900
"""The first descriptor of the passed sockets: those from 3 on are in use here."""


@contextmanager
def passed(*sockets: tuple[str, socket.socket]) -> Iterator[None]:
    """Pass duplicates of sockets to this process, each with its name."""
    for position, (_, sock) in enumerate(sockets):
        os.dup2(sock.fileno(), FIRST + position, inheritable=True)
    with variables([name for name, _ in sockets], len(sockets)):
        inherited.inherited_sockets.cache_clear()
        try:
            yield
        finally:
            taken = inherited.inherited_sockets()
            for entry in (*taken.sockets, *taken.stored):
                if entry.sock is not None:
                    entry.sock.close()
            for opened in taken.claimed.values():
                opened.close()
            inherited.inherited_sockets.cache_clear()


@contextmanager
def variables(names: Sequence[str], count: int) -> Iterator[None]:
    """Set the variables for *count* sockets with these names."""
    environ = {
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDS": str(count),
        "LISTEN_FDNAMES": ":".join(names),
    }
    with patch.object(inherited, "FIRST_DESCRIPTOR", FIRST), patch.dict(os.environ, environ):
        yield


def stream(host: str = "127.0.0.1", family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
    """Return a listening TCP socket on a free port, as systemd opens it."""
    return socket.create_server((host, 0), family=family)


def datagram(host: str = "127.0.0.1") -> socket.socket:
    """Return a bound UDP socket on a free port."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    return sock
