"""A client of the status server, for commands that start fast: plain sockets, no Twisted."""

import os
import re
import socket
import time
from collections.abc import Sequence
from typing import NamedTuple

MAX_ANSWER_SIZE = 2**28
"""Bytes of an answer."""

DEFAULT_HOST = "127.0.0.1"

ADDRESS_VARIABLE = "NETSRV_STATUS"
TOKEN_VARIABLE = "NETSRV_STATUS_TOKEN"

_TARGET = re.compile(
    r"(?:(?:http://)?(?:\[(?P<ipv6>[^\]]+)\]|(?P<host>[^:/\[\]]+)):)?(?P<port>[0-9]{1,5})(?:/.*)?"
)
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3})\b")
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+) *\r\n", re.IGNORECASE)


class Target(NamedTuple):
    """The address of a status server: a host and a port, or the path of a unix socket."""

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Answer(NamedTuple):
    """The answer to a request: the status of HTTP, and the content."""

    status: int
    body: bytes


def parse_target(text: str) -> Target:
    """Parse ``PORT``, ``HOST:PORT``, ``[IPV6]:PORT``, ``http://HOST:PORT`` or ``unix:PATH``.

    Raises ValueError.
    """
    if text.startswith("unix:") and len(text) > len("unix:"):
        return Target("", 0, text.removeprefix("unix:"))
    match = _TARGET.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise ValueError(f"{text[:60]!r}: an address is PORT, HOST:PORT, [IPV6]:PORT or unix:PATH")
    return Target(match["ipv6"] or match["host"] or DEFAULT_HOST, int(match["port"]))


def read_token(file: str | None, variables: Sequence[str] = (TOKEN_VARIABLE,)) -> str:
    """Return the token in a file, or in a variable of the environment; empty if there is none.

    Raises OSError or ValueError.
    """
    if file is None:
        return next(filter(None, (os.environ.get(name, "").strip() for name in variables)), "")
    with open(file, encoding="utf-8") as opened:
        return opened.readline().strip()


def fetch(
    target: Target,
    path: str,
    token: str = "",
    timeout: float = 5.0,
    method: str = "GET",
    content: bytes = b"",
) -> Answer:
    """Send a request, and return the answer within *timeout* seconds.

    Raises OSError if the server cannot be reached, and ValueError if its answer is not HTTP.
    """
    deadline = time.monotonic() + timeout
    host = "localhost" if target.path else str(target)
    lines = [f"{method} {path} HTTP/1.0", f"Host: {host}", *_authorization(token)]
    if content:
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    with _connect(target, timeout) as sock:
        sock.sendall("\r\n".join([*lines, "", ""]).encode() + content)
        data = bytearray()
        while len(data) <= MAX_ANSWER_SIZE:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no answer within {timeout:g} s")
            sock.settimeout(left)
            chunk = sock.recv(2**18)
            if not chunk:
                break
            data += chunk
    return _parse(bytes(data))


def _authorization(token: str) -> list[str]:
    return [f"Authorization: Bearer {token}"] if token else []


def _connect(target: Target, timeout: float) -> socket.socket:
    if not target.path:
        return socket.create_connection((target.host, target.port), timeout)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(timeout)
        sock.connect(target.path)
    except BaseException:
        sock.close()
        raise
    return sock


def _parse(data: bytes) -> Answer:
    head, separator, body = data.partition(b"\r\n\r\n")
    status = _STATUS_LINE.match(head)
    length = _LENGTH.search(head + b"\r\n")
    if not (status and separator):
        raise ValueError("the answer is not HTTP")
    if length and len(body) < int(length[1]):
        raise ValueError("the answer was cut off")
    return Answer(int(status[1]), body)
