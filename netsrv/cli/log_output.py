"""The output of the log of ``netsrv serve``: its form, its level, its stream."""

import os
import stat
import sys
from collections.abc import Callable, Mapping
from typing import Any

from twisted.logger import ILogObserver, LogEvent, globalLogBeginner

from netsrv.cli.log_lines import (
    PRIORITIES,
    Form,
    file_text,
    journal_text,
    json_lines,
    level_of,
    logfmt_lines,
    terminal_text,
)
from netsrv.config.model import LogFormat, LogLevel


def begin_logging(log_format: LogFormat, level: Callable[[], LogLevel]) -> None:
    """Log to standard output, if it is open; *level* returns the level in effect."""
    observers: list[ILogObserver] = []
    if sys.stdout:
        observers.append(make_log_observer(sys.stdout, log_format, level, os.environ))
    globalLogBeginner.beginLoggingTo(observers, redirectStandardIO=False)


def make_log_observer(
    stream: Any, log_format: LogFormat, level: Callable[[], LogLevel], environ: Mapping[str, str]
) -> Any:
    """Return a log observer that writes to *stream*; *environ* is the environment."""
    form = choose_form(stream, log_format, environ)

    def observe(event: LogEvent) -> None:
        if PRIORITIES[level_of(event)] <= PRIORITIES[level()] and (text := form(event)):
            stream.write(text)

    return observe


def choose_form(stream: Any, log_format: LogFormat, environ: Mapping[str, str]) -> Form:
    """Return the form for a stream: the text depends on where it goes."""
    if log_format is LogFormat.JSON:
        return json_lines()
    if log_format is LogFormat.LOGFMT:
        return logfmt_lines()
    if stream.isatty():
        plain = environ.get("NO_COLOR") or environ.get("TERM") == "dumb"
        return terminal_text(colours=not plain)
    takes_priorities = getattr(stream, "takes_priorities", False) or is_journal(stream, environ)
    return journal_text if takes_priorities else file_text()


def is_journal(stream: Any, environ: Mapping[str, str], errors: int = 2) -> bool:
    """Return True if journald reads a stream: systemd names its socket (systemd.exec(5)).

    If standard error has a socket of its own to journald, systemd names that of *errors* instead.
    """
    named = environ.get("JOURNAL_STREAM")
    if not named:
        return False
    try:
        own, other = os.fstat(stream.fileno()), os.fstat(errors)
    except OSError:
        return False
    both_sockets = stat.S_ISSOCK(own.st_mode) and stat.S_ISSOCK(other.st_mode)
    return named == _identity(own) or (both_sockets and named == _identity(other))


def _identity(status: os.stat_result) -> str:
    return f"{status.st_dev}:{status.st_ino}"
