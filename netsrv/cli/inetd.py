"""``netsrv serve --inetd``: serves the socket on descriptor 0.

inetd, xinetd, tcpserver and systemd's units with ``Accept=yes`` pass one connection, and start a
process for each; or they pass a listening or a datagram socket, and wait until the process ends.
Their sockets are often on the descriptors 1 and 2 too: then lines of the log would be sent to the
peer, and go to syslog instead.
"""

import io
import os
import re
import socket
import stat
import sys
import syslog
from typing import Any

from netsrv.cli.printing import ExitStatus, print_error
from netsrv.config.model import ConfigurationError
from netsrv.server.server import Server
from netsrv.sockets.inherited import inherited_sockets, is_listening, transport_of
from netsrv.streams.connected import is_connected

IDLE_TIMEOUT = 60.0
"""Seconds without a new peer after which a process with a socket for many peers ends."""

STANDARD_DESCRIPTORS = (0, 1, 2)


class SyslogStream(io.TextIOBase):
    """A stream of lines for syslog(3); each may begin with its priority, as in ``<6>``."""

    takes_priorities = True

    def write(self, text: str) -> int:
        for line in text.splitlines():
            match = re.match("<([0-7])>", line)
            priority = int(match[1]) if match else syslog.LOG_ERR
            syslog.syslog(syslog.LOG_DAEMON | priority, line[3:] if match else line)
        return len(text)

    def isatty(self) -> bool:
        return False


def separate_streams() -> None:
    """Replace standard output and error by syslog where they are the socket on descriptor 0."""
    identity = _identity(0)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        if identity is not None and _identity(descriptor) == identity:
            _replace_by_null(descriptor)
            syslog.openlog("netsrv", syslog.LOG_PID)
            setattr(sys, name, SyslogStream())


def take_socket() -> socket.socket:
    """Return the socket on descriptor 0, or the only one that systemd has passed.

    No other descriptor of the process has it then, so that the peer sees its end.  Raises
    `ConfigurationError`; SystemExit if the peer has reset the connection.
    """
    passed = [entry.sock for entry in inherited_sockets().sockets if entry.sock is not None]
    identity = _identity(0)
    if identity is not None:
        sock = socket.socket(fileno=os.dup(0))
    elif len(passed) == 1:
        sock = passed[0].dup()
        identity = _identity(sock.fileno())
    else:
        kind = "a terminal" if os.isatty(0) else "no socket"
        raise ConfigurationError(
            f"--inetd: descriptor 0 is {kind}; inetd, xinetd, tcpserver or systemd has to start "
            "netsrv, and to pass a socket there"
        )
    for descriptor in STANDARD_DESCRIPTORS:
        if _identity(descriptor) == identity:
            _replace_by_null(descriptor)
    for other in passed:
        if _identity(other.fileno()) == identity:
            other.close()
    if not transport_of(sock):
        kind = socket.SocketKind(sock.type).name
        family = socket.AddressFamily(sock.family).name
        sock.close()
        raise ConfigurationError(f"--inetd: a socket {kind} of {family} cannot be served")
    if sock.type == socket.SOCK_STREAM and not (is_connected(sock) or is_listening(sock)):
        print_error("netsrv: --inetd: the peer has left already")
        raise SystemExit(ExitStatus.DRAINED)
    return sock


def _identity(descriptor: int) -> tuple[int, int] | None:
    """Return what identifies the socket of a descriptor; None if it is no socket."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISSOCK(status.st_mode) else None


def _replace_by_null(descriptor: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, descriptor)
    os.close(null)


def stop_when_served(reactor: Any, server: Server, connected: bool) -> None:
    """Stop the reactor when the connection has ended, or when no new peer has come for a while."""
    [listener] = server.listeners
    if connected:
        listener.gate.close()
        listener.gate.when_drained().addCallback(
            lambda _result: reactor.callWhenRunning(reactor.stop)
        )
    else:
        IdleStop(reactor, server).look()


class IdleStop:
    """Stops *reactor* once no connection is open and no new peer has come for `IDLE_TIMEOUT`."""

    def __init__(self, reactor: Any, server: Server) -> None:
        self._reactor = reactor
        self._server = server
        self._seen: tuple[int, int] | None = None

    def look(self) -> None:
        """Compare the counts with those of the look before."""
        counts = self._server.counters.listeners.values()
        now = (
            sum(count.accepted for count in counts),
            sum(count.datagrams_received for count in counts),
        )
        if now == self._seen and not self._server.connections:
            self._reactor.stop()
            return
        self._seen = now
        self._reactor.callLater(IDLE_TIMEOUT, self._look_again)

    def _look_again(self) -> None:
        if self._server.running:
            self.look()
