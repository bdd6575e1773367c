"""The lines of the log of ``netsrv serve``, in each of its forms.

Each form turns an event of `twisted.logger` into the text of one record; None for an event
without a message.
"""

import re
import time
from collections.abc import Callable, Iterator
from json.encoder import encode_basestring_ascii as quoted
from math import isfinite
from typing import Any

from twisted.logger import LogEvent, formatEvent

from netsrv.settings import exception_text
from netsrv.sockets.addresses import printable

Form = Callable[[LogEvent], str | None]
"""Returns the text of an event, with the end of its last line."""

COLOURS = {"critical": "1;31", "error": "31", "warn": "33", "debug": "2"}
"""Attributes of the terminal for each level (ECMA-48, 8.3.117)."""

PRIORITIES = {"critical": 2, "error": 3, "warn": 4, "info": 6, "debug": 7}
"""The levels as syslog has them (sd-daemon(3))."""

OWN_FIELDS = frozenset(
    {"time", "level", "message", "traceback", "system", "format", "isError", "failure", "why"}
)
"""Fields that this module writes, or that Twisted adds to an event of its old interface."""

_BARE_VALUE = re.compile(r"[A-Za-z0-9_.:/@%+,()\[\]-]+")
_NOT_IN_A_KEY = re.compile(r"[^A-Za-z0-9_.-]")


class LocalTime:
    """Formats a Unix time in local time; the text of a second is made once."""

    def __init__(self, form: str) -> None:
        self._form = form
        self._second = -1
        self._text = self._offset = ""

    def short(self, seconds: float) -> str:
        """Return the text of the second."""
        if int(seconds) != self._second:
            self._second = int(seconds)
            local = time.localtime(self._second)
            self._text = time.strftime(self._form, local)
            offset = time.strftime("%z", local)
            self._offset = f"{offset[:3]}:{offset[3:]}"
        return self._text

    def full(self, seconds: float) -> str:
        """Return the text with milliseconds and the offset from UTC (ISO 8601)."""
        text = self.short(seconds)
        return f"{text}.{int(seconds * 1000) % 1000:03}{self._offset}"


def level_of(event: LogEvent) -> str:
    """Return the name of an event's level; one of Twisted's old interface has ``isError``."""
    level = event.get("log_level")
    if level is not None:
        return str(level.name)
    return "error" if event.get("isError") else "info"


def traceback_of(event: LogEvent) -> str:
    """Return the traceback of an event's failure; empty if there is none."""
    failure = event.get("log_failure")
    if failure is None:
        return ""
    try:
        return str(failure.getTraceback()).rstrip("\n")
    except Exception as error:  # a third party's exception may do anything
        return exception_text(error)


def lines_of(event: LogEvent) -> list[str]:
    """Return message and traceback, escaped, a line each."""
    message = formatEvent(event)
    if message.isprintable() and "log_failure" not in event:
        return [message] if message else []
    text = "\n".join(filter(None, (message, traceback_of(event))))
    return [printable(line.expandtabs()) for line in text.split("\n")] if text else []


# Text


def file_text() -> Form:
    """Return the form with the full time: for files and pipes."""
    clock = LocalTime("%Y-%m-%dT%H:%M:%S")
    return _text(lambda seconds: f"{clock.full(seconds)} ", lambda level: level)


def terminal_text(colours: bool) -> Form:
    """Return the form with the time of day: for a terminal."""
    clock = LocalTime("%H:%M:%S")

    def coloured(level: str) -> str:
        return f"\x1b[{COLOURS[level]}m{level}\x1b[0m" if colours else level

    return _text(lambda seconds: f"{clock.short(seconds)}  ", coloured)


def _text(show_time: Callable[[float], str], show_level: Callable[[str], str]) -> Form:
    """Return the form with the time, the level unless it is ``info``, and the message."""

    def form(event: LogEvent) -> str | None:
        lines = lines_of(event)
        if not lines:
            return None
        level = level_of(event)
        shown = "" if level == "info" else f"{show_level(level)}: "
        text = "\n\t".join(lines)
        return f"{show_time(event['log_time'])}{shown}{text}\n"

    return form


def journal_text(event: LogEvent) -> str | None:
    """Return the lines of an event as journald reads them: each with its priority."""
    priority = PRIORITIES[level_of(event)]
    lines = lines_of(event)
    return "".join(f"<{priority}>{line}\n" for line in lines) or None


# Fields


def json_lines() -> Form:
    """Return the form with an object of JSON a line."""
    return _fields_in("{", ",", "}\n", lambda key, value: f"{quoted(key)}:{_json_value(value)}")


def logfmt_lines() -> Form:
    """Return the form with ``key=value`` pairs."""

    def pair(key: str, value: Any) -> str:
        return f"{_NOT_IN_A_KEY.sub('_', key)}={_logfmt_value(value)}"

    return _fields_in("", " ", "\n", pair)


def _fields_in(begin: str, separator: str, end: str, pair: Callable[[str, Any], str]) -> Form:
    """Return the form with the pairs of a record between *begin* and *end*."""
    clock = LocalTime("%Y-%m-%dT%H:%M:%S")

    def form(event: LogEvent) -> str | None:
        pairs = [pair(key, value) for key, value in _fields(event, clock.full)]
        return f"{begin}{separator.join(pairs)}{end}" if pairs else None

    return form


def _fields(event: LogEvent, clock: Callable[[float], str]) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of a record: time, level, message, and the event's own."""
    message, traceback = formatEvent(event), traceback_of(event)
    if not (message or traceback):
        return
    yield "time", clock(event["log_time"])
    yield "level", level_of(event)
    yield "message", message
    for key, value in event.items():
        if not key.startswith("log_") and key not in OWN_FIELDS:
            yield key, value
    if traceback:
        yield "traceback", traceback


def _json_value(value: Any) -> str:
    if type(value) is str:
        return quoted(value)
    return _number_or_word(value) or quoted(_text_of(value))


def _logfmt_value(value: Any) -> str:
    text = value if type(value) is str else _number_or_word(value) or _text_of(value)
    return text if _BARE_VALUE.fullmatch(text) else quoted(text)


def _number_or_word(value: Any) -> str:
    """Return a number, a boolean or None as JSON has it; empty for all other values."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value)) if value.bit_length() < 64 else ""
    return repr(value) if type(value) is float and isfinite(value) else ""


def _text_of(value: Any) -> str:
    try:
        return f"0x{value:x}" if isinstance(value, int) else str(value)
    except Exception as error:  # a third party's object may do anything
        return exception_text(error)
