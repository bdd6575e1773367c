"""The kinds of values that only a listener has: addresses, socket options, file modes."""

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from netsrv.files import STANDARD_OUTPUT
from netsrv.settings import Kind, parse_each, parse_integer, parse_text, quote_value
from netsrv.sockets.addresses import (
    MAX_SUN_PATH,
    SYSTEMD,
    InheritedName,
    InternetAddress,
    UnixPath,
    parse_port_address,
    parse_unix,
    split_service,
)
from netsrv.sockets.options import SocketOption, named_option, parse_option

_MODE = re.compile("(0o)?[0-7]{3,4}")


def _parse_internet(value: Any) -> InternetAddress | InheritedName:
    if type(value) not in (int, str):
        raise ValueError(f"{quote_value(value)}: an address, as in '127.0.0.1:7'")
    service, address = split_service(str(value), "")
    if service:
        raise ValueError(
            f"{quote_value(value)}: write service = {quote_value(service)} and the address alone"
        )
    return parse_port_address(address)


def _parse_unix(value: Any) -> UnixPath | InheritedName:
    return parse_unix(parse_text(value))


def _parse_mode(value: Any) -> int:
    if isinstance(value, str) and _MODE.fullmatch(value):
        value = int(value, 8)
    elif type(value) is int and _looks_octal(value):
        raise ValueError(
            f"{value}: the number is decimal, 0o{value:o} in octal; write permissions as "
            f"'0{value}', or as '0{value:o}' if those are meant"
        )
    if type(value) is not int or not 0 <= value <= 0o777:
        raise ValueError(f"{quote_value(value)}: permissions in octal, as in '0660' or 0o660")
    return value


def _looks_octal(number: int) -> bool:
    """Return True for 444, say, which TOML reads as decimal: as 0o674.

    TOML does not tell 432 from 0o660.  So a number of octal digits is taken for what it is only
    if it gives the group and others no more than the owner, and its digits do not.
    """
    if re.fullmatch("[0-7]{3}", str(number)) is None or number >= 0o777:
        return False
    return not _graded(number) or _graded(int(str(number), 8))


def _graded(mode: int) -> bool:
    """Return True if the group has no more permissions than the owner, and others no more."""
    owner, group, others = mode >> 6, mode >> 3 & 7, mode & 7
    return not (group & ~owner or others & ~group)


def _parse_socket_option(item: tuple[str, Any]) -> SocketOption:
    name, value = item
    if type(value) not in (int, str):
        raise ValueError(
            f"{quote_value(value)}: a whole number, or a text where the option takes one"
        )
    option = named_option(str(name), value)
    if isinstance(option.value, int):
        parse_integer(value)
    else:
        parse_text(value)
    return option


def _parse_socket_options(value: Any) -> tuple[SocketOption, ...]:
    if not isinstance(value, Mapping):
        raise ValueError(
            f"{quote_value(value)}: options by their names, as in {{'SO_RCVBUF': 65536}}"
        )
    return parse_each(_parse_socket_option, value)


def _split_socket_options(texts: Sequence[str]) -> tuple[SocketOption, ...]:
    return parse_each(parse_option, texts)


def path_in(folder: str, path: str) -> str:
    """Return an absolute path: a relative one begins in *folder*.  ``-`` and ``""`` stay."""
    return path if path in ("", STANDARD_OUTPUT) else os.path.join(folder, path)


def socket_path_in(folder: str, path: str) -> str:
    """Return an absolute path, or the one from the working directory if only that is short enough.

    The kernel takes paths of `MAX_SUN_PATH` bytes.
    """
    if path.startswith(SYSTEMD):
        return path
    absolute = path_in(folder, path)
    if len(os.fsencode(absolute)) > MAX_SUN_PATH and "\0" not in absolute:
        with suppress(OSError):  # the working directory was deleted
            return min(absolute, os.path.relpath(absolute), key=len)
    return absolute


INTERNET = Kind(
    _parse_internet,
    "an address",
    "[SERVICE=]ADDRESS",
    parse_port_address,
    schema={
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": 65535},
            {"type": "string", "pattern": "^systemd:.|(^|:)([0-9]{1,5}|same)$"},
        ]
    },
)
UNIX = Kind(
    _parse_unix,
    "a path",
    "[SERVICE=]PATH",
    parse_unix,
    resolve=socket_path_in,
    schema={"type": "string", "minLength": 1},
)
MODE = Kind(
    _parse_mode,
    '``"0660"`` or ``0o660``',
    "MODE",
    _parse_mode,
    schema={
        "anyOf": [
            {"type": "string", "pattern": f"^{_MODE.pattern}$"},
            {"type": "integer", "minimum": 0, "maximum": 0o777},
        ]
    },
)
SOCKET_OPTIONS = Kind(
    _parse_socket_options,
    "a table of names and values: whole numbers, and texts where the option takes one, as in "
    '``SO_LINGER = "1:0"``',
    "NAME=VALUE",
    _split_socket_options,
    repeatable=True,
    schema={
        "type": "object",
        "propertyNames": {"pattern": "^(SO|TCP|UDP|IP|IPV6)_[A-Z0-9_]+$"},
        "additionalProperties": {"type": ["integer", "string"]},
    },
)
LOG_FILE = Kind(
    parse_text,
    'the path of a file, or ``"-"``',
    "FILE|-",
    parse_text,
    resolve=path_in,
    schema={"type": "string"},
)
