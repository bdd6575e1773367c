"""Run the tests in memory and on loopback with each other Python that is installed here.

Usage: python3 .ci/pythons.py

It is a part of .ci/check.py.  A Python is found on PATH or among those of pyenv, and has an
environment of its own in .ci.  The exit status is 0 if all tests passed.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from check import install

TOP = Path(__file__).resolve().parent.parent
VERSIONS = [f"3.{minor}" for minor in range(11, 15)]
"""The versions of Python that are tested, where they are installed."""

TESTS = [
    "-q",
    *("--ignore=tests/process", "--ignore=tests/docs", "--ignore=tests/uvreactor"),
    *(
        "--ignore=tests/guards",
        "--ignore=tests/test_house.py",
        "--ignore=tests/test_time_limits.py",
    ),
]
"""Without the longest tests of pure code, it takes some 25 seconds for each Python."""


def candidates(version: str) -> Iterator[Path]:
    """Yield the paths at which a version of Python may be."""
    name = f"python{version}"
    if on_path := shutil.which(name):
        yield Path(on_path)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted(pyenv.glob(f"versions/{version}.*/bin/{name}"), reverse=True)


def succeeds(*command: str | Path) -> bool:
    """Run a command at the top of the project; return True if its exit status is 0."""
    environ = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return subprocess.run(command, cwd=TOP, env=environ, check=False).returncode == 0


def works(python: Path) -> bool:
    """Return True if a Python runs: a shim of pyenv does not, unless its version is selected."""
    done = subprocess.run([python, "-c", ""], capture_output=True, check=False)
    return done.returncode == 0


def check(version: str, python: Path) -> bool:
    """Test with a version of Python; return True if all tests passed."""
    env = TOP / ".ci" / f"python{version}"
    own = env / "bin" / "python"
    installed = own.exists() or succeeds(python, "-m", "venv", "--without-pip", env)
    installed = installed and install(env, "-e", ".[test]")
    return installed and succeeds(own, "-m", "pytest", *TESTS)


def main() -> int:
    """Test with each Python but the present one."""
    failed = []
    present = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for version in VERSIONS:
        if version == present:
            continue
        python = next(filter(works, candidates(version)), None)
        print(f"-- Python {version}: {python or 'is not installed'}", flush=True)
        if python is not None and not check(version, python):
            failed.append(version)
    print(f"failed with Python {', '.join(failed)}" if failed else "passed with each Python")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
