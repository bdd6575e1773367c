"""What the control API needs before there is a reactor: its sockets and its token."""

import os
from collections.abc import Mapping

from attrs import frozen

from netsrv.config.control import NO_CONTROL, ControlSettings
from netsrv.config.model import ConfigurationError
from netsrv.guards.sources import source_of
from netsrv.sockets.addresses import Address, InternetAddress
from netsrv.sockets.opening import OpenSocket
from netsrv.sockets.steps import SocketError
from netsrv.status.access import read_token
from netsrv.status.opening import open_address

TOKEN_VARIABLES = ("NETSRV_CONTROL_TOKEN", "TOXIPROXY_AUTH_TOKEN")
"""The environment variables that may have the token; the first that is set counts."""

LOOPBACK = ("127.0.0.1", "::1")


@frozen
class PreparedControl:
    """The parts of a control API: two sockets where it listens on both addresses of loopback."""

    settings: ControlSettings = NO_CONTROL
    sockets: tuple[OpenSocket, ...] = ()
    token: str | None = None

    def close(self) -> None:
        """Close the sockets."""
        for opened in self.sockets:
            opened.close()


def open_control(
    settings: ControlSettings, environ: Mapping[str, str] = os.environ
) -> PreparedControl:
    """Open the sockets, and read the token.

    Raises `ConfigurationError` or `netsrv.sockets.SocketError`, and then no socket is open.
    """
    if settings.address is None:
        return PreparedControl(settings)
    opened = open_address(settings.address, settings.unix_mode)
    try:
        token = checked_token(settings, opened, environ)
    except BaseException:
        opened.close()
        raise
    other = _open_other(settings.address, opened)
    return PreparedControl(settings, (opened, *other), token)


def checked_token(
    settings: ControlSettings, opened: OpenSocket, environ: Mapping[str, str] = os.environ
) -> str | None:
    """Return the token for an open socket; None if it needs none.

    Raises `ConfigurationError` if there is no token and other machines can reach the socket.
    """
    try:
        token = read_token(settings.token_file, environ, TOKEN_VARIABLES)
    except ValueError as error:
        raise ConfigurationError(f"control token {error}") from error
    if token is None and opened.host and not source_of(opened.host).loopback:
        raise ConfigurationError(
            f"control {opened.address}: other machines can reach this address, so it needs a "
            f"token: give --control-token-file FILE or {TOKEN_VARIABLES[0]}"
        )
    return token


def _open_other(address: Address, opened: OpenSocket) -> list[OpenSocket]:
    """Open the other address of loopback on the same port: a client may look for either.

    It is none if the user has asked for ``::1``, or if the address cannot be had.
    """
    asked = address.host if isinstance(address, InternetAddress) else ""
    if opened.host not in LOOPBACK or asked not in ("127.0.0.1", "localhost"):
        return []
    [other] = (host for host in LOOPBACK if host != opened.host)
    try:
        return [open_address(InternetAddress(other, opened.port), None)]
    except SocketError:
        return []


NO_CONTROL_SERVER = PreparedControl()
