"""gevent: a greenlet for each connection."""

import socket
import sys
from contextlib import suppress

from gevent.server import DatagramServer, StreamServer

from bench.servers import CHUNK, RECEIVE_BUFFER, announce


def accept(sock: socket.socket, _address: object) -> None:
    """Close at once: the server does when this returns."""


def echo(sock: socket.socket, _address: object) -> None:
    """Send everything back."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := sock.recv(65536):
        sock.sendall(data)


def chargen(sock: socket.socket, _address: object) -> None:
    """Write as fast as the peer reads, until it is gone."""
    with suppress(OSError):
        while True:
            sock.sendall(CHUNK)


def discard(sock: socket.socket, _address: object) -> None:
    """Read and drop."""
    while sock.recv(65536):
        pass


class EchoDatagrams(DatagramServer):
    """Sends each datagram back, without a greenlet for each, which is the faster way."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, spawn=None)

    def handle(self, data: bytes, address: tuple[str, int]) -> None:
        self.sendto(data, address)


STREAMS = {"accept": accept, "echo": echo, "chargen": chargen, "discard": discard}


def main(work: str, host: str) -> None:
    """Serve until a signal comes."""
    if work == "udp":
        server = EchoDatagrams((host, 0))
        server.init_socket()
        server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    else:
        server = StreamServer((host, 0), STREAMS[work], backlog=1024)
        server.init_socket()
    server.start()
    announce(server.socket.getsockname(), work == "udp", "gevent")
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
