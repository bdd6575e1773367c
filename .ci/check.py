"""Check everything that must be true of netsrv, from a bare checkout.

Usage: python3 .ci/check.py

It makes two virtual environments in .ci, one with the project's tools and one with the
oldest versions of what it depends on, and runs each check; the tests come last.  The exit
status is 0 if all passed.
"""

import os
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
VENV = TOP / ".ci" / "venv"
OLDEST = TOP / ".ci" / "oldest"
"""An environment with the oldest versions that setup.cfg allows."""
CLIENTS = {
    "ncat": "ncat",
    "socat": "socat",
    "rdate": "rdate",
    "strace": "strace",
    "faketime": "faketime",
    "nc": "netcat-openbsd",
    "unshare": "util-linux",
    "ip": "iproute2",
    "wrk": "wrk",
    "cc": "build-essential",
}
"""Programs that some tests use, and their Debian packages."""

CHECKS = {
    "formatting": ["ruff", "format", "--check", "--quiet", "."],
    "lint": ["ruff", "check", "--quiet", "."],
    "types": ["mypy"],
    "layers": ["lint-imports", "--no-cache"],
    "documents": ["sphinx-build", "-q", "-W", "--keep-going", "docs", "docs/_build"],
    "tests": ["pytest", "-q", "--durations=10"],
}


ONCE = [
    "tests/docs",
    *(f"tests/process/test_{each}*.py" for each in "bad_input bench clients examples".split()),
    *(f"tests/process/test_{each}*.py" for each in "faults kill load networks".split()),
    *(f"tests/process/test_{each}*.py" for each in "packaging places unix_files plugins".split()),
    *(
        f"tests/process/test_{each}*.py"
        for each in "errors access_log reload server_process".split()
    ),
]
"""What is not repeated with the oldest versions: it is about the documents and the kernel."""


def run(*command: str, env: Path = VENV) -> bool:
    """Run a command of an environment at the top of the project; tell whether it succeeded."""
    path = f"{env / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    environ = {**os.environ, "PATH": path, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return subprocess.run(command, cwd=TOP, env=environ, check=False).returncode == 0


def install_project() -> bool:
    """Make the environments, and install the project with its tools."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this script comes before any installation
        print(f"netsrv needs Python 3.11 or later; this is {sys.version.split()[0]}")
        return False
    for env, what in (
        (VENV, ["-e", ".[check]"]),
        (OLDEST, ["-c", f"{OLDEST}.txt", "-e", ".[test]"]),
    ):
        if not (env / "bin" / "pip").exists():
            venv.create(env, with_pip=True, clear=True)
        if not run(str(env / "bin" / "pip"), "install", "--quiet", *what):
            return False
    return True


def install_clients() -> None:
    """Install the programs that are missing, where that is possible; tests skip without them."""
    missing = [package for program, package in CLIENTS.items() if not shutil.which(program)]
    if not missing:
        return
    print("missing:", *missing)
    if shutil.which("apt-get") and os.geteuid() == 0:
        run("apt-get", "update", "-qq")
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing)


def main() -> int:
    """Run all checks, and say of each how it went."""
    began = time.monotonic()
    if not install_project():
        return 1
    install_clients()
    failed = []
    for name, command in CHECKS.items():
        print(f"== {name}: {' '.join(command)}", flush=True)
        if not run(*command):
            failed.append(name)
    print("== tests with the oldest versions that setup.cfg allows", flush=True)
    ignored = [f"--ignore-glob={each}" for each in ONCE]
    if not run("pytest", "-q", *ignored, env=OLDEST):
        failed.append("tests with the oldest versions")
    print(f"== {time.monotonic() - began:.0f} s", end=": ")
    print(f"failed: {', '.join(failed)}" if failed else "all checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
