"""Clients for tests: blocking sockets that give up in the end."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.process.running import PATIENCE


def tcp(port: int, host: str = "127.0.0.1") -> socket.socket:
    """Connect to a TCP port."""
    return socket.create_connection((host, port), timeout=PATIENCE)


def udp(port: int, host: str = "127.0.0.1") -> socket.socket:
    """Give a socket that exchanges datagrams with a UDP port and nobody else."""
    sock = socket.socket(
        socket.AF_INET6 if ":" in host else socket.AF_INET,
        socket.SOCK_DGRAM,
    )
    sock.settimeout(PATIENCE)
    sock.connect((host, port))
    return sock


def unix(path: Path) -> socket.socket:
    """Connect to a unix socket."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(PATIENCE)
    sock.connect(str(path))
    return sock


def name_of(sock: socket.socket) -> str:
    """Give a client's own address as the log of its server shows it."""
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def read_to_end(sock: socket.socket) -> bytes:
    """Read until the peer ends."""
    pieces = []
    while piece := sock.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def talk(sock: socket.socket, data: bytes) -> bytes:
    """Send *data* and then FIN, and meanwhile read until the peer ends; closes the socket."""

    def send() -> None:
        with suppress(OSError):  # whoever reads sees it too
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send, daemon=True)
    with sock:
        sender.start()
        received = read_to_end(sock)
        sender.join(PATIENCE)
    return received


def visit(port: int, data: bytes = b"") -> bytes:
    """Connect to a TCP port, send, end, and read all that comes."""
    return talk(tcp(port), data)


def exchange(sock: socket.socket, data: bytes) -> bytes:
    """Send *data*, a datagram or a few bytes, and give what comes back first."""
    sock.sendall(data)
    return sock.recv(65536)


@contextmanager
def taken(address: tuple[str, int], kind: socket.SocketKind) -> Iterator[int]:
    """Hold an address, and give its port."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family, kind) as sock:
        sock.bind(address)
        if kind == socket.SOCK_STREAM:
            sock.listen()
        yield sock.getsockname()[1]


@contextmanager
def outgoing(kind: socket.SocketKind) -> Iterator[tuple[int, int]]:
    """Hold a port by an outgoing connection; give it, and the port that it leads to.

    It is bound first: the kernel lets connections to different places share a port that it
    chooses for them.
    """
    with taken(("127.0.0.1", 0), kind) as there, socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("", 0))
        sock.connect(("127.0.0.1", there))
        yield sock.getsockname()[1], there
