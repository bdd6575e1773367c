"""Sends messages to the service manager, as sd_notify(3) describes.

A message is one datagram with a line for each assignment.  Sending neither blocks nor raises: a
server does not fail because the manager does not read.
"""

import array
import os
import select
import socket
from collections.abc import Sequence

from twisted.logger import Logger

from netsrv.sockets.addresses import printable
from netsrv.sockets.steps import error_text

BARRIER_TIMEOUT = 2.0
"""Seconds for which a start waits until the manager has read all messages."""


class Notifier:
    """Sends to the socket *address*: a path, or ``@`` and an abstract name; empty for none."""

    log = Logger()

    def __init__(self, address: str = "") -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._sock: socket.socket | None = None
        self._failure = ""
        if address and address[0] not in "/@":
            self._address = ""
            self._report(f"NOTIFY_SOCKET {printable(address)} is no path and no abstract name")
        if self._address:
            self._connect()

    @property
    def enabled(self) -> bool:
        """True if there is a socket to send to."""
        return bool(self._address)

    def send(self, *assignments: str, descriptors: Sequence[int] = ()) -> bool:
        """Send assignments, as in ``READY=1``, in one message; return whether that was possible."""
        if not self._address:
            return False
        message, reason = "\n".join(assignments).encode(), ""
        for _ in range(2):  # the manager may have bound its socket again
            if self._sock is None and not self._connect():
                return False
            try:
                self._send(message, descriptors)
            except BlockingIOError as error:
                self._report(error_text(error))
                return False
            except OSError as error:
                reason = error_text(error)
                self.close()
            else:
                self._failure = ""
                return True
        self._report(reason)
        return False

    def wait_until_read(self) -> None:
        """Block until the manager has read all messages, for `BARRIER_TIMEOUT` at most."""
        read_end, write_end = os.pipe()
        try:
            sent = self.send("BARRIER=1", descriptors=[write_end])
            os.close(write_end)
            if sent:
                poll = select.poll()
                poll.register(read_end, 0)  # the manager closes its end
                poll.poll(BARRIER_TIMEOUT * 1000)
        finally:
            os.close(read_end)

    def close(self) -> None:
        """Close the socket; the next message opens another."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _send(self, message: bytes, descriptors: Sequence[int]) -> None:
        assert self._sock is not None
        ancillary = []
        if descriptors:
            rights = array.array("i", descriptors).tobytes()
            ancillary.append((socket.SOL_SOCKET, socket.SCM_RIGHTS, rights))
        self._sock.sendmsg([message], ancillary, socket.MSG_NOSIGNAL)

    def _connect(self) -> bool:
        """Connect early: after a chroot or as another user the path may be out of reach."""
        try:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        except OSError as error:
            self._report(error_text(error))
            return False
        try:
            sock.setblocking(False)
            sock.connect(self._address)
        except OSError as error:
            sock.close()
            self._report(error_text(error))
            return False
        self._sock = sock
        return True

    def _report(self, reason: str) -> None:
        """Log a reason once, until a message is sent again."""
        if reason != self._failure:
            self._failure = reason
            self.log.warn("The service manager cannot be notified: {reason}", reason=reason)
