"""Twisted's own reactor tests as a judge: run in a child process, and what came of them."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import attrs

from tests.checkout import TOP


@attrs.frozen
class Outcome:
    """What came of one case: ``passed``, ``skipped`` or ``failed``, and why."""

    kind: str
    reason: str


class Unjudged(Exception):
    """A process of cases that did not come to its end; the message says where it stood."""


def judge(reactor: str, names: list[str], directory: Path, seconds: float) -> dict[str, Outcome]:
    """Run the cases of modules, or single cases, on a reactor; return the outcome of every case.

    *reactor* is a key of `tests.uvreactor.judged.REACTORS`.  The cases write into
    *directory*.  Raises Unjudged if not all of them have run within *seconds*.
    """
    directory.mkdir()
    results = directory / "results"
    results.touch()
    command = [sys.executable, "-m", "tests.uvreactor.judged", reactor, str(results), str(seconds)]
    # The cases end themselves within *seconds*: they can tell where they stood.
    run_session([*command, *names], directory, seconds + 10)
    return read(results, f"{' '.join(names)} on {reactor}", directory / "output")


def run_session(command: list[str], directory: Path, seconds: float) -> int | None:
    """Run a command in *directory*, its output in the file ``output``; return its status.

    None if it had to be ended after *seconds*.  Nothing that it has started outlives it.
    """
    with (
        open(directory / "output", "wb") as output,
        subprocess.Popen(
            command,
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(TOP)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        try:
            with suppress(subprocess.TimeoutExpired):
                return process.wait(seconds)
        finally:
            kill_session(process.pid)
    return None


def kill_session(leader: int) -> None:
    """End what a process and its children have left behind."""
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def read(results: Path, what: str, output: Path) -> dict[str, Outcome]:
    """Read what a process of cases has written; raises Unjudged if it is not complete."""
    lines = [json.loads(text) for text in results.read_text().splitlines()]
    ended = [line for line in lines if "outcome" in line]
    outcomes = {line["case"]: Outcome(line["outcome"], line["reason"]) for line in ended}
    begun = {line["case"] for line in lines if "case" in line}
    expected = sum(line["cases"] for line in lines if "cases" in line)
    if not expected or len(outcomes) < expected:
        stands = ", ".join(begun - outcomes.keys()) or "none"
        reasons = "\n".join(line["reason"] for line in ended)
        said = output.read_text(errors="backslashreplace")
        counts = f"{len(outcomes)} of {expected} cases ended, the last to begin is {stands}"
        raise Unjudged(f"{what}: {counts}\n{reasons[-3000:]}\n{said[-3000:]}")
    return outcomes
