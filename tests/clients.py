"""Clients made of Python's blocking sockets, which share no code with the server.

Each socket has a time limit.  *opened* is an `OpenSocket` of a server in this process.
"""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from netsrv.sockets.opening import OpenSocket
from tests.timeouts import CLIENT_TIMEOUT

MAX_READ = 1 << 20


def tcp(port: int, host: str = "127.0.0.1", source: str | None = None) -> socket.socket:
    """Connect to a TCP port, from the address *source* if one is given."""
    return socket.create_connection((host, port), CLIENT_TIMEOUT, source and (source, 0))


def udp(port: int, host: str = "127.0.0.1") -> socket.socket:
    """Return a socket that exchanges datagrams with a UDP port only."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return _connected(socket.socket(family, socket.SOCK_DGRAM), (host, port))


def unix(path: Path) -> socket.socket:
    """Connect to a unix socket."""
    return _connected(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), str(path))


def connect(opened: OpenSocket, source: str | None = None) -> socket.socket:
    """Connect to a stream socket, whatever its family, from the address *source* if given."""
    sock = socket.socket(opened.sock.family, socket.SOCK_STREAM)
    if source is not None:
        sock.bind((source, 0))
    return _connected(sock, target(opened))


def _connected(sock: socket.socket, address: tuple[str, int] | str) -> socket.socket:
    """Connect a socket, or close it if the server refuses or resets it at once."""
    sock.settimeout(CLIENT_TIMEOUT)
    try:
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


def target(opened: OpenSocket) -> tuple[str, int] | str:
    """Return the address at which a server's socket is reached."""
    name = opened.sock.getsockname()
    if not isinstance(name, tuple):
        return name
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name[0], name[0])
    return host, name[1]


def name_of(sock: socket.socket) -> str:
    """Return a client's own address as the log of its server shows it."""
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def read_all(sock: socket.socket) -> bytes:
    """Read until the peer ends; a reset raises ConnectionResetError."""
    pieces = []
    while piece := sock.recv(MAX_READ):
        pieces.append(piece)
    return b"".join(pieces)


def talk(sock: socket.socket, data: bytes) -> bytes:
    """Send *data* and then FIN, and meanwhile read until the peer ends; closes the socket."""

    def send() -> None:
        with suppress(OSError):  # the reader sees it too
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send, daemon=True)
    with sock:
        sender.start()
        received = read_all(sock)
        sender.join(CLIENT_TIMEOUT)
    return received


def visit(server: int | OpenSocket, data: bytes = b"") -> bytes:
    """Connect to a TCP port or an `OpenSocket`, send *data*, half-close, and read all."""
    return talk(tcp(server) if isinstance(server, int) else connect(server), data)


def exchange(sock: socket.socket, data: bytes) -> bytes:
    """Send *data*, a datagram or a few bytes, and return what comes back first."""
    sock.sendall(data)
    return sock.recv(65_536)


def ask(opened: OpenSocket, *datagrams: bytes) -> list[bytes]:
    """Send each datagram, and wait for its answer."""
    with socket.socket(opened.sock.family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(CLIENT_TIMEOUT)
        sock.connect(target(opened))
        return [exchange(sock, datagram) for datagram in datagrams]


def reset(sock: socket.socket) -> None:
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def taken(address: tuple[str, int], kind: socket.SocketKind) -> Iterator[int]:
    """Occupy an address; the context is its port."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family, kind) as sock:
        sock.bind(address)
        if kind == socket.SOCK_STREAM:
            sock.listen()
        yield sock.getsockname()[1]


@contextmanager
def outgoing(kind: socket.SocketKind) -> Iterator[tuple[int, int]]:
    """Occupy a port by an outgoing connection; the context is it and the port it leads to.

    It is bound first: the kernel lets connections to different addresses share a port that it
    chooses for them.
    """
    with taken(("127.0.0.1", 0), kind) as there, socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("", 0))
        sock.connect(("127.0.0.1", there))
        yield sock.getsockname()[1], there
