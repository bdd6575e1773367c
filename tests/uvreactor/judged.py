"""Run Twisted's own reactor tests against one reactor, in this process.

Usage: python -m tests.uvreactor.judged REACTOR RESULTS SECONDS NAME...

REACTOR is a key of `REACTORS`, and NAME a module, or a case, that trial finds.  Twisted makes
the cases of a `ReactorBuilder` for every reactor that it knows; here it creates them for REACTOR
alone, which is the reactor of the process too.  What happens is appended to the file RESULTS,
one JSON object a line; a process that still runs after SECONDS prints its stack and ends.
"""

import faulthandler
import importlib
import json
import sys
from asyncio import new_event_loop, set_event_loop
from collections.abc import Callable
from typing import Any, TextIO

import uvloop
from twisted.internet.main import installReactor
from twisted.internet.test.reactormixins import ReactorBuilder
from twisted.python.failure import Failure
from twisted.trial.reporter import TestResult
from twisted.trial.runner import TestLoader, TrialSuite
from twisted.trial.unittest import SynchronousTestCase

from tests.timeouts import CASE_TIMEOUT as PATIENCE


def baseline() -> Any:
    """Make Twisted's reactor for asyncio, on a loop of uvloop."""
    from twisted.internet.asyncioreactor import AsyncioSelectorReactor

    return AsyncioSelectorReactor(uvloop.new_event_loop())


def python() -> Any:
    """Make Twisted's reactor for asyncio, on Python's own event loop."""
    from twisted.internet.asyncioreactor import AsyncioSelectorReactor

    return AsyncioSelectorReactor(new_event_loop())


def ours() -> Any:
    """Make netsrv's reactor."""
    from netsrv.uvreactor.reactor import UvloopReactor

    return UvloopReactor()


def stock() -> Any:
    """Make the reactor that Twisted takes on this platform."""
    from twisted.internet.default import install

    module = importlib.import_module(install.__module__)
    return module.__dict__[NAMES[install.__module__.rpartition(".")[2]]]()


NAMES = {"epollreactor": "EPollReactor", "pollreactor": "PollReactor"}
REACTORS: dict[str, Callable[[], Any]] = {
    "baseline": baseline,
    "ours": ours,
    "python": python,
    "stock": stock,
}


def Judged(case: SynchronousTestCase) -> Any:
    """Make the reactor of a case; Twisted names the cases after this."""
    reactor = REACTORS[sys.argv[1]]()
    loop = getattr(reactor, "_asyncioEventloop", None)
    if loop is not None:
        set_event_loop(loop)
        case.addCleanup(set_event_loop, None)
        case.addCleanup(loop.close)
    return reactor


class Results(TestResult):
    """Writes a line for a case when it begins, and when it has ended."""

    def __init__(self, file: TextIO) -> None:
        super().__init__()
        self._file = file
        self._outcome = ("", "")

    def note(self, **facts: Any) -> None:
        """Append a line."""
        print(json.dumps(facts), file=self._file, flush=True)

    def startTest(self, test: Any) -> None:
        super().startTest(test)
        self._outcome = ("passed", "")
        self.note(case=test.id())

    def stopTest(self, test: Any) -> None:
        super().stopTest(test)
        self.note(case=test.id(), outcome=self._outcome[0], reason=self._outcome[1])

    def addError(self, test: Any, error: Any) -> None:
        super().addError(test, error)
        self._fail(error)

    def addFailure(self, test: Any, failure: Any) -> None:
        super().addFailure(test, failure)
        self._fail(failure)

    def addUnexpectedSuccess(self, test: Any, todo: Any = None) -> None:
        super().addUnexpectedSuccess(test, todo)
        self._fail("Twisted expects a failure")

    def addSkip(self, test: Any, reason: Any) -> None:
        super().addSkip(test, reason)
        self._outcome = ("skipped", str(reason))

    def _fail(self, error: Any) -> None:
        text = error.getTraceback() if isinstance(error, Failure) else str(error)
        self._outcome = ("failed", f"{self._outcome[1]}{text}\n")


def main(reactor: str, results: str, seconds: str, *names: str) -> None:
    """Run the cases, as the usage of this module says."""
    faulthandler.dump_traceback_later(float(seconds), exit=True)
    installed = REACTORS[reactor]()
    installReactor(installed)
    if hasattr(installed, "_asyncioEventloop"):
        set_event_loop(installed._asyncioEventloop)
    # Python runs this file as __main__; Twisted imports the maker by its name.
    ReactorBuilder._reactors = ["tests.uvreactor.judged.Judged"]
    ReactorBuilder.timeout = PATIENCE
    suite = TrialSuite([TestLoader().loadByName(name, recurse=True) for name in names])
    with open(results, "a") as file:
        result = Results(file)
        result.note(cases=suite.countTestCases())
        suite.run(result)


if __name__ == "__main__":
    main(*sys.argv[1:])
