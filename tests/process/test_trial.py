"""Servers in trial's own runner."""

from tests.checkout import TOP
from tests.process.running import Running


def test_trial_runs_a_test_case_with_a_server(tmp_path):
    """Under ``trial`` the test case runs, passes, and leaves the reactor clean."""
    command = ["trial", f"--temp-directory={tmp_path}/trial", "tests.loopback.test_trial"]
    with Running(command, TOP) as running:
        assert running.wait() == 0, running.output
        running.wait_for(r"Ran 2 tests in")
        running.wait_for(r"PASSED \(successes=2\)")
