"""The settings of the control API, the table ``[control]`` of a file."""

from __future__ import annotations

from attrs import frozen

from netsrv.config.kinds import MODE
from netsrv.config.status import HOST_NAMES, STATUS_ADDRESS, TOKEN_FILE
from netsrv.settings import Section, setting, short_repr
from netsrv.sockets.addresses import Address

CONTROL = Section("Control", "control", "control_")


@frozen(repr=False)
class ControlSettings:
    """Where the control API listens, and what its clients have to know."""

    address: Address | None = setting(
        None,
        CONTROL,
        STATUS_ADDRESS,
        "serve the control API, toxiproxy's, on ADDRESS",
        details="Its clients change faults, and create proxies. toxiproxy's clients look for port "
        "8474. An address ``127.0.0.1`` or ``localhost`` is served on ``::1`` too. On any other "
        "address than one of loopback a token is needed, see :option:`--control-token-file`. A new "
        "address needs a restart.",
        default_text="off",
        option="--control",
    )
    token_file: str | None = setting(
        None,
        CONTROL,
        TOKEN_FILE,
        "let only clients with the token in FILE use --control",
        details="The first line of the file, of at least 16 characters, is the token, which a "
        "client sends as a bearer token. The environment variable ``NETSRV_CONTROL_TOKEN``, or "
        "``TOXIPROXY_AUTH_TOKEN``, may have the token itself instead. A reload reads the file "
        "again.",
    )
    unix_mode: int | None = setting(
        None,
        CONTROL,
        MODE,
        "give the file of a unix socket these permissions",
        default_text="what the umask leaves",
        option=None,
    )
    hosts: tuple[str, ...] = setting(
        (),
        CONTROL,
        HOST_NAMES,
        "names by which clients may call the control API on loopback",
        details="As ``hosts`` of ``[status]``.",
        default_text="none",
        option=None,
    )

    __repr__ = short_repr


NO_CONTROL = ControlSettings()
