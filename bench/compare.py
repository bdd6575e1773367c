"""netsrv and others, side by side in one run: what their servers cost, and what is promised.

Usage: python -m bench.compare [--rounds N] [--only ROW,...] [--quick] [--json FILE] [--svg DIR]

All contenders of a row run at the same time, and one after another has a turn under the same
load, in an order that rotates; so what disturbs the machine disturbs all alike.  A round to
warm up is not counted.  docs/benchmark.rst says what the figures mean.
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
from bench.plot import draw
from bench.processes import COMPILER, LoadError, compile_programs, cores, raise_descriptors
from bench.report import summary, text
from bench.rows import ROWS, Row, absent
from bench.turns import KINDS, Figures

QUICK = {"rounds": 3, "seconds": 0.1}
"""What ``--quick`` means, unless it is said otherwise."""

USUAL = {"rounds": 15, "seconds": 0.4}

SELDOM = {"memory": 3}
"""How many times fewer rounds there are of what hardly differs, and needs no warming up either."""

SPARE = 200
"""Descriptors beside those of the peers."""


class Progress:
    """Tells on standard error what is being measured: one line, or one a row without a terminal."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._began = time.monotonic()

    def row(self, number: int, count: int, row: Row) -> None:
        """A row begins."""
        seconds = time.monotonic() - self._began
        self._head = f"[{seconds:4.0f} s] {number}/{count} {row.name}"
        print(f"\r\033[K{self._head}" if self._terminal else self._head, file=sys.stderr)

    def turn(self, number: int, rounds: int, name: str) -> None:
        """A contender has its turn; round 0 is the one to warm up."""
        if self._terminal:
            state = f"round {number} of {rounds}" if number else "warming up"
            print(f"\r\033[K  {state}: {name}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """All is done."""
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


class Measurement:
    """One row: its contenders, those that have dropped out, and what was measured."""

    def __init__(self, row: Row, host: str, folder: Path) -> None:
        self.row = row
        self._host, self._folder = host, folder
        self.missing: dict[str, str] = {}
        self.measured: dict[str, list[Figures]] = defaultdict(list)

    def run(self, rounds: int, seconds: float, progress: Progress) -> None:
        """Give each contender its turn in each round, after a round to warm up."""
        with ExitStack() as stack:
            there = self._start(stack, progress)
            names = list(there)
            for number in range(int(self.row.kind in SELDOM), rounds + 1):
                turn = number % max(1, len(names))
                for name in names[turn:] + names[:turn]:
                    if name in self.missing:
                        continue
                    progress.turn(number, rounds, name)
                    try:
                        figures = there[name].turn(seconds)
                    except (AssertionError, LoadError, OSError) as error:
                        self._drop(name, error)
                        continue
                    if number:
                        self.measured[name].append(figures)

    def _start(self, stack: ExitStack, progress: Progress) -> dict[str, Any]:
        there = {}
        for name in self.row.contenders:
            progress.turn(0, 0, name)
            if reason := absent(name):
                self.missing[name] = reason
                continue
            try:
                there[name] = KINDS[self.row.kind](name, self.row, self._host, self._folder)
                stack.callback(there[name].close)
            except (AssertionError, LoadError, OSError) as error:
                self._drop(name, error)
        return there

    def _drop(self, name: str, error: Exception) -> None:
        """Go on without one; the last line of what it said is the reason."""
        self.missing[name] = str(error).strip().splitlines()[-1]
        self.measured.pop(name, None)

    def result(self) -> dict[str, Any]:
        """Give all that is known about the row, as JSON takes it."""
        figures = {
            name: {key: [each[key] for each in turns] for key in turns[0]}
            for name, turns in self.measured.items()
        }
        return summary(self.row, figures, self.missing)


def unable(row: Row, descriptors: int, compiled: str | None) -> str | None:
    """Give the reason why nobody can be measured at this work, or None."""
    if row.kind == "start":
        return None
    if compiled:
        return f"{compiled}; the load generator is written in C"
    needed = row.words[0] + SPARE
    if descriptors < needed:
        return f"it needs {needed} descriptors, and {descriptors} are allowed (ulimit -Hn)"
    return None


def compare(rows: list[Row], rounds: int, seconds: float, host: str) -> dict[str, Any]:
    """Measure some rows; give what ``--json`` writes."""
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
                fewer = math.ceil(rounds / SELDOM.get(row.kind, 1))
                measurement.run(fewer, seconds, progress)
            results.append(measurement.result())
    progress.end()
    return {
        "began": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "took": round(time.monotonic() - began),
        "machine": machine(),
        "versions": versions(COMPILER),
        "cores": dict(zip(("servers", "load"), cores(), strict=True)),
        "settings": {"rounds": rounds, "seconds": seconds, "host": host},
        "rows": results,
    }


def chosen(names: str | None) -> list[Row]:
    """Give the rows of these names, all without; raises ValueError for one that there is not."""
    if names is None:
        return list(ROWS)
    known = {row.name: row for row in ROWS}
    wanted = names.split(",")
    for name in wanted:
        if name not in known:
            raise ValueError(f"--only {name}: there is no such row; there are {', '.join(known)}")
    return [known[name] for name in wanted]


def positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    """Give what reads a number above 0; it raises ValueError for others."""

    def number(text: str) -> float:
        if not 0 < (value := kind(text)) < math.inf:
            raise ValueError(text)
        return value

    number.__name__ = f"number above 0: {kind.__name__}"  # argparse shows it
    return number


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(prog="bench.compare", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=positive(int), help="turns of each contender (15)")
    parser.add_argument("--seconds", type=positive(float), help="the length of a turn (0.4)")
    parser.add_argument("--quick", action="store_true", help="a look: 3 rounds of 0.1 seconds")
    parser.add_argument("--only", metavar="ROW,...", help="these rows and no others")
    parser.add_argument("--host", default="127.0.0.1", help="an IPv4 address of this machine")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--svg", type=Path, metavar="DIR", help="draw a plot of each row there")
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # only a first start compiles modules
    usual = QUICK if options.quick else USUAL
    try:
        rows = chosen(options.only)
        if options.json:
            options.json.touch()  # now, and not when all is measured
        if options.svg:
            options.svg.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    rounds = int(options.rounds or usual["rounds"])
    result = compare(rows, rounds, options.seconds or usual["seconds"], options.host)
    print(text(result))
    if options.json:
        options.json.write_text(json.dumps(result) + "\n")
    if options.svg:
        draw(result, options.svg)


if __name__ == "__main__":
    main()
