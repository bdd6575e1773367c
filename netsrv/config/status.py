"""The settings of the status server, the table ``[status]`` of a file."""

from __future__ import annotations

import re
from typing import Any

from attrs import frozen

from netsrv.config.kinds import MODE, path_in, socket_path_in
from netsrv.settings import (
    Kind,
    Section,
    parse_each,
    parse_text,
    quote_value,
    setting,
    short_repr,
)
from netsrv.sockets.addresses import (
    Address,
    InheritedName,
    InternetAddress,
    UnixPath,
    parse_port_address,
    parse_unix,
)

UNIX_PREFIX = "unix:"

_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")


def show_status_address(address: Address | None) -> str | None:
    """Return an address as `--status` takes it: ``127.0.0.1:8423``, ``unix:/run/x.sock``."""
    if address is None:
        return None
    return f"{UNIX_PREFIX}{address}" if isinstance(address, UnixPath) else str(address)


def parse_status_address(value: Any) -> Address:
    """Parse ``PORT``, ``HOST:PORT``, ``[IPV6]:PORT``, ``unix:PATH`` or ``systemd:NAME``.

    Raises ValueError.
    """
    if type(value) not in (int, str):
        raise ValueError(f"{quote_value(value)}: an address, as in '127.0.0.1:8423'")
    text = str(value)
    if text.startswith(UNIX_PREFIX):
        path = parse_unix(text.removeprefix(UNIX_PREFIX))
        if isinstance(path, InheritedName):
            raise ValueError(f"{quote_value(value)}: write {path}, without {UNIX_PREFIX}")
        return path
    address = parse_port_address(text)
    if isinstance(address, InternetAddress) and isinstance(address.port, str):
        raise ValueError(f"{quote_value(value)}: write the number of a port")
    return address


def _resolve(folder: str, value: str) -> str:
    if not value.startswith(UNIX_PREFIX):
        return value
    return f"{UNIX_PREFIX}{socket_path_in(folder, value.removeprefix(UNIX_PREFIX))}"


def _parse_host_name(value: Any) -> str:
    text = parse_text(value)
    if not _HOST_NAME.fullmatch(text):
        raise ValueError(f"{quote_value(text)}: a host name, as in 'status.example.org'")
    return text.lower()


def _parse_host_names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{quote_value(value)}: a list of host names, as in ['status.lan']")
    return parse_each(_parse_host_name, value)


STATUS_ADDRESS = Kind(
    parse_status_address,
    "an address, ``unix:`` and a path, or ``systemd:`` and the name of a socket",
    "ADDRESS",
    parse_status_address,
    plain=show_status_address,
    resolve=_resolve,
    schema={
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": 65535},
            {"type": "string", "pattern": "(^|:)[0-9]{1,5}$|^(unix|systemd):."},
        ]
    },
)
TOKEN_FILE = Kind(
    parse_text,
    "the path of a file",
    "FILE",
    parse_text,
    resolve=path_in,
    schema={"type": "string"},
)
HOST_NAMES = Kind(
    _parse_host_names,
    "a list of host names",
    schema={"type": "array", "items": {"type": "string", "pattern": f"^{_HOST_NAME.pattern}$"}},
)

STATUS = Section("Status", "status")


@frozen(repr=False)
class StatusSettings:
    """Where the status server listens, and what its clients have to know."""

    address: Address | None = setting(
        None,
        STATUS,
        STATUS_ADDRESS,
        "serve a web page, metrics and health on ADDRESS",
        details="``unix:PATH`` is a unix socket, ``systemd:NAME`` one that systemd passes. On any "
        "other address than one of loopback a token is needed, see :option:`--status-token-file`. "
        "A new address needs a restart. See :doc:`watch-a-server`.",
        default_text="off",
        option="--status",
    )
    health: Address | None = setting(
        None,
        STATUS,
        STATUS_ADDRESS,
        "serve only /livez, /readyz and /healthz on ADDRESS",
        details="It needs no token on any address, and tells nothing but ready or not: it is for "
        "the probes of Kubernetes and load balancers. A new address needs a restart.",
        default_text="off",
    )
    token_file: str | None = setting(
        None,
        STATUS,
        TOKEN_FILE,
        "let only clients with the token in FILE read --status",
        details="The first line of the file, of at least 16 characters, is the token. A client "
        "sends it as a bearer token, or as the password of basic authentication. The environment "
        "variable ``NETSRV_STATUS_TOKEN`` may have the token itself instead. A reload reads the "
        "file again.",
        option="--status-token-file",
    )
    unix_mode: int | None = setting(
        None,
        STATUS,
        MODE,
        "give the files of unix sockets these permissions",
        default_text="what the umask leaves",
        option=None,
    )
    hosts: tuple[str, ...] = setting(
        (),
        STATUS,
        HOST_NAMES,
        "names by which clients may call the server on loopback",
        details="Besides these, ``localhost`` and numeric addresses are accepted in the header "
        "``Host``, so that no web page can read the status by a name that it controls.",
        default_text="none",
        option=None,
    )

    __repr__ = short_repr

    @property
    def wanted(self) -> bool:
        """True if there is an address to serve on."""
        return self.address is not None or self.health is not None


NO_STATUS = StatusSettings()
