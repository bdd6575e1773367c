"""Lines of the log of workers, passed on: one process writes the log of all."""

import json
import sys
from datetime import datetime
from typing import Any

from twisted.logger import LogLevel, globalLogPublisher


def relay_lines(index: int, data: bytes) -> None:
    """Log the lines that the worker *index* has logged as JSON; write any others as they are.

    An event has its fields, and ``worker``; the options of the log hold as for an event of our own.
    """
    for line in data.decode(errors="backslashreplace").splitlines():
        try:
            event = _event_of(json.loads(line), index)
        except (ValueError, KeyError, TypeError, AttributeError):
            sys.stdout.write(f"{line}\n")
        else:
            globalLogPublisher(event)


def _event_of(record: dict[str, Any], index: int) -> dict[str, Any]:
    """Return the event of a line that a worker has logged as JSON."""
    at, level = record.pop("time"), record.pop("level")
    text = "\n".join(filter(None, (record.pop("message"), record.pop("traceback", ""))))
    return {
        "log_time": datetime.fromisoformat(at).timestamp(),
        "log_level": LogLevel.levelWithName(level),
        "log_namespace": "netsrv",
        "log_format": "{log_text}",
        "log_text": text,
        **record,
        "worker": index,
    }
