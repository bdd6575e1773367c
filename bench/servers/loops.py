"""Bare protocols on asyncio's own loop, or on uvloop: LOOP comes before WORK and HOST."""

import asyncio
import socket
import sys
from typing import Any

from bench.servers import CHUNK, GREETING, RECEIVE_BUFFER, announce


class Accept(asyncio.Protocol):
    """Closes at once."""

    def connection_made(self, transport: Any) -> None:
        transport.close()


class Daytime(asyncio.Protocol):
    """Writes a line and closes."""

    def connection_made(self, transport: Any) -> None:
        transport.write(GREETING)
        transport.close()


class Echo(asyncio.Protocol):
    """Sends everything back; stops reading from a peer that does not read."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


class Chargen(asyncio.Protocol):
    """Writes as fast as the peer reads."""

    paused = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.resume_writing()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        while not (self.paused or self.transport.is_closing()):
            self.transport.write(CHUNK)


class EchoDatagrams(asyncio.DatagramProtocol):
    """Sends each datagram back."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data, addr)


STREAMS = {
    "accept": Accept,
    "daytime": Daytime,
    "echo": Echo,
    "chargen": Chargen,
    "discard": asyncio.Protocol,
}


async def serve(kind: str, work: str, host: str) -> None:
    """Serve until the process ends."""
    loop = asyncio.get_running_loop()
    if work == "udp":
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        sock.bind((host, 0))
        sock.setblocking(False)
        await loop.create_datagram_endpoint(EchoDatagrams, sock=sock)
        address = sock.getsockname()
    else:
        server = await loop.create_server(STREAMS[work], host, 0, backlog=1024)
        address = server.sockets[0].getsockname()
    announce(address, work == "udp", kind)
    await asyncio.Event().wait()


def main(kind: str, work: str, host: str) -> None:
    """Run one of the two loops."""
    if kind == "uvloop":
        import uvloop

        uvloop.install()
    asyncio.run(serve(kind, work, host))


if __name__ == "__main__":
    main(*sys.argv[1:])
