"""The standard library's ``socketserver``: a thread for each connection.

Datagrams are served one after another, without threads, which is the faster way here.
"""

import socket
import socketserver
import sys

from bench.servers import CHUNK, RECEIVE_BUFFER, announce


class Accept(socketserver.BaseRequestHandler):
    """Closes at once."""


class Echo(socketserver.BaseRequestHandler):
    """Sends everything back."""

    def setup(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def handle(self) -> None:
        while data := self.request.recv(65536):
            self.request.sendall(data)


class Chargen(socketserver.BaseRequestHandler):
    """Writes as fast as the peer reads."""

    def handle(self) -> None:
        while True:
            self.request.sendall(CHUNK)


class Discard(socketserver.BaseRequestHandler):
    """Reads and drops."""

    def handle(self) -> None:
        while self.request.recv(65536):
            pass


class EchoDatagrams(socketserver.BaseRequestHandler):
    """Sends each datagram back."""

    def handle(self) -> None:
        data, sock = self.request
        sock.sendto(data, self.client_address)


class Streams(socketserver.ThreadingTCPServer):
    """A server of connections that does not report resets."""

    request_queue_size = 1024
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore the error: the peer is gone."""


STREAMS = {"accept": Accept, "echo": Echo, "chargen": Chargen, "discard": Discard}


def main(work: str, host: str) -> None:
    """Serve until a signal comes."""
    server: socketserver.BaseServer
    if work == "udp":
        server = socketserver.UDPServer((host, 0), EchoDatagrams)
        server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    else:
        server = Streams((host, 0), STREAMS[work])
    announce(server.server_address, work == "udp", "socketserver")
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
