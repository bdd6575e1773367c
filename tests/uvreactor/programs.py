"""Run whole test suites and programs of others on the uvloop reactor, and beside Twisted's.

Usage: python -m tests.uvreactor.programs [--seconds N] [NAME...]

NAME is one of `SUITES` or `PROGRAMS`; without one, all run.  Each runs on three reactors, ours,
epoll and asyncio's, for N seconds at most (300).  A line is printed for each: the tests that ran
and those that failed, or whether the program worked; then the tests that fail on ours alone.
A program that is not installed is left out: ``pip install scrapy daphne treq autobahn``.
It takes many minutes and is no part of the checks.
"""

import argparse
import json
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from tests.uvreactor.judge import run_session
from tests.uvreactor.program import MODULES

SUITES = ["twisted.test", "twisted.web", "twisted.trial"]
"""Packages of Twisted's, with all tests below them in one process."""

PROGRAMS = ["scrapy", "daphne", "treq", "autobahn"]
"""Programs that `tests.uvreactor.at_work` puts to work, by the packages they need."""

REACTORS = {"uvloop": "ours", "epoll": "stock", "asyncio": "python"}
"""The reactors, and their names in `tests.uvreactor.judged`."""


def run_suite(name: str, reactor: str, folder: Path, seconds: float) -> set[str]:
    """Run a suite, print its figures, and return the tests that failed."""
    results = folder / "results"
    results.touch()
    command = [sys.executable, "-m", "tests.uvreactor.judged", REACTORS[reactor], str(results)]
    run_session([*command, str(seconds), name], folder, seconds + 10)
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    expected = sum(line["cases"] for line in lines if "cases" in line)
    ended = {line["case"]: line["outcome"] for line in lines if "outcome" in line}
    failed = {case for case, outcome in ended.items() if outcome == "failed"}
    print(f"{name:14} {reactor:8} {len(ended):5} of {expected} tests, {len(failed)} failed")
    if len(ended) < expected:
        begun = [line["case"] for line in lines if "case" in line and line["case"] not in ended]
        print(f"    it ended in {', '.join(begun) or 'no test'}")
    return failed


def run_program(name: str, reactor: str, folder: Path, seconds: float) -> None:
    """Put a program to work, and print what it says of it."""
    command = [sys.executable, "-m", "tests.uvreactor.at_work", MODULES[reactor], name]
    status = run_session(command, folder, seconds + 10)
    said = (folder / "output").read_text(errors="backslashreplace").splitlines() or [""]
    worked = "works" if status == 0 else f"FAILED ({status})"
    print(f"{name:14} {reactor:8} {worked}: {said[-1]}")


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("names", nargs="*", default=[*SUITES, *PROGRAMS])
    options = parser.parse_args()
    for name in options.names:
        if name in PROGRAMS and find_spec(name) is None:
            print(f"{name:14} is not installed")
            continue
        failed: dict[str, set[str]] = {}
        for reactor in REACTORS:
            if name == "daphne" and reactor == "epoll":
                continue  # it needs asyncio
            with tempfile.TemporaryDirectory() as folder:
                if name in PROGRAMS:
                    run_program(name, reactor, Path(folder), options.seconds)
                else:
                    failed[reactor] = run_suite(name, reactor, Path(folder), options.seconds)
            sys.stdout.flush()
        for case in sorted(set.difference(*failed.values()) if failed else ()):
            print(f"    fails on uvloop alone: {case}")


if __name__ == "__main__":
    main()
