"""The tables of ``netsrv top``: columns, each with the key that sorts by it."""

import time
from collections.abc import Callable
from typing import Any

from attrs import frozen

from netsrv.cli.top.figures import count, duration, rate, reasons, size, words
from netsrv.cli.top.health import is_near

Item = dict[str, Any]


@frozen
class Column:
    """A column of a table."""

    title: str
    text: Callable[[Item], str]
    key: str = ""
    """The key that sorts by it, or "" if none does."""
    sort: Callable[[Item], Any] = lambda item: 0
    width: int | None = None
    """In characters; None for the rest of the line."""
    is_text: bool = False
    """True if it stands on the left, and sorts from A to Z."""
    priority: int = 0
    """Columns with the highest leave a narrow terminal first."""
    style: Callable[[Item], str] = lambda item: ""


@frozen
class View:
    """A table."""

    title: str
    items: Callable[[Item], list[Item]]
    """Return the rows of an answer."""
    columns: tuple[Column, ...]


STATE_STYLES = {"serving": "green", "failed": "bold red", "closing": "dim"}


def _number(
    title: str, key: str, value: Callable[[Item], Any], width: int, priority: int = 0
) -> Column:
    return Column(title, lambda item: count(value(item)), key, value, width, priority=priority)


def _time(title: str, key: str, value: Callable[[Item], float]) -> Column:
    return Column(title, lambda item: duration(value(item)), key, value, 11)


def _connections(name: str) -> Callable[[Item], Any]:
    return lambda listener: listener["connections"] and listener["connections"][name]


def _lost(listener: Item) -> dict[str, int]:
    table: dict[str, int] = (
        listener["connections"]["refused"]
        if listener["connections"]
        else listener["datagrams"]["dropped"]
    )
    return table


def _rate(name: str, title: str, key: str, show: Callable[[Any], str], priority: int) -> Column:
    def value(listener: Item) -> Any:
        return listener["rates"].get(name)

    return Column(title, lambda item: show(value(item)), key, value, 10, priority=priority)


def _near_style(listener: Item) -> str:
    connections = listener["connections"]
    return "bold yellow" if connections and is_near(connections) else ""


def _clock(item: Item) -> str:
    return time.strftime("%H:%M:%S", time.localtime(item["time"]))


def _started(worker: Item) -> str:
    return "-" if worker["start"] is None else _clock({"time": worker["start"]})


def _state(listener: Item) -> str:
    reason = words(listener["state_reason"])
    return f"{listener['state']}: {reason}" if reason else str(listener["state"])


LISTENERS = View(
    "Listeners",
    lambda answer: answer["listeners"],
    (
        Column("Listener", lambda item: item["id"], "l", lambda item: item["id"], is_text=True),
        Column(
            "State",
            _state,
            "s",
            lambda item: item["state"],
            16,
            is_text=True,
            style=lambda item: STATE_STYLES.get(item["state"], "yellow"),
        ),
        Column(
            "Now",
            lambda item: count(_connections("now")(item)),
            "n",
            _connections("now"),
            7,
            style=_near_style,
        ),
        _number("Most", "m", _connections("most"), 7, 3),
        _number("Limit", "i", _connections("limit"), 7, 2),
        _rate("served", "Rate /s", "r", rate, 0),
        _rate("received", "Recv /s", "v", size, 1),
        _rate("sent", "Sent /s", "t", size, 1),
        _number("Refused", "u", lambda item: sum(_lost(item).values()), 9),
        _number("Errors", "e", lambda item: sum(item["errors"].values()), 7, 4),
        _number("Faults", "f", lambda item: len(item["faults"]), 7, 5),
        Column("Reasons", lambda item: reasons(_lost(item)), is_text=True, width=30, priority=6),
    ),
)
TIME = Column("Time", _clock, width=8, is_text=True)
PEER = Column("Peer", lambda item: item["peer"], width=24, is_text=True)
REASON = Column("Reason", lambda item: words(item["reason"]), width=18, is_text=True)
WHERE = Column("Listener", lambda item: item["listener"] or "server", is_text=True)


def _newest(name: str) -> Callable[[Item], list[Item]]:
    return lambda answer: answer["recent"][name][::-1]


VIEWS = (
    LISTENERS,
    View("Refusals", _newest("refusals"), (TIME, PEER, REASON, WHERE)),
    View(
        "Endings",
        _newest("endings"),
        (
            TIME,
            PEER,
            REASON,
            Column("After", lambda item: duration(item["seconds"]), width=11),
            Column("In", lambda item: size(item["received"]), width=9, priority=1),
            Column("Out", lambda item: size(item["sent"]), width=9, priority=1),
            WHERE,
        ),
    ),
    View(
        "Sources",
        lambda answer: answer["sources"],
        (
            Column("Source", lambda item: item["source"], width=40, is_text=True),
            Column("Connections", lambda item: count(item["connections"]), width=11),
            WHERE,
        ),
    ),
    View(
        "Events",
        _newest("events"),
        (
            TIME,
            Column("Event", lambda item: words(item["event"]), width=15, is_text=True),
            Column("Text", lambda item: item["text"], is_text=True),
            Column("Listener", lambda item: item["listener"] or "server", width=32, is_text=True),
        ),
    ),
    View(
        "Workers",
        lambda answer: (answer.get("workers") or {}).get("processes", []),
        (
            _number("Worker", "w", lambda item: item["index"], 7),
            Column("Process", lambda item: str(item["pid"]), width=9),
            Column("State", lambda item: item["state"], "s", lambda item: item["state"], 9, True),
            _number("Connections", "n", lambda item: item["connections"], 11),
            _number("Accepted", "a", lambda item: item["accepted"], 12),
            _number("Datagrams", "d", lambda item: item["datagrams"], 12, 2),
            _time("CPU", "c", lambda item: item["cpu_seconds"]),
            Column("Memory", lambda item: size(item["resident"]), width=9, priority=1),
            Column("Started", _started, width=9, priority=3),
        ),
    ),
)
"""All tables, in the order of the keys 1 to 6."""
