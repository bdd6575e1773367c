"""A client in the thread of the reactor that it speaks to."""

import socket
import struct
from typing import Any

from tests.timeouts import TIMEOUT as PATIENCE


class Peer:
    """A client made of Python's sockets, which runs the reactor while it waits."""

    def __init__(self, runner: Any, *address: Any) -> None:
        self._runner = runner
        family = socket.AF_INET6 if ":" in str(address[0]) else socket.AF_INET
        if len(address) == 1:
            family = socket.AF_UNIX
        self.sock = socket.socket(family)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(address if len(address) > 1 else address[0])
        self.sock.setblocking(False)

    def read(self, size: int = 1 << 20) -> bytes:
        """Wait for data, and return it; empty bytes are the end."""
        return bytes(self._runner.until(lambda: self._received(size))[0])

    def read_all(self) -> bytes:
        """Read until the server has ended."""
        pieces = []
        while piece := self.read():
            pieces.append(piece)
        return b"".join(pieces)

    def send(self, data: bytes) -> None:
        """Send everything, and read nothing meanwhile."""
        left = memoryview(data)

        def gone() -> bool:
            nonlocal left
            left = left[self._sent(left) :]
            return not left

        self._runner.until(gone)

    def exchange(self, data: bytes) -> bytes:
        """Send everything and FIN, and read meanwhile; return everything read."""
        left = memoryview(data)
        pieces: list[bytes] = []

        def moved() -> bool:
            nonlocal left
            if left:
                left = left[self._sent(left) :]
                if not left:
                    self.end()
            pieces.extend(self._received(1 << 20) or ())
            return pieces[-1:] == [b""]

        self._runner.until(moved)
        return b"".join(pieces)

    def end(self) -> None:
        """Send FIN."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def _received(self, size: int) -> list[bytes] | None:
        try:
            return [self.sock.recv(size)]
        except BlockingIOError:
            return None

    def _sent(self, data: memoryview) -> int:
        try:
            return self.sock.send(data)
        except BlockingIOError:
            return 0
