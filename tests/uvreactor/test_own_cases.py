"""What Twisted's cases do not ask, asked of our reactor and of the one that Twisted takes."""

import pytest

from tests.timeouts import scaled
from tests.uvreactor.judge import judge

LIMIT = scaled(100.0)
"""Seconds for a module."""

MODULES = "calls descriptors programs streams".split()


@pytest.mark.parametrize("reactor", ["ours", "stock"])
@pytest.mark.parametrize("module", MODULES)
def test_every_case_passes(module, reactor, tmp_path):
    """Each case of the module passes, so a program cannot tell the reactors apart."""
    outcomes = judge(reactor, [f"tests.uvreactor.cases_{module}"], tmp_path / "place", LIMIT)
    failed = [
        f"{case}:\n{outcome.reason}"
        for case, outcome in outcomes.items()
        if outcome.kind == "failed"
    ]
    assert not failed, "\n".join(failed)
