"""Answers of a status address: fetched each second in a thread, with rates and history kept."""

import json
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

POLL_INTERVAL = 1.0
"""Seconds."""

HISTORY_LENGTH = 120
"""Samples that are kept for the line of bars."""

Fetch = Callable[[str], dict[str, Any]]
"""Returns the answer for a path; raises OSError or ValueError."""


class Answers:
    """The newest answer, with what needs more than one: rates of listeners, the history.

    *brief* answers have no options and limits of the listeners.
    """

    def __init__(self, fetch: Fetch, brief: bool = False) -> None:
        self._fetch = fetch
        self._flag = "&brief" if brief else ""
        self.newest: dict[str, Any] | None = None
        self.history: tuple[dict[str, float], ...] = ()
        """The newest samples of the server, by the names of their columns."""

    def ask(self) -> dict[str, Any]:
        """Fetch an answer, and return it.  Raises OSError or ValueError."""
        since = self.newest["history"]["seq"] if self.newest else 0
        answer = self._fetch(f"/status.json?since={since}{self._flag}")
        before = self.newest
        if before and before["start"] != answer["start"]:
            # A new server, whose samples were asked for by the count of the old one.
            before = None
            answer["history"] = {**answer["history"], "seq": 0, "rows": []}
            self.history = ()
        columns = answer["history"]["columns"]
        rows = [dict(zip(columns, row, strict=True)) for row in answer["history"]["rows"]]
        self.history = (*self.history, *rows)[-HISTORY_LENGTH:]
        _add_rates(before, answer)
        self.newest = answer
        return answer


def _add_rates(before: dict[str, Any] | None, answer: dict[str, Any]) -> None:
    """Give each listener its ``rates``: an empty table if they are not known yet."""
    earlier = {listener["id"]: listener for listener in before["listeners"]} if before else {}
    seconds = answer["now"] - before["now"] if before else 0.0
    answer["process"]["cpu"] = (
        (answer["process"]["cpu_seconds"] - before["process"]["cpu_seconds"]) / seconds
        if before and seconds > 0
        else None
    )
    for listener in answer["listeners"]:
        last = earlier.get(listener["id"])
        listener["rates"] = {}
        if last and seconds > 0 and last["started"] == listener["started"]:
            listener["rates"] = {
                name: (number - _totals(last)[name]) / seconds
                for name, number in _totals(listener).items()
            }


def _totals(listener: dict[str, Any]) -> dict[str, int]:
    streams = listener["connections"]
    served = streams["accepted"] if streams else listener["datagrams"]["received"]
    return {"served": served, **listener["bytes"]}


class Poller(threading.Thread):
    """Asks each second, so that a server that does not answer holds up no key.

    The results are in *results*: an answer, or the error.  After each, a byte is written to
    *wakeup*, a descriptor.
    """

    def __init__(self, answers: Answers, wakeup: int) -> None:
        super().__init__(daemon=True)
        self.results: SimpleQueue[dict[str, Any] | Exception] = SimpleQueue()
        self.answers = answers
        self._wakeup = wakeup
        self._stopped = threading.Event()

    def run(self) -> None:
        """Ask until `stop` is called.  The thread calls it."""
        while not self._stopped.wait(POLL_INTERVAL):
            try:
                self.results.put(self.answers.ask())
            except Exception as error:  # which the thread of the display raises, or shows
                self.results.put(error)
            if not self._stopped.is_set():
                os.write(self._wakeup, b"\0")

    def stop(self) -> None:
        """Stop asking; the thread may still wait for an answer."""
        self._stopped.set()


def as_line(answer: dict[str, Any]) -> str:
    """Return an answer as a line of JSON, with the rates of the listeners."""
    return json.dumps(answer, separators=(",", ":"))
