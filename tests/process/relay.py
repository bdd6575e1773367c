"""A relay with a delay between two UDP servers, each of which sees it as a peer."""

import heapq
import select
import socket
import threading
import time

from tests.process.networks import Host
from tests.timeouts import TIMEOUT

SIZE = 65_535

SILENCE = 0.5
"""Seconds after which nothing more comes; longer than any round trip."""


class Relay:
    """Passes each datagram of one server to the other, *delay* seconds later.

    It has a socket for each server, at *address* of *host*.  `passed` counts datagrams.
    """

    def __init__(self, host: Host, address: str, ports: tuple[int, int], delay: float) -> None:
        self.passed = 0
        self._delay = delay
        self._socks = [host.open(socket.AF_INET, socket.SOCK_DGRAM) for _ in ports]
        for sock, port in zip(self._socks, ports, strict=True):
            sock.bind((address, 0))
            sock.connect((address, port))
        self._ended = False
        self._silent = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Relay":
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ended = True
        self._thread.join()
        for sock in self._socks:
            sock.close()

    def forge(self, data: bytes) -> None:
        """Send a datagram to the first server, as if the second one had sent it."""
        self._socks[0].send(data)

    def is_silent(self) -> bool:
        """Wait until there is nothing to pass for `SILENCE`; return False if there always is."""
        self._silent.clear()
        return self._silent.wait(TIMEOUT)

    def _run(self) -> None:
        waiting: list[tuple[float, int, socket.socket, bytes]] = []
        while not self._ended:
            now = time.monotonic()
            while waiting and waiting[0][0] <= now:
                *_, sock, data = heapq.heappop(waiting)
                sock.send(data)
            timeout = max(0.0, waiting[0][0] - now) if waiting else SILENCE
            readable, _, _ = select.select(self._socks, [], [], timeout)
            if not readable and not waiting:
                self._silent.set()
            for sock in readable:
                other = self._socks[sock is self._socks[0]]
                self.passed += 1
                due = time.monotonic() + self._delay
                heapq.heappush(waiting, (due, self.passed, other, sock.recv(SIZE)))
