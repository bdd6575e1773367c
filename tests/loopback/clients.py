"""Clients made of Python's blocking sockets, which share no code with the server."""

import socket
import struct
import threading

from twisted.internet import reactor, task

PATIENCE = 20.0


def connect(opened) -> socket.socket:
    """Connect to an `OpenSocket`, whatever its family."""
    sock = socket.socket(opened.sock.family, socket.SOCK_STREAM)
    sock.settimeout(PATIENCE)
    sock.connect(target(opened))
    return sock


def target(opened):
    """The address at which a server's socket is reached."""
    name = opened.sock.getsockname()
    if not isinstance(name, tuple):
        return name
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name[0], name[0])
    return (host, name[1])


def read_all(sock) -> bytes:
    """Read until the server has ended; a reset raises ConnectionResetError."""
    pieces = []
    while piece := sock.recv(1 << 20):
        pieces.append(piece)
    return b"".join(pieces)


def exchange(opened, data: bytes = b"") -> bytes:
    """Send everything, half-close, and read until the server has ended."""
    with connect(opened) as sock:
        sender = threading.Thread(target=_send_and_end, args=(sock, data), daemon=True)
        sender.start()
        answer = read_all(sock)
        sender.join(PATIENCE)
        return answer


def _send_and_end(sock, data):
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


def reset(sock) -> None:
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def ask(opened, *datagrams: bytes) -> list[bytes]:
    """Send each datagram, and wait for its answer."""
    with socket.socket(opened.sock.family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(target(opened))
        answers = []
        for datagram in datagrams:
            sock.send(datagram)
            answers.append(sock.recv(65_536))
        return answers


def connect_from(host: str, opened) -> socket.socket:
    """Connect from one of the many addresses of loopback."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(PATIENCE)
    sock.bind((host, 0))
    sock.connect(target(opened))
    return sock


async def until(condition):
    """Let the reactor run until something is so; the test's clients have time limits."""
    while not condition():
        await task.deferLater(reactor, 0)
