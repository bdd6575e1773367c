"""A service manager of the test: the socket that NOTIFY_SOCKET names."""

import array
import os
import re
import socket
from contextlib import suppress
from typing import Any

from tests.timeouts import CLIENT_TIMEOUT


class Receiver:
    """Receives notifications at *address*, a path or an abstract name with ``@``.

    Use it in a ``with`` statement, which closes the stored sockets too.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.messages: list[str] = []
        self.stored: dict[str, socket.socket] = {}
        """The store: the sockets that came with FDSTORE=1, by their names."""
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self._sock.settimeout(CLIENT_TIMEOUT)

    def __enter__(self) -> "Receiver":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._sock.close()
        for sock in self.stored.values():
            sock.close()

    def receive(self) -> str:
        """Wait for a message; act on it as systemd does, and return it."""
        message, ancillary, _, _ = self._sock.recvmsg(4096, 1024)
        descriptors = [number for _, _, data in ancillary for number in array.array("i", data)]
        text = message.decode()
        lines = dict(line.split("=", 1) for line in text.split("\n"))
        self._act(lines, descriptors)
        self.messages.append(text)
        return text

    def _act(self, lines: dict[str, str], descriptors: list[int]) -> None:
        if "FDSTORE" in lines:
            [descriptor] = descriptors
            self.stored[lines["FDNAME"]] = socket.socket(fileno=descriptor)
        elif "FDSTOREREMOVE" in lines:
            self.stored.pop(lines["FDNAME"]).close()
        else:
            for descriptor in descriptors:  # the end of a barrier
                os.close(descriptor)

    def all(self) -> list[str]:
        """Return the messages that have come and were not returned before."""
        before = len(self.messages)
        self._sock.settimeout(0)
        with suppress(BlockingIOError):
            while True:
                self.receive()
        self._sock.settimeout(CLIENT_TIMEOUT)
        return self.messages[before:]

    def wait_for(self, pattern: str) -> Any:
        """Return the match of the next message that matches *pattern*."""
        while True:
            if match := re.search(pattern, self.receive()):
                return match
