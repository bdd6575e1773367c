"""Check everything that must be true of netsrv, from a bare checkout.

Usage: python3 .ci/check.py

It makes two virtual environments in .ci, one with the project's tools and one with the
oldest versions of what it depends on, and runs each check, two at a time; the tests come
last, by two processes (pytest-xdist).  The exit status is 0 if all passed.
"""

import os
import shutil
import subprocess
import sys
import time
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import PIPE, STDOUT

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
    "valgrind": "valgrind",
    "bash": "bash",
    "zsh": "zsh",
    "fish": "fish",
    "mandoc": "mandoc",
    "nft": "nftables",
    "logrotate": "logrotate",
    "openssl": "openssl",
    "systemd-analyze": "systemd",
    "tcpdump": "tcpdump",
    "curl": "curl",
    "jq": "jq",
    "promtool": "prometheus",
}
"""Programs that some tests use, and their Debian packages."""

CHECKS = {
    "formatting": ["ruff", "format", "--check", "--quiet", "."],
    "lint": ["ruff", "check", "--quiet", "."],
    "types": ["mypy"],
    "layers": ["lint-imports", "--no-cache"],
    "documents": ["sphinx-build", "-q", "-W", "--keep-going", "docs", "docs/_build"],
}
TESTS = ["pytest", "-q", "--numprocesses=2", "--dist=worksteal"]
STRICT = [
    *("env", "PYTHONDEVMODE=1"),
    *TESTS,
    *("-W", "error", "-W", "ignore::DeprecationWarning", "-W", "ignore::PendingDeprecationWarning"),
    *("--ignore=tests/process", "--ignore=tests/docs", "--ignore=tests/uvreactor"),
]
"""In Python's development mode, where an unclosed socket or any other warning is an error."""
INSTRUCTIONS = [
    "python",
    "-m",
    "bench.instructions",
    "--only",
    "echo,echo-protocol,accept,udp,udp-any",
]
"""Work whose count of instructions is steady, so that a slower path is found."""

ON_UVLOOP = ["env", "NETSRV_TEST_REACTOR=uvloop"]
"""The reactor of the tests themselves; servers in processes of their own are on uvloop anyway."""

VERSIONED = ["-m", "not version_independent"]
"""The tests that are repeated with the oldest versions of the dependencies."""


def run(*command: str, env: Path = VENV, **popen: int) -> subprocess.CompletedProcess[str]:
    """Run a command of an environment at the top of the project."""
    path = f"{env / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    environ = {**os.environ, "PATH": path, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    # Hundreds of processes are started, which need not compile the same modules each.
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    return subprocess.run(command, cwd=TOP, env=environ, check=False, text=True, **popen)


def install(env: Path, *what: str) -> bool:
    """Install into an environment, which is made if there is none; tell whether it succeeded."""
    if not (env / "bin" / "pip").exists():
        venv.create(env, with_pip=True, clear=True)
    return run(str(env / "bin" / "pip"), "install", "--quiet", *what).returncode == 0


def install_project() -> bool:
    """Make the environments, and install the project with its tools."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this script comes before any installation
        print(f"netsrv needs Python 3.11 or later; this is {sys.version.split()[0]}")
        return False
    oldest = f"{OLDEST}.txt"
    with ThreadPoolExecutor() as both:
        newest = both.submit(install, VENV, "-e", ".[check]")
        others = both.submit(install, OLDEST, "-r", oldest)
    # Only one at a time can build what is installed from this folder.
    done = newest.result() and others.result()
    return done and install(OLDEST, "-c", oldest, "-e", ".[test]")


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
    with ThreadPoolExecutor(2) as two:
        results = two.map(
            lambda command: run(*command, stdout=PIPE, stderr=STDOUT), CHECKS.values()
        )
        for (name, command), done in zip(CHECKS.items(), results, strict=True):
            print(f"== {name}: {' '.join(command)}\n{done.stdout}", end="", flush=True)
            if done.returncode:
                failed.append(name)
    for name, env, command in (
        ("tests", VENV, [*TESTS, "--durations=10"]),
        ("instructions per operation", VENV, INSTRUCTIONS),
        ("tests in development mode", VENV, STRICT),
        ("tests on the uvloop reactor", VENV, [*ON_UVLOOP, *TESTS, "tests/loopback"]),
        ("tests with the oldest versions that setup.cfg allows", OLDEST, [*TESTS, *VERSIONED]),
    ):
        print(f"== {name}: {' '.join(command)}", flush=True)
        if run(*command, env=env).returncode:
            failed.append(name)
    print(f"== {time.monotonic() - began:.0f} s", end=": ")
    print(f"failed: {', '.join(failed)}" if failed else "all checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
