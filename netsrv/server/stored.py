"""Matches the sockets of systemd's descriptor store with the listeners of a new start.

A stored socket belongs to the listener whose address it is bound to; its name does not count.
"""

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from attrs import evolve

from netsrv.config.model import ListenerSettings, Transport
from netsrv.sockets.addresses import SAME, InternetAddress, UnixPath
from netsrv.sockets.inherited import PassedSocket, adopt, inherited_sockets
from netsrv.sockets.opening import OpenSocket, resolve
from netsrv.sockets.steps import AddressUnavailable, SocketError


class StillStored:
    """The keeper of a claimed socket until its listener is started: systemd has it still."""

    def release(self, opened: OpenSocket) -> bool:
        """Return True: the socket stays open, and so its file stays."""
        return True


def claim_stored(listeners: Sequence[ListenerSettings]) -> list[PassedSocket]:
    """Claim the sockets of systemd's descriptor store for the listeners with their addresses.

    `open_socket` returns them.  Returns those that no listener can have.
    """
    inherited = inherited_sockets()
    unclaimed = list(inherited.stored)
    ports = (settings.port for settings in listeners if settings.transport is Transport.TCP)
    same = next(ports, None)
    for settings in listeners if unclaimed else ():
        with suppress(SocketError, OSError):
            passed = _find_stored(settings, same, unclaimed)
            if passed is not None:
                inherited.claimed[settings.address_label] = _adopt_stored(settings, passed)
                unclaimed.remove(passed)
    return unclaimed


def _find_stored(
    settings: ListenerSettings, same: int | str | None, stored: Sequence[PassedSocket]
) -> PassedSocket | None:
    """Return the stored socket that is bound to a listener's address."""
    address = settings.address
    wanted: Any = None
    if isinstance(address, UnixPath):
        wanted = os.path.abspath(address.path)
    elif isinstance(address, InternetAddress):
        port = (same or 0) if address.port == SAME else address.port
        kind = socket.SOCK_STREAM if settings.transport.is_stream else socket.SOCK_DGRAM
        _, sockaddr = resolve(settings.address_label, evolve(address, port=port), kind)
        wanted = (sockaddr[0] or "0.0.0.0", *sockaddr[1:])
    for passed in stored:
        if passed.transport == settings.transport and wanted == passed.address:
            return passed
    return None


def _adopt_stored(settings: ListenerSettings, passed: PassedSocket) -> OpenSocket:
    """Return a stored socket, ready for a listener.  Raises `SocketError` if it cannot be used."""
    assert passed.sock is not None
    label, path = settings.address_label, passed.sock.getsockname()
    identity = None
    if settings.transport is Transport.UNIX:
        status = os.lstat(path)
        identity = (path, status.st_dev, status.st_ino)
        if not passed.name.endswith(f"/{status.st_dev}-{status.st_ino}"):
            raise AddressUnavailable(f"{label}: another file is in the place of the socket's")
    opened = adopt(passed.sock.dup(), label, settings.all_options(), settings.backlog)
    opened.unix_identity = identity
    opened.keeper = StillStored()
    opened.chmod(settings.mode)
    passed.sock.close()
    return opened
