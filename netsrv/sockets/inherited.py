"""Sockets that the service manager passes to the process, as sd_listen_fds(3) describes.

systemd creates them, starts the process when they are needed, and keeps them when it ends.  So
a descriptor of ours is only ever closed: shutdown(2) would end the socket for systemd too, and
the file of a unix socket is not ours to remove.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

from attrs import define, field, frozen

from netsrv.settings import quote_value
from netsrv.sockets.addresses import InheritedName, show_sockaddr
from netsrv.sockets.opening import OpenSocket
from netsrv.sockets.options import SocketOption
from netsrv.sockets.steps import (
    AddressUnavailable,
    OptionInEffect,
    error_text,
    listen,
    set_late_options,
)

FIRST_DESCRIPTOR = 3
"""The descriptor of the first socket (SD_LISTEN_FDS_START)."""

UNNAMED = "unknown"
"""The name of each socket if systemd gives no names."""

STORED = "netsrv/"
"""Begins the names of sockets that netsrv itself has left in systemd's descriptor store."""

MAX_STORED_NAME = 255
"""Characters of a name in the store (FDNAME_MAX of systemd)."""

VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")

_TRANSPORTS = {
    (socket.AF_INET, socket.SOCK_STREAM): "tcp",
    (socket.AF_INET6, socket.SOCK_STREAM): "tcp",
    (socket.AF_INET, socket.SOCK_DGRAM): "udp",
    (socket.AF_INET6, socket.SOCK_DGRAM): "udp",
    (socket.AF_UNIX, socket.SOCK_STREAM): "unix",
}
"""The transports by family and type."""


@frozen(eq=False)
class PassedSocket:
    """A descriptor that was passed."""

    name: str
    position: int
    sock: socket.socket | None
    """None if it is no socket."""

    @property
    def transport(self) -> str:
        """The transport that can serve it: ``tcp``, ``udp``, ``unix``; empty if there is none."""
        return "" if self.sock is None else transport_of(self.sock)

    @property
    def is_closed(self) -> bool:
        """True if it is a socket that was closed meanwhile."""
        return self.sock is not None and self.sock.fileno() == -1

    @property
    def address(self) -> Any:
        """The address that it is bound to, as the kernel returns it; None if it is no socket."""
        return None if self.sock is None else self.sock.getsockname()

    def __str__(self) -> str:
        if self.sock is None:
            return f"{self.name} (no socket)"
        kind = self.transport or f"unsupported, {socket.SocketKind(self.sock.type).name}"
        return f"{self.name} ({kind} {show_sockaddr(self.sock.getsockname())})"


@define(eq=False)
class InheritedSockets:
    """The sockets that were passed to this process."""

    sockets: Sequence[PassedSocket] = ()
    """Those of socket units."""
    stored: Sequence[PassedSocket] = ()
    """Those that an earlier process of the unit has stored."""
    problem: str = ""
    """Why there are none, for the user; empty if there are some."""
    passed: bool = False
    """True if the service manager has tried to pass some."""
    claimed: dict[str, OpenSocket] = field(factory=dict)
    """The stored sockets of listeners that are about to be opened, by their address labels."""
    _used: set[int] = field(factory=set)
    """The positions of the sockets that some listener has used."""

    @property
    def unused(self) -> list[PassedSocket]:
        """The sockets that no listener has used so far."""
        return [
            entry
            for entry in self.sockets
            if entry.position not in self._used and not entry.is_closed
        ]

    def find(self, transport: str, name: str) -> list[PassedSocket]:
        """Return the sockets of a name, or the one at a position, that a transport can serve."""
        return [entry for entry in self._named(name) if entry.transport == transport]

    def _named(self, name: str) -> list[PassedSocket]:
        named = [entry for entry in self.sockets if entry.name == name]
        if named or not (name.isdecimal() and len(name) < 10):
            return named
        return [entry for entry in self.sockets if entry.position == int(name)]

    def choose(self, transport: str, address: InheritedName) -> PassedSocket:
        """Return the socket of an address, or raise `AddressUnavailable` with a remedy."""
        label = f"{transport} {address}"
        if self.problem:
            raise AddressUnavailable(f"{label}: {self.problem}", at_start=not self.passed)
        fitting = self.find(transport, address.name)
        number = address.occurrence or 0
        if number >= len(fitting):
            raise AddressUnavailable(f"{label}: {self._why_none(transport, address.name)}")
        chosen = fitting[number]
        assert chosen.sock is not None
        if transport != "udp" and not is_listening(chosen.sock):
            raise AddressUnavailable(f"{label}: the socket {chosen} does not listen")
        self._used.add(chosen.position)
        return chosen

    def _why_none(self, transport: str, name: str) -> str:
        for entry in self._named(name):
            if entry.transport:
                return f"the socket is {entry}; write --{entry.transport}, or {entry.transport} ="
            return f"systemd has passed {entry}, which netsrv cannot serve"
        there = ", ".join(map(str, self.sockets)) or "none"
        return f"there is no such socket; systemd has passed {there}"


def transport_of(sock: socket.socket) -> str:
    """Return the transport that can serve a socket; empty if there is none."""
    return _TRANSPORTS.get((sock.family, sock.type), "")


def is_listening(sock: socket.socket) -> bool:
    """Return True if a stream socket listens."""
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def take_from_environment(environ: MutableMapping[str, str], pid: int) -> InheritedSockets:
    """Take the sockets that are meant for the process *pid*, and remove the variables.

    The sockets become close-on-exec.  Variables for another process are left alone.
    """
    nothing = (
        "systemd has passed no socket (LISTEN_FDS is not set); start netsrv by a socket unit, or "
        "by systemd-socket-activate"
    )
    owner, count = environ.get("LISTEN_PID"), environ.get("LISTEN_FDS")
    if owner is None and count is None:
        return InheritedSockets(problem=nothing)
    if owner != str(pid):
        return InheritedSockets(
            problem=f"the sockets were passed to the process {quote_value(owner or '')} "
            f"(LISTEN_PID), and this is {pid}; the command of the unit must be netsrv itself",
            passed=True,
        )
    values = {name: environ.pop(name, None) for name in VARIABLES}
    try:
        entries = _read(values["LISTEN_FDS"] or "", values["LISTEN_FDNAMES"])
        stored = [entry for entry in entries if entry.name.startswith(STORED)]
        sockets = [entry for entry in entries if entry not in stored]
        return InheritedSockets(sockets, stored, passed=True)
    except ValueError as error:
        return InheritedSockets(problem=str(error), passed=True)


def _read(count: str, names: str | None) -> list[PassedSocket]:
    """Return the sockets.  Raises ValueError for variables that do not fit."""
    if not (count.isascii() and count.isdecimal() and len(count) < 10 and int(count) > 0):
        raise ValueError(f"LISTEN_FDS is {quote_value(count)}, and not a number of sockets")
    number = int(count)
    for descriptor in range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + number):
        try:
            os.set_inheritable(descriptor, False)
        except OSError as error:
            text = f"LISTEN_FDS is {number}, and descriptor {descriptor} is not open"
            raise ValueError(text) from error
    named = names.split(":") if names else [UNNAMED] * number
    if len(named) != number:
        raise ValueError(f"LISTEN_FDNAMES has {len(named)} names, and LISTEN_FDS is {number}")
    return [
        PassedSocket(name, position, _as_socket(FIRST_DESCRIPTOR + position))
        for position, name in enumerate(named)
    ]


def _as_socket(descriptor: int) -> socket.socket | None:
    """Return the socket of a descriptor; None if it is that of something else."""
    try:
        return socket.socket(fileno=descriptor)
    except OSError:
        return None


@cache
def inherited_sockets() -> InheritedSockets:
    """Return the sockets that were passed to this process.

    The first call takes them from the environment.
    """
    _restore_count(os.environ)
    return take_from_environment(os.environ, os.getpid())


def unused_sockets() -> Iterator[str]:
    """Yield a line about each inherited socket that no listener uses."""
    if inherited_sockets.cache_info().currsize:
        for entry in inherited_sockets().unused:
            yield f"No listener uses the socket {entry} of systemd: its clients wait in vain"


def claimed_socket(label: str) -> OpenSocket | None:
    """Return the stored socket that was claimed for an address, once."""
    if not inherited_sockets.cache_info().currsize:
        return None
    return inherited_sockets().claimed.pop(label, None)


def _restore_count(environ: MutableMapping[str, str]) -> None:
    """Restore the variables that `twisted.internet.endpoints` removes when it is imported."""
    endpoints: Any = sys.modules.get("twisted.internet.endpoints")
    if endpoints is None or "LISTEN_FDS" in environ:
        return
    with suppress(AttributeError):  # Twisted has no public way to what it has taken
        if descriptors := endpoints._SystemdParser._sddaemon.inheritedDescriptors():
            environ["LISTEN_FDS"] = str(len(descriptors))
            environ["LISTEN_PID"] = str(os.getpid())


def open_inherited(
    transport: str,
    address: InheritedName,
    options: Sequence[SocketOption] = (),
    backlog: int = 1024,
) -> OpenSocket:
    """Return the inherited socket of an address, for a listener of ``tcp``, ``udp`` or ``unix``.

    The descriptor is a duplicate: the socket can be opened again after it was closed.  Raises
    `netsrv.sockets.SocketError`, and then nothing stays open.
    """
    label = f"{transport} {address}"
    chosen = inherited_sockets().choose(transport, address)
    assert chosen.sock is not None
    try:
        sock = chosen.sock.dup()
    except OSError as error:
        raise AddressUnavailable(f"{label}: {error_text(error)}") from error
    return adopt(sock, label, options, backlog)


def adopt(
    sock: socket.socket, label: str, options: Sequence[SocketOption], backlog: int
) -> OpenSocket:
    """Return a bound socket with *options*.  Raises `SocketError`, and then it is closed."""
    try:
        sock.setblocking(False)
        in_effect: list[OptionInEffect] = set_late_options(sock, options, label)
        if sock.type == socket.SOCK_STREAM and is_listening(sock):
            in_effect.append(listen(sock, backlog))
        return OpenSocket(sock, label, tuple(in_effect))
    except OSError as error:
        sock.close()
        raise AddressUnavailable(f"{label}: {error_text(error)}") from error
    except BaseException:
        sock.close()
        raise
