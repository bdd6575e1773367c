"""Measure netsrv and others side by side in one run: what their servers cost.

Usage: python -m bench.compare [--rounds N] [--only ROW,...] [--quick] [--json FILE]

All contenders of a row run at the same time and take turns under the same load, in an order
that rotates, so that what disturbs the machine disturbs all alike.  A round to warm up is not
counted.  docs/benchmark.rst explains the figures.
"""

import argparse
import datetime
import json
import math
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.measure import machine, versions
from bench.processes import COMPILER, LoadError, compile_programs, cores, raise_descriptors
from bench.report import summary, text
from bench.rows import ROWS, Row, absent
from bench.turns import KINDS, Figures, pace

QUICK = {"rounds": 3, "seconds": 0.1}
"""The settings of ``--quick``, unless other options override them."""

DEFAULTS = {"rounds": 15, "seconds": 0.4}

FEWER_ROUNDS = {"memory": 3}
"""Divisors of the number of rounds, for kinds that hardly vary and need no warming up."""

MORE_ROUNDS = {"paced": 4}
"""Factors of the number of rounds, for kinds whose turns are shorter by the same factor.

A stall of the whole machine sets the 99.9th percentile of its turn, so most turns must have none.
"""

SPARE_DESCRIPTORS = 200
"""Descriptors beside those of the peers."""


class Progress:
    """Shows on standard error what is being measured; without a terminal, one line per row."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._began = time.monotonic()

    def row(self, number: int, count: int, row: Row) -> None:
        """Show that a row begins."""
        seconds = time.monotonic() - self._began
        self._head = f"[{seconds:4.0f} s] {number}/{count} {row.name}"
        print(f"\r\033[K{self._head}" if self._terminal else self._head, file=sys.stderr)

    def turn(self, number: int, rounds: int, name: str) -> None:
        """Show whose turn it is; round 0 is the one to warm up."""
        if self._terminal:
            state = f"round {number} of {rounds}" if number else "warming up"
            print(f"\r\033[K  {state}: {name}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Clear the line."""
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


class Measurement:
    """One row: its contenders, the missing ones with their reasons, and the figures."""

    def __init__(self, row: Row, host: str, folder: Path) -> None:
        self.row = row
        self._host, self._folder = host, folder
        self.missing: dict[str, str] = {}
        self.measured: dict[str, list[Figures]] = defaultdict(list)

    def run(self, rounds: int, seconds: float, progress: Progress) -> None:
        """Let each contender have its turn in each round, after a round to warm up."""
        with ExitStack() as stack:
            running = self._start(stack, progress)
            names = list(running)
            for number in range(int(self.row.kind in FEWER_ROUNDS), rounds + 1):
                if number == 1 and self.row.kind == "paced":
                    pace(one for name, one in running.items() if name not in self.missing)
                turn = number % max(1, len(names))
                for name in names[turn:] + names[:turn]:
                    if name in self.missing:
                        continue
                    progress.turn(number, rounds, name)
                    try:
                        figures = running[name].turn(seconds)
                    except (AssertionError, LoadError, OSError) as error:
                        self._drop(name, error)
                        continue
                    if number:
                        self.measured[name].append(figures)

    def _start(self, stack: ExitStack, progress: Progress) -> dict[str, Any]:
        running = {}
        for name in self.row.contenders:
            progress.turn(0, 0, name)
            if reason := absent(name):
                self.missing[name] = reason
                continue
            try:
                running[name] = KINDS[self.row.kind](name, self.row, self._host, self._folder)
                stack.callback(running[name].close)
            except (AssertionError, LoadError, OSError) as error:
                self._drop(name, error)
        return running

    def _drop(self, name: str, error: Exception) -> None:
        """Go on without a contender; the last line of its error is the reason."""
        self.missing[name] = str(error).strip().splitlines()[-1]
        self.measured.pop(name, None)

    def result(self) -> dict[str, Any]:
        """Return the row as ``--json`` writes it."""
        figures = {
            name: {key: [figures[key] for figures in turns] for key in turns[0]}
            for name, turns in self.measured.items()
        }
        return summary(self.row, figures, self.missing)


def unable(row: Row, descriptors: int, compiled: str | None) -> str | None:
    """Return the reason why no contender can be measured at this row, or None."""
    if row.kind == "start":
        return None
    if compiled:
        return f"{compiled}; the load generator is written in C"
    needed = row.words[0] + SPARE_DESCRIPTORS
    if descriptors < needed:
        return f"it needs {needed} descriptors, and {descriptors} are allowed (ulimit -Hn)"
    return None


def compare(rows: list[Row], rounds: int, seconds: float, host: str) -> dict[str, Any]:
    """Measure some rows; return what ``--json`` writes."""
    date = datetime.datetime.now(datetime.UTC)
    began, progress = time.monotonic(), Progress()
    results = []
    with tempfile.TemporaryDirectory(prefix="netsrv-bench-") as name:
        folder = Path(name)
        descriptors, compiled = raise_descriptors(), compile_programs(folder)
        for number, row in enumerate(rows, 1):
            progress.row(number, len(rows), row)
            measurement = Measurement(row, host, folder)
            if reason := unable(row, descriptors, compiled):
                measurement.missing = dict.fromkeys(row.contenders, reason)
            else:
                factor = MORE_ROUNDS.get(row.kind, 1)
                number_of_rounds = math.ceil(rounds / FEWER_ROUNDS.get(row.kind, 1)) * factor
                measurement.run(number_of_rounds, seconds / factor, progress)
            results.append(measurement.result())
    progress.end()
    return {
        "began": date.isoformat(timespec="seconds"),
        "took": round(time.monotonic() - began),
        "machine": machine(),
        "versions": versions(COMPILER),
        "cores": dict(zip(("servers", "load"), cores(), strict=True)),
        "settings": {"rounds": rounds, "seconds": seconds, "host": host},
        "rows": results,
    }


def rows_named(names: str | None) -> list[Row]:
    """Return the rows of these names, or all.  Raises ValueError for an unknown name."""
    if names is None:
        return list(ROWS)
    known = {row.name: row for row in ROWS}
    for name in names.split(","):
        if name not in known:
            raise ValueError(f"--only {name}: there is no such row; there are {', '.join(known)}")
    return [known[name] for name in names.split(",")]


def positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    """Return a parser of numbers above 0, which raises ValueError for others."""

    def number(text: str) -> float:
        if not 0 < (value := kind(text)) < math.inf:
            raise ValueError(text)
        return value

    number.__name__ = f"number above 0: {kind.__name__}"  # argparse shows it
    return number


def main() -> None:
    """Measure, print the text, and write the JSON."""
    parser = argparse.ArgumentParser(prog="bench.compare", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=positive(int), help="turns of each contender, default 15")
    parser.add_argument("--seconds", type=positive(float), help="length of a turn, default 0.4")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 0.1 seconds")
    parser.add_argument("--only", metavar="ROW,...", help="measure these rows only")
    parser.add_argument("--host", default="127.0.0.1", help="an IPv4 address of this machine")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # only a first start compiles modules
    settings = QUICK if options.quick else DEFAULTS
    try:
        rows = rows_named(options.only)
        if options.json:
            options.json.touch()  # an error is due now, not after the run
    except (OSError, ValueError) as error:
        parser.error(str(error))
    rounds = int(options.rounds or settings["rounds"])
    result = compare(rows, rounds, options.seconds or settings["seconds"], options.host)
    print(text(result))
    if options.json:
        options.json.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
