"""Run the tests with other Pythons that are installed here, and measure their coverage.

Usage: python3 .ci/pythons.py

It is a part of .ci/check.py.  A Python is found on PATH or among those of pyenv, and has an
environment of its own in .ci.  With the newest one, in which measuring costs least, the coverage of
these tests is measured: those in memory and on loopback, in Python's development mode; those on
loopback once more, on uvloop; and some of those of processes.  The exit status is 0 if all tests
passed, and if they ran as much as pyproject.toml demands.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from check import FAST_TIERS, TESTS, environment, install

TOP = Path(__file__).resolve().parent.parent
VERSIONS = [f"3.{minor}" for minor in range(11, 15)]
"""The versions of Python that are tested, where they are installed."""

QUICK = ["tests/fixture", "tests/loopback", "tests/streams", "tests/tls"]
"""Tests for the versions between the newest and the present one."""

BROAD = (
    "places scripted_servers status systemd inetd bad_input tls control workers workers_changes "
    "fixture_workers printing top fault_methods"
).split()
"""Tests of processes that run most of the lines that the tests in memory and on loopback do not."""

STRICT = "-W error -W ignore::DeprecationWarning -W ignore::PendingDeprecationWarning".split()
"""Any other warning is an error; in Python's development mode an unclosed socket is one."""

MEASURED: list[tuple[list[str], dict[str, str]]] = [
    (
        # coverage itself imports tomllib
        [
            *STRICT,
            *FAST_TIERS,
            "--deselect=tests/config/test_keywords.py::test_cattrs_and_tomllib_are_not_imported",
        ],
        {"PYTHONDEVMODE": "1"},
    ),
    (["tests/loopback"], {"NETSRV_TEST_REACTOR": "uvloop"}),
    (
        # with coverage, a signal has left netsrv top running
        [
            *(f"tests/process/test_{name}.py" for name in BROAD),
            "--deselect=tests/process/test_top.py::test_a_signal_restores_the_terminal",
        ],
        {},
    ),
]
"""The runs whose coverage is measured: arguments of pytest, and environment variables."""

COVERAGE = {"COVERAGE_CORE": "sysmon", "COVERAGE_FILE": str(TOP / ".ci" / "coverage_data")}
"""From Python 3.12 on sys.monitoring finds the lines for less than tracing does."""


def candidates(version: str) -> Iterator[Path]:
    """Yield the paths at which a version of Python may be."""
    name = f"python{version}"
    if on_path := shutil.which(name):
        yield Path(on_path)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted(pyenv.glob(f"versions/{version}.*/bin/{name}"), reverse=True)


def succeeds(*command: str | Path, env: Path | None = None, **variables: str) -> bool:
    """Run a command, with the programs of *env* if it is given; return True if its status is 0."""
    environ = os.environ if env is None else {**environment(env), **COVERAGE, **variables}
    return subprocess.run(command, cwd=TOP, env=environ, check=False).returncode == 0


def works(python: Path) -> bool:
    """Return True if a Python runs: a shim of pyenv does not, unless its version is selected."""
    done = subprocess.run([python, "-c", ""], capture_output=True, check=False)
    return done.returncode == 0


def check(version: str, python: Path, measured: bool) -> bool:
    """Test with a version of Python; return True if all tests passed."""
    env = TOP / ".ci" / f"python{version}"
    own = env / "bin" / "python"
    installed = own.exists() or succeeds(python, "-m", "venv", "--without-pip", env)
    if not (installed and install(env, "-e", ".[test]")):
        return False
    if not measured:
        return succeeds(*TESTS, *QUICK, env=env)
    run = ("coverage", "run", "-m", "pytest", "-q")
    tested = [succeeds(*run, *arguments, env=env, **environ) for arguments, environ in MEASURED]
    if not succeeds("coverage", "combine", "-q", env=env):
        return False
    print("-- Lines of netsrv/ that these tests have run, in per cent:", flush=True)
    return succeeds("coverage", "report", "--format=total", env=env) and all(tested)


def main() -> int:
    """Test with each Python but the present one."""
    failed = []
    present = f"{sys.version_info[0]}.{sys.version_info[1]}"
    pythons = {version: next(filter(works, candidates(version)), None) for version in VERSIONS}
    newest = max(version for version in VERSIONS if pythons[version])
    for version, python in pythons.items():
        print(f"-- Python {version}: {python or 'is not installed'}", flush=True)
        if python is None or (version == present and version != newest):
            continue
        if not check(version, python, version == newest):
            failed.append(version)
    print(f"failed with Python {', '.join(failed)}" if failed else "passed with each Python")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
