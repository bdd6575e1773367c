"""Twisted's own reactor tests are the judge of ours."""

from pathlib import Path

import pytest

from tests.timeouts import scaled
from tests.uvreactor.judge import Outcome, Unjudged, judge
from tests.uvreactor.known import KNOWN

MODULES = [
    f"twisted.internet.test.test_{name}"
    for name in "tcp udp unix tls newtls endpoints core time threads fdset".split()
    + "process posixprocess sigchld socket stdio".split()
]
"""Where Twisted tests reactors; some of these only use the reactor of the process."""

PROCESS_MODULES = [
    f"twisted.test.test_{name}"
    for name in "internet loopback process stdio task tcp tcp_internals threads udp unix".split()
]
"""Where Twisted tests transports, processes and time on the reactor of the process."""

LIMIT = scaled(150.0)
"""Seconds for a module; the longest takes 15."""


class Judgement:
    """The outcomes of a module's cases on our reactor, and of doubtful ones on the baseline."""

    def __init__(self, module: str, directory: Path) -> None:
        self.ours = judge("ours", [module], directory / "ours", LIMIT)
        doubtful = [case for case, outcome in self.ours.items() if outcome.kind != "passed"]
        self.baseline: dict[str, Outcome] = {}
        if doubtful:
            self.baseline = judge("baseline", doubtful, directory / "baseline", LIMIT)


def cases(outcomes: dict[str, Outcome], kind: str) -> set[str]:
    """Return the cases with this outcome."""
    return {case for case, outcome in outcomes.items() if outcome.kind == kind}


@pytest.mark.parametrize("module", MODULES)
def test_our_reactor_does_what_twisted_demands(module, tmp_path):
    """Every case of the module passes on our reactor, but for those that are known.

    On the baseline, one that is skipped is skipped too, and one that is known does not pass.
    """
    judgement = Judgement(module, tmp_path)
    failed = cases(judgement.ours, "failed")
    known = {case.case for case in KNOWN if case.case.startswith(f"{module}.") and case.applies()}
    news = failed - known
    assert not news, "\n".join(f"{case}:\n{judgement.ours[case].reason}" for case in news)
    assert known <= failed, "this fails no more: take it out of the list"
    assert failed & cases(judgement.baseline, "passed") == set()
    assert cases(judgement.ours, "skipped") <= cases(judgement.baseline, "skipped")


@pytest.mark.version_independent
@pytest.mark.parametrize("module", PROCESS_MODULES)
def test_twisteds_tests_pass_in_a_process_of_our_reactor(module, tmp_path):
    """Every case of the module passes that passes on the baseline; some need a network."""
    judgement = Judgement(module, tmp_path)
    failed = cases(judgement.ours, "failed") & cases(judgement.baseline, "passed")
    assert not failed, "\n".join(f"{case}:\n{judgement.ours[case].reason}" for case in failed)
    assert cases(judgement.ours, "skipped") <= cases(judgement.baseline, "skipped")


def sample(kind: str) -> str:
    """Return the name of a class of samples, as Twisted creates it."""
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
    reasons = [outcome.reason for case, outcome in seen.items() if case.endswith("_is_skipped")]
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
