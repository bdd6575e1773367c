"""Medians, intervals, ratios and goals of a run, and all of them as text."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from bench.measure import interval, ratios
from bench.rows import Goal, Row

FULL = 0.9
"""The share of the time from which a process counts as busy all the time."""

Turns = Mapping[str, Sequence[float]]


def summary(row: Row, figures: Mapping[str, Turns], missing: Mapping[str, str]) -> dict[str, Any]:
    """Return one row as ``--json`` writes it; *figures* are those of each turn, by contender."""
    return {
        "name": row.name,
        "title": row.title,
        "unit": row.unit,
        "more": row.more,
        "digits": row.digits,
        "contenders": {
            name: contender(figures[name]) for name in row.contenders if name in figures
        },
        "missing": dict(missing),
        "goals": [judged(goal, figures) for goal in row.goals],
    }


def contender(turns: Turns) -> dict[str, Any]:
    """Return the median of each figure, the interval of that of ``value``, and all turns."""
    low, high, sure = interval(turns["value"])
    return {
        "median": {name: median(numbers) for name, numbers in turns.items()},
        "interval": [low, high],
        "confidence": sure,
        "load_was_full": load_was_full(turns),
        "turns": {name: list(numbers) for name, numbers in turns.items()},
    }


def load_was_full(turns: Turns) -> bool:
    """Return True if the load generator was busy all the time and the server was not."""
    if "load_busy" not in turns:
        return False
    return median(turns["load_busy"]) >= FULL > median(turns["server_busy"])


def judged(goal: Goal, figures: Mapping[str, Turns]) -> dict[str, Any]:
    """Return a goal with its result; ``reached`` is None if there are no figures to judge it by."""
    unjudged = {
        "of": goal.of,
        "against": goal.against,
        "figure": goal.figure,
        "limit": goal.limit,
        "more": goal.more,
        "chase": goal.chase,
        "median": None,
        "interval": None,
        "reached": None,
        "sure": None,
    }
    if goal.of not in figures or (goal.against and goal.against not in figures):
        return unjudged
    numbers = list(figures[goal.of][goal.figure])
    if goal.against:
        numbers = ratios(numbers, figures[goal.against][goal.figure])
    middle, (low, high, _) = median(numbers), interval(numbers)
    reached = middle > goal.limit if goal.more else middle <= goal.limit
    worst, best = (low, high) if goal.more else (high, low)
    beyond = worst if reached else best
    sure = (beyond > goal.limit if goal.more else beyond <= goal.limit) == reached
    return {**unjudged, "median": middle, "interval": [low, high], "reached": reached, "sure": sure}


def verdict(goal: Mapping[str, Any]) -> str:
    """Return the result of a goal in words."""
    if goal["reached"] is None:
        return "not measured"
    words = "reached" if goal["reached"] else "not reached"
    return words if goal["sure"] else f"{words}, within the interval"


def bound_of(goal: Mapping[str, Any]) -> str:
    """Return the bound of a goal in words."""
    bound = "at least" if goal["more"] else "at most"
    return f"{'chase' if goal['chase'] else 'goal'} {bound} {goal['limit']:.2f}"


def compared(goal: Mapping[str, Any]) -> str:
    """Return whose figure, or whose ratio, a goal is about."""
    what = " (CPU)" if goal["figure"] == "cpu" else ""
    return f"{goal['of']}{' / ' + goal['against'] if goal['against'] else ''}{what}"


def ratio(goal: Mapping[str, Any]) -> str:
    """Return a ratio with its interval."""
    if goal["median"] is None:
        return ""
    low, high = goal["interval"]
    return f"{goal['median']:.2f} ({low:.2f}-{high:.2f})"


def cells(row: Mapping[str, Any], name: str) -> list[str]:
    """Return the cells of a contender: value, rate, p50, p99, p99.9, server and load."""
    one, digits = row["contenders"][name], row["digits"]
    middle, (low, high) = one["median"], one["interval"]
    value = f"{middle['value']:,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"
    if "rate" not in middle:
        return [value, *[""] * 6]
    share = ""
    if "load_busy" in middle:
        share = f"{middle['load_busy']:.0%}{'*' if one['load_was_full'] else ''}"
    times = [f"{middle[key]:,.0f}" if middle["p50"] else "" for key in ("p50", "p99", "p999")]
    return [value, f"{middle['rate']:,.0f}", *times, f"{middle['server_busy']:.0%}", share]


HEADS = ["per second", "p50 µs", "p99 µs", "p99.9 µs", "server", "load"]
WIDTHS = [12, 9, 9, 9, 7, 7]


def text(result: Mapping[str, Any]) -> str:
    """Return all rows of a run as text."""
    lines = [result["machine"], ", ".join(f"{k} {v}" for k, v in result["versions"].items())]
    for row in result["rows"]:
        lines += ["", row["title"], _line("", row["unit"], HEADS)]
        for name in row["contenders"]:
            value, *others = cells(row, name)
            lines.append(_line(name, value, others))
        lines += [f"  {name}: not measured: {why}" for name, why in row["missing"].items()]
        for goal in row["goals"]:
            judgement = f"{bound_of(goal):20}  {verdict(goal)}"
            lines.append(f"  {compared(goal):46} {ratio(goal):20} {judgement}")
    lines += ["", "* the load generator was busy all the time, and the server was not"]
    lines.append(f"{result['took']} s in all")
    return "\n".join(lines)


def _line(name: str, value: str, others: Sequence[str]) -> str:
    rest = "".join(f"{cell:>{width}}" for cell, width in zip(others, WIDTHS, strict=True))
    return f"  {name:28} {value:>27}{rest}".rstrip()
