"""Twisted's own reactor tests are the judge of ours."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.uvreactor.judge import Outcome, Unjudged, judge

MODULES = [
    f"twisted.internet.test.test_{name}"
    for name in "tcp udp unix tls newtls endpoints core time threads fdset".split()
    + "process posixprocess sigchld socket stdio".split()
]
"""Where Twisted tests reactors; some of these only use the reactor of the process."""

LIMIT = 150.0
"""Seconds for a module; the longest takes 13."""

KNOWN: dict[str, str] = {}
"""Cases that fail on our reactor, and why: each fails on Twisted's asyncio reactor too."""


class Judgement:
    """What came of the cases of a module on our reactor, and of the doubtful on the baseline."""

    def __init__(self, module: str, directory: Path) -> None:
        self.ours = judge("ours", [module], directory / "ours", LIMIT)
        doubtful = [case for case, outcome in self.ours.items() if outcome.kind != "passed"]
        self.baseline: dict[str, Outcome] = {}
        if doubtful:
            self.baseline = judge("baseline", doubtful, directory / "baseline", LIMIT)

    def named(self, kind: str) -> dict[str, str]:
        """Give the cases of a kind that it has on our reactor alone, each with its reason."""
        return {
            case: outcome.reason
            for case, outcome in self.ours.items()
            if outcome.kind == kind and self.baseline[case].kind != kind
        }


@pytest.fixture(scope="module")
def judgements(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, "Future[Judgement]"]]:
    """Run the modules that are asked for, two at a time; give what will come of each."""
    asked = [
        item.callspec.params["module"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
        if item.function is test_our_reactor_does_what_twisted_demands
    ]
    with ThreadPoolExecutor(2) as pool:
        places = {each: tmp_path_factory.mktemp(each.rpartition(".")[2]) for each in asked}
        yield {each: pool.submit(Judgement, each, places[each]) for each in asked}


@pytest.mark.parametrize("module", MODULES)
def test_our_reactor_does_what_twisted_demands(module, judgements):
    """Every case of the module passes on our reactor, but for those that are known.

    A case that is skipped here is skipped on the baseline too; one that is known fails on both.
    """
    judgement = judgements[module].result()
    failed = {case for case, outcome in judgement.ours.items() if outcome.kind == "failed"}
    known = {case for case in KNOWN if case.startswith(f"{module}.")}
    assert not failed - known, "\n".join(judgement.ours[case].reason for case in failed - known)
    assert known <= failed, "a known failure is none any longer: take it out of the list"
    assert judgement.named("failed") == {}, "Twisted's reactor passes this"
    assert judgement.named("skipped") == {}, "Twisted's reactor is asked this"


def sample(kind: str) -> str:
    """Give the name of a class of samples, as Twisted has made it."""
    return f"tests.uvreactor.samples.{kind}Tests_JudgedTests"


def test_what_fails_and_what_is_skipped_is_seen(tmp_path):
    """The judge sees a case that fails, one that is skipped, and that the others ran."""
    seen = judge("baseline", [sample("Sample")], tmp_path / "place", LIMIT)
    kinds = {case.rpartition(".")[2]: outcome.kind for case, outcome in seen.items()}
    assert kinds == {
        "test_fails": "failed",
        "test_is_skipped": "skipped",
        "test_logs_an_error": "failed",
        "test_passes": "passed",
    }
    reasons = [each.reason for case, each in seen.items() if case.endswith("_is_skipped")]
    assert reasons == ["for a reason"]


def test_what_hangs_names_itself(tmp_path):
    """A case that never ends is a failure that says which, and where it stands."""
    begun = rf"0 of 1 cases ended, the last to begin is {sample('Hanging')}.test_hangs"
    with pytest.raises(Unjudged, match=begun) as raised:
        judge("baseline", [sample("Hanging")], tmp_path / "place", 3.0)
    assert "in runReactor" in str(raised.value)


def test_what_cannot_be_imported_is_a_failure(tmp_path):
    """Nothing passes because there is nothing to run."""
    with pytest.raises(Unjudged, match=r"tests\.uvreactor\.nothing does not exist"):
        judge("baseline", ["tests.uvreactor.nothing"], tmp_path / "place", LIMIT)
