"""Starts a command with inherited sockets, as systemd does it."""

import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.process.needs import tool
from tests.process.running import Running, interruptible, located

FIRST = 3
OUT_OF_THE_WAY = 50
"""The first of the descriptors on which the sockets are while they are put in their places."""


def activated(
    command: Sequence[str], cwd: Path, sockets: Sequence[tuple[str, socket.socket]], **env: str
) -> Running:
    """Return a command that runs with *sockets*, pairs of a name and a socket."""
    descriptors = [sock.fileno() for _, sock in sockets]

    def place() -> None:
        interruptible()
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, OUT_OF_THE_WAY + number)
        for number in range(len(descriptors)):
            os.dup2(OUT_OF_THE_WAY + number, FIRST + number, inheritable=True)

    variables = {
        "LISTEN_FDS": str(len(sockets)),
        "LISTEN_FDNAMES": ":".join(name for name, _ in sockets),
        **env,
    }
    shell = [tool("sh"), "-c", 'LISTEN_PID=$$ exec "$@"', "sh", *located(command)]
    places = tuple(range(FIRST, FIRST + len(descriptors)))
    return Running(shell, cwd, variables, pass_fds=places, preexec_fn=place)


def on_descriptor_0(command: Sequence[str], sock: socket.socket, cwd: Path) -> Any:
    """Start a command with a socket as its standard input, output and error, as inetd does."""
    return subprocess.Popen(located(command), cwd=cwd, stdin=sock, stdout=sock, stderr=sock)


def free_port() -> int:
    """Return a port that no other program has, for one that cannot choose its own."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])
