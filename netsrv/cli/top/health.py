"""What is wrong with a server, by its answer: the same as on the page (``page/health.js``)."""

from collections.abc import Iterator
from typing import Any

from netsrv.cli.top.figures import count, duration, words

NEAR_LIMIT = 0.9
CERTIFICATE_DAYS = 7
LONG_LAG = 0.5
"""Seconds."""

DAY = 86400
"""Seconds."""

BAD = "bad"
WARNING = "warning"
GOOD = "good"

Problem = tuple[str, str]
"""BAD or WARNING, and a line of text."""


def problems(answer: dict[str, Any]) -> list[Problem]:
    """Return what is wrong, the worst first."""
    lines = [(BAD, text) for text in answer["reasons"]]
    for listener in answer["listeners"]:
        lines += _listener_problems(listener, answer["reasons"])
    lines += _server_problems(answer)
    return sorted(lines, key=lambda line: line[0] != BAD)


def _listener_problems(listener: dict[str, Any], reasons: list[str]) -> Iterator[Problem]:
    name, state, connections = listener["name"], listener["state"], listener["connections"]
    reason = words(listener["state_reason"])
    is_said = any(name in text for text in reasons)
    if state == "failed" and not is_said:
        yield BAD, f"{name}: failed: {reason}"
    if state == "suspended" and not is_said:
        yield WARNING, f"{name}: suspended by its owner"
    if state == "full":
        yield WARNING, f"{name}: at its limit ({reason})"
    elif connections and is_near(connections):
        now, limit = connections["now"], connections["limit"]
        yield WARNING, f"{name}: {count(now)} of {count(limit)} connections"


def _server_problems(answer: dict[str, Any]) -> Iterator[Problem]:
    if is_near(answer["connections"]):
        now, limit = answer["connections"]["now"], answer["connections"]["limit"]
        yield WARNING, f"the process has {count(now)} of {count(limit)} connections (descriptors)"
    reload = answer["config"]["last_reload"]
    if reload and reload["result"] != "success":
        error = reload["error"] or words(reload["result"])
        yield WARNING, f"the last reload has changed nothing: {error}"
    for certificate in answer["certificates"]:
        left = certificate["not_after"] - answer["now"]
        if left < 0:
            yield BAD, f"certificate {certificate['name']} has expired"
        elif left < CERTIFICATE_DAYS * DAY:
            yield WARNING, f"certificate {certificate['name']} expires in {duration(left)}"
    if (lag := answer["loop"]["lag_most"]) >= LONG_LAG:
        yield WARNING, f"the reactor was late by {duration(lag)} in the last minute"
    if faults := sum(len(listener["faults"]) for listener in answer["listeners"]):
        yield WARNING, f"{count(faults)} {'fault is' if faults == 1 else 'faults are'} active"


def is_near(connections: dict[str, Any]) -> bool:
    """Return True if a count of connections is near its limit, or at it."""
    limit = connections["limit"]
    return bool(limit) and bool(connections["now"] >= NEAR_LIMIT * limit)


def verdict(answer: dict[str, Any], lines: list[Problem]) -> Problem:
    """Return how well the server is, in a word or two."""
    if answer["state"] in ("draining", "starting"):
        return WARNING, str(answer["state"]).capitalize()
    if not answer["ready"]:
        return BAD, "Not ready"
    if any(level == BAD for level, _ in lines):
        return BAD, "Serving, with errors"
    return (WARNING, "Serving, with warnings") if lines else (GOOD, "Healthy")
