"""Version 1: a line of text (section 2.1)."""

import re
import socket

from netsrv.proxy_protocol.header import Command, Family, Header, HeaderError, Rules, Transport

START = b"PROXY "

MAX_SIZE = 107
"""Bytes of the longest line, CR LF included."""

_NUMBER = "(?:0|[1-9][0-9]{0,2})"
_IPV4 = re.compile(rf"{_NUMBER}(?:\.{_NUMBER}){{3}}".encode())
_IPV6 = re.compile(rf"[0-9A-Fa-f:]+(?:(?<=:){_NUMBER}(?:\.{_NUMBER}){{3}})?".encode())
_PROTOCOLS = {
    b"TCP4": (Family.INET, socket.AF_INET, _IPV4),
    b"TCP6": (Family.INET6, socket.AF_INET6, _IPV6),
}
_PORT = re.compile(rb"0|[1-9][0-9]{0,4}")


def parse(data: bytes, rules: Rules) -> Header | None:
    """Parse a line that begins with `START`; see `netsrv.proxy_protocol.parse`."""
    line, end, _ = data[:MAX_SIZE].partition(b"\r\n")
    if b"\n" in line or b"\r" in (line if end else line[:-1]):
        raise HeaderError("CR or LF alone in the line of version 1")
    if not end:
        if len(line) >= MAX_SIZE:
            raise HeaderError(f"no CR LF in the first {MAX_SIZE} bytes of version 1")
        return None
    size = len(line) + len(end)
    words = line.split(b" ")
    if words[1] != b"UNKNOWN":
        return _parse_words(words, size, rules)
    if not rules.unspec:
        raise HeaderError("UNKNOWN, which gives no addresses")
    return Header(1, size)


def _parse_words(words: list[bytes], size: int, rules: Rules) -> Header:
    if len(words) != 6:
        raise HeaderError("not six words with single spaces in the line of version 1")
    protocol = _PROTOCOLS.get(words[1])
    if protocol is None:
        raise HeaderError("a protocol other than TCP4, TCP6 and UNKNOWN in version 1")
    family, af, pattern = protocol
    hosts = [_parse_host(word, af, pattern) for word in words[2:4]]
    source, destination = zip(hosts, map(_parse_port, words[4:6]), strict=True)
    return Header(1, size, Command.PROXY, family, Transport.STREAM, source, destination)


def _parse_host(word: bytes, af: int, pattern: re.Pattern[bytes]) -> str:
    try:
        if pattern.fullmatch(word):
            return socket.inet_ntop(af, socket.inet_pton(af, word.decode()))
    except OSError:
        pass
    raise HeaderError("an address that does not fit its protocol in version 1")


def _parse_port(word: bytes) -> int:
    if not _PORT.fullmatch(word) or int(word) > 65535:
        raise HeaderError("a port that is no number from 0 to 65535 in version 1")
    return int(word)
