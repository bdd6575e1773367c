"""The addresses on which proxies listen, as toxiproxy writes them."""

import re
import socket

_PORT = re.compile(r"-?[0-9]+")


class ListenError(ValueError):
    """An address cannot be listened on; the text is that of Go's package net."""


def parse_listen(text: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``; an empty host is any address of both families.

    Raises `ListenError`.
    """
    if not text:
        return "", 0
    host, colon, port = text.rpartition(":")
    if not colon or (text.startswith("[") and text.endswith("]")):
        raise ListenError(f"address {text}: missing port in address")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ListenError(f"address {text}: too many colons in address")
    if not _PORT.fullmatch(port or "0"):
        try:
            return host, socket.getservbyname(port, "tcp")
        except OSError:
            raise ListenError(f"address tcp/{port}: unknown port") from None
    if not 0 <= int(port or 0) <= 65_535:
        raise ListenError(f"address {port}: invalid port")
    return host, int(port or 0)


def show_listen(host: str, port: int) -> str:
    """Return an address in effect as toxiproxy shows it."""
    if host in ("", "0.0.0.0", "::"):
        return f"[::]:{port}"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def resolve(host: str) -> str:
    """Return the numeric address of a host that proxies are mostly given, without a look-up."""
    return "127.0.0.1" if host == "localhost" else host
