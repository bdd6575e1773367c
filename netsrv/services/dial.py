"""Connecting to an upstream on a reactor that takes connected sockets, as the uvloop reactor does.

A name is looked up by the reactor's resolver.  Its addresses are tried one after the other, each
with an equal part of the time.
"""

import errno
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.interfaces import IResolutionReceiver, IWriteDescriptor
from zope.interface import implementer

from netsrv.services.forward import Upstream

Target = tuple[int, Any]
"""A family of addresses, and an address as `socket.socket.connect` takes it."""

REASONS = {
    errno.ECONNREFUSED: "refused",
    errno.ENOENT: "refused",
    errno.ETIMEDOUT: "timeout",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
}
"""How metrics and the access log call errors; others are ``error``."""

RETRY_DELAY = 0.1
"""Seconds until a unix socket whose backlog is full is tried again."""


@implementer(IWriteDescriptor)
class Dial:
    """One connection to an upstream: *connected* gets its socket, or *failed* a reason."""

    def __init__(
        self,
        reactor: Any,
        address: Upstream,
        timeout: float,
        connected: Callable[[socket.socket], None],
        failed: Callable[[str], None],
    ) -> None:
        self._reactor = reactor
        self._timeout = timeout
        self._began = reactor.seconds()
        self._connected = connected
        self._failed = failed
        self._sock: socket.socket | None = None
        self._timer: Any = None
        self._reason = "lookup"
        self._ended = False
        self._left: list[Target] = []
        if address.path or address.is_numeric:
            self._begin([target_of(address)])
        else:
            receiver = Addresses(self._begin)
            reactor.nameResolver.resolveHostName(receiver, address.host, address.port)
            if not (self._left or self._ended or self._timer):
                self._call_later(timeout, lambda: self._end("lookup"))

    def cancel(self) -> None:
        """Give up."""
        self._ended = True
        self._forget()

    def _begin(self, targets: list[Target]) -> None:
        if not self._ended:
            self._left = targets
            left = self._timeout - (self._reactor.seconds() - self._began)  # after the look-up
            self._timeout = max(left, 0.0) / max(len(targets), 1)
            self._try_next()

    def _try_next(self) -> None:
        self._forget()
        if not self._left:
            self._end(self._reason)
            return
        family, sockaddr = self._left.pop(0)
        self._call_later(self._timeout, self._time_out)
        try:
            self._sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            if family != socket.AF_UNIX:
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            number = self._sock.connect_ex(sockaddr)
        except OSError as error:  # no descriptor is left, or the path is too long
            number = error.errno or errno.EINVAL
        if number == errno.EAGAIN and family == socket.AF_UNIX:
            self._retry((family, sockaddr))
        elif number == errno.EINPROGRESS:
            self._reactor.addWriter(self)
        else:
            self._tried(number)

    def _retry(self, target: Target) -> None:
        """Try a unix socket whose backlog is full again, as long as there is time."""
        self._left.insert(0, target)
        self._timeout -= RETRY_DELAY
        self._reason = "timeout"
        self._call_later(RETRY_DELAY, self._try_next if self._timeout > 0 else self._time_out)

    def _tried(self, number: int) -> None:
        sock = self._sock
        if number or sock is None:
            self._reason = REASONS.get(number, "error")
            self._try_next()
            return
        self._sock = None
        self._ended = True
        self._forget()
        self._connected(sock)

    def _time_out(self) -> None:
        self._timer = None
        self._reason = "timeout"
        self._try_next()

    def _end(self, reason: str) -> None:
        self._timer = None
        if not self._ended:
            self.cancel()
            self._failed(reason)

    def _call_later(self, seconds: float, call: Callable[[], None]) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self._reactor.callLater(seconds, call)

    def _forget(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if self._sock is not None:
            self._reactor.removeWriter(self)
            self._sock.close()
            self._sock = None

    # What the reactor calls

    def fileno(self) -> int:
        return -1 if self._sock is None else self._sock.fileno()

    def doWrite(self) -> None:
        """The attempt has come to its end."""
        self._reactor.removeWriter(self)
        if self._sock is not None:
            self._tried(self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def connectionLost(self, reason: Any) -> None:
        """An error waits in the socket."""
        self.doWrite()

    def logPrefix(self) -> str:
        return "forward"


def target_of(address: Upstream) -> Target:
    """Return the target of an address that is no name."""
    if address.path:
        return socket.AF_UNIX, address.path
    [(family, _, _, _, sockaddr), *_] = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
    )
    return family, sockaddr


@implementer(IResolutionReceiver)
class Addresses:
    """Collects the addresses of a name; *found* is called with all of them."""

    def __init__(self, found: Callable[[list[Target]], None]) -> None:
        self._found = found
        self._targets: list[Target] = []

    def resolutionBegan(self, resolution: Any) -> None:
        """The look-up has begun."""

    def addressResolved(self, address: Any) -> None:
        with suppress(AttributeError):
            family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
            self._targets.append((family, (address.host, address.port)))

    def resolutionComplete(self) -> None:
        self._found(self._targets)
