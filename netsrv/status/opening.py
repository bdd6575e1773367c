"""What a status server needs before there is a reactor: its sockets, its token, its page.

The sockets are opened with all others, before privileges are dropped.
"""

import os
from collections.abc import Mapping, Sequence

from attrs import field, frozen

from netsrv.config.model import ConfigurationError
from netsrv.config.status import NO_STATUS, StatusSettings
from netsrv.guards.sources import source_of
from netsrv.sockets.addresses import Address, InheritedName, UnixPath
from netsrv.sockets.inherited import inherited_sockets, open_inherited
from netsrv.sockets.opening import OpenSocket, open_stream, open_unix
from netsrv.sockets.options import named_option
from netsrv.status.access import TOKEN_VARIABLE, read_token
from netsrv.status.page_files import PageFiles, read_page_files

BACKLOG = 128
"""Connections that may wait in the kernel."""


@frozen
class PreparedStatus:
    """The parts of a status server."""

    settings: StatusSettings = NO_STATUS
    status: OpenSocket | None = None
    health: OpenSocket | None = None
    token: str | None = None
    files: PageFiles = field(factory=dict)

    def close(self) -> None:
        """Close the sockets."""
        for opened in (self.status, self.health):
            if opened is not None:
                opened.close()


def open_status(
    settings: StatusSettings,
    environ: Mapping[str, str] = os.environ,
    sockets: Sequence[OpenSocket] | None = None,
) -> PreparedStatus:
    """Open the sockets, and read the token and the page.

    *sockets* are those of the addresses if they are open already.  Raises `ConfigurationError` or
    `netsrv.sockets.SocketError`, and then no socket is open.
    """
    if not settings.wanted:
        return PreparedStatus(settings)
    opened: list[OpenSocket] = list(sockets or ())
    try:
        for address in (settings.address, settings.health):
            if address is not None and sockets is None:
                opened.append(open_address(address, settings.unix_mode))
        unused = iter(opened)
        status = next(unused) if settings.address is not None else None
        token = None if status is None else checked_token(settings, status, environ)
        files = read_page_files() if status is not None else {}
        return PreparedStatus(settings, status, next(unused, None), token, files)
    except BaseException:
        for one in opened:
            one.close()
        raise


def checked_token(
    settings: StatusSettings, opened: OpenSocket, environ: Mapping[str, str] = os.environ
) -> str | None:
    """Return the token for an open socket; None if it needs none.

    Raises `ConfigurationError` if there is no token and other machines can reach the socket.
    """
    try:
        token = read_token(settings.token_file, environ)
    except ValueError as error:
        raise ConfigurationError(f"status token {error}") from error
    if token is None and opened.host and not source_of(opened.host).loopback:
        raise ConfigurationError(
            f"status {opened.address}: other machines can reach this address, so it needs a "
            f"token: give --status-token-file FILE or {TOKEN_VARIABLE}; for probes alone give "
            "--health"
        )
    return token


def open_address(address: Address, mode: int | None) -> OpenSocket:
    """Open a listening socket.  Raises `netsrv.sockets.SocketError`."""
    if isinstance(address, UnixPath):
        return open_unix(address, (), BACKLOG, mode)
    if isinstance(address, InheritedName):
        transport = "unix" if inherited_sockets().find("unix", address.name) else "tcp"
        return open_inherited(transport, address, (), BACKLOG)
    return open_stream(address, (named_option("SO_REUSEADDR", 1),), BACKLOG)


NO_STATUS_SERVER = PreparedStatus()
