"""The decision which requests are answered: by the names of hosts, their origin, and a token."""

import hmac
import socket
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter

from attrs import frozen

from netsrv.files import read_text_file
from netsrv.settings import MAX_SHOWN_PATH, shorten

TOKEN_VARIABLE = "NETSRV_STATUS_TOKEN"
"""The environment variable that may have the token."""

MIN_TOKEN_LENGTH = 16
"""Characters."""

MAX_TOKEN_FILE_SIZE = 4096
"""Bytes."""

LOCAL_NAMES = ("localhost", "ip6-localhost")

Headers = Callable[[str], Sequence[str]]
"""Returns the values of a request's header by its name."""


@frozen
class Refusal:
    """Why a request is not answered: the status of HTTP, and the reason."""

    status: int
    reason: str


@frozen
class AccessRules:
    """The requests that a listener answers."""

    token: str | None = None
    """The token that each request needs; None if none is needed."""
    names: tuple[str, ...] = ()
    """Names of hosts that are accepted besides those of loopback."""
    any_name: bool = False
    """True if the header ``Host`` is not checked, as on a unix socket."""
    names_key: str = "[status] hosts"
    """Where a user adds to *names*."""

    def refuse(self, headers: Headers) -> Refusal | None:
        """Return why a request is not answered; None if it is."""
        hosts = headers("Host")
        if len(hosts) > 1:
            return Refusal(400, "more than one Host")
        host = host_name(hosts[0]) if hosts else None
        if host is not None and not self._knows(host):
            return Refusal(403, f"this name is not one of the server; see {self.names_key}")
        if _is_cross_site(headers, hosts):
            return Refusal(403, "a request of another site")
        if self.token is not None and not _has_token(headers("Authorization"), self.token):
            return Refusal(401, "a token is needed")
        return None

    def _knows(self, host: str) -> bool:
        """Return True for a host that no other site can have: not a name that it controls."""
        if self.any_name or self.token is not None:
            return True  # a site that is reached by another name has no token
        if host in (*LOCAL_NAMES, *self.names) or host.endswith(".localhost"):
            return True
        return _is_numeric(host)


def host_name(value: str) -> str:
    """Return the host of a header ``Host``, in lower case, without the port and a final dot."""
    host = value.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")


def read_token(
    file: str | None, environ: Mapping[str, str], variables: Sequence[str] = (TOKEN_VARIABLE,)
) -> str | None:
    """Return the token of a file, or of a variable of the environment; None if there is none.

    Raises ValueError.
    """
    if file is None:
        given = ((name, environ.get(name, "").strip()) for name in variables)
        origin, token = next(filter(itemgetter(1), given), ("", ""))
        if not token:
            return None
    else:
        origin = shorten(file, MAX_SHOWN_PATH)
        try:
            text = read_text_file(file, MAX_TOKEN_FILE_SIZE)
        except ValueError as error:
            raise ValueError(f"{origin}: {error}") from error
        token = text.strip().partition("\n")[0].strip()
    if len(token) < MIN_TOKEN_LENGTH or not token.isascii() or not token.isprintable():
        raise ValueError(
            f"{origin}: a token has at least {MIN_TOKEN_LENGTH} printable ASCII characters"
        )
    return token


def _is_numeric(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return True
    return False


def _is_cross_site(headers: Headers, hosts: Sequence[str]) -> bool:
    """Return True for a request that the page of another site makes (W3C Fetch Metadata).

    To follow a link to the page is none: it shows nothing to the other site.
    """
    [site] = headers("Sec-Fetch-Site")[-1:] or ["none"]
    if site not in ("none", "same-origin"):
        return headers("Sec-Fetch-Mode") != ["navigate"] or headers("Sec-Fetch-Dest") != [
            "document"
        ]
    origins = headers("Origin")
    return bool(origins) and origins[-1].partition("://")[2] != (hosts[0] if hosts else "")


def _has_token(values: Sequence[str], token: str) -> bool:
    """Return True if a header ``Authorization`` has the token, or has it as its password."""
    if len(values) != 1:
        return False
    scheme, _, credentials = values[0].strip().partition(" ")
    given = credentials.strip()
    if scheme.lower() == "basic":
        try:
            given = b64decode(given, validate=True).decode().partition(":")[2]
        except ValueError:
            return False
    elif scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(given.encode(), token.encode())
