"""Check everything that must be true of netsrv, from a bare checkout.

Usage: python3 .ci/check.py

It makes two virtual environments in .ci, one with the project's tools and one with the
oldest versions of what it depends on, and runs the checks, two at a time; tests run by two
or three processes each (pytest-xdist), so that tests that wait leave no processor idle.  A
line of output begins with the name of its check.  The exit status is 0 if all passed.
"""

import os
import shutil
import subprocess
import sys
import time
import venv
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
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
    "xinetd": "xinetd",
    "curl": "curl",
    "jq": "jq",
    "promtool": "prometheus",
    "haproxy": "haproxy",
    "kubectl": "kubernetes-client",
    "chromium": "chromium",
    "node": "nodejs",
    "gnutls-cli": "gnutls-bin",
    "stunnel": "stunnel4",
    "nginx": "libnginx-mod-stream",
}
"""Programs that some tests use, and their Debian packages."""

NODE_CLIENT = "toxiproxy-node-client@4.1.0"
"""The package of npm that a test of the control API uses."""

TESTS = ("pytest", "-q", "--dist=worksteal", "--numprocesses=2")
SLOW_TIERS = ("tests/process", "tests/docs", "tests/uvreactor")
FOLDERS = {file.parent.relative_to(TOP).as_posix() for file in TOP.glob("tests/*/test_*.py")}
FAST_TIERS = [
    *sorted(FOLDERS - {*SLOW_TIERS}),
    *sorted(file.relative_to(TOP).as_posix() for file in TOP.glob("tests/test_*.py")),
]
"""All tests but those of `SLOW_TIERS`: in memory, and on loopback."""

VERSIONED = ("-m", "not version_independent")
"""The tests that are repeated with the oldest versions of the dependencies."""

FIXTURE = [
    f"tests/process/test_{name}.py" for name in ("pytest_plugin", "scripted_servers", "serve")
]
"""Tests of processes that depend on the versions of pytest and Twisted."""

WORKS = "echo,echo-protocol,accept,udp,udp-any"
"""Work whose count of instructions is steady, so that a slower path is found."""


@dataclass(frozen=True)
class Check:
    """A command that has to pass, in an environment, with further environment variables."""

    name: str
    command: tuple[str, ...]
    environ: dict[str, str] = field(default_factory=dict)
    env: Path = VENV


LANES = (
    # With three processes, so that both lanes end at about the same time.
    (Check("tests", (*TESTS, "--numprocesses=3", "--durations=10", *SLOW_TIERS)),),
    (
        Check("formatting", ("ruff", "format", "--check", "--quiet", ".")),
        Check("lint", ("ruff", "check", "--quiet", ".")),
        Check("layers", ("lint-imports", "--no-cache")),
        Check("types", ("mypy",)),
        Check("documents", ("sphinx-build", "-q", "-W", "--keep-going", "docs", "docs/_build")),
        Check("instructions", ("python", "-m", "bench.instructions", "--ours", "--only", WORKS)),
        Check("oldest", (*TESTS, *VERSIONED, *FAST_TIERS, *FIXTURE), env=OLDEST),
        Check("pythons", ("python", ".ci/pythons.py")),
    ),
)
"""Checks that run one after the other, beside those of the other lane."""


def environment(env: Path) -> dict[str, str]:
    """Return the environment variables with which the programs of *env* run."""
    path = f"{env / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    environ = {**os.environ, "PATH": path, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    # Hundreds of processes are started, which need not compile the same modules each.
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    return environ


def run(*command: str) -> bool:
    """Run a command at the top of the project; return True if its status is 0."""
    return subprocess.run(command, cwd=TOP, env=environment(VENV), check=False).returncode == 0


def install(env: Path, *what: str) -> bool:
    """Install into an environment by uv, or by pip if that fails; return True if it succeeded."""
    python = ("--python", str(env / "bin" / "python"))
    uv, pip = VENV / "bin" / "uv", VENV / "bin" / "pip"
    if uv.exists() and run(str(uv), "pip", "install", "--quiet", *python, *what):
        return True
    command = [str(pip)] if pip.exists() else [sys.executable, "-m", "pip"]
    return run(*command, *python, "install", "--quiet", *what)


def install_project() -> bool:
    """Make the environments, and install the project with its tools."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this script comes before any installation
        print(f"netsrv needs Python 3.11 or later; this is {sys.version.split()[0]}")
        return False
    for env in (VENV, OLDEST):
        if not (env / "bin" / "python").exists():
            venv.create(env, with_pip=env is VENV, clear=True)
    run(str(VENV / "bin" / "pip"), "install", "--quiet", "uv")
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


def install_node_client() -> None:
    """Install toxiproxy's client for node, 100 KiB; its test skips without it."""
    if shutil.which("npm"):
        folder = str(TOP / ".ci" / "node")
        run(
            "npm", "install", "--prefix", folder, "--no-audit", "--no-fund", "--silent", NODE_CLIENT
        )


def passes(check: Check) -> bool:
    """Run a check, print its output and what it has cost, and return True if it has passed."""
    began = time.monotonic()
    print(f"{check.name}| {' '.join(check.command)}", flush=True)
    process = subprocess.Popen(
        check.command,
        cwd=TOP,
        env={**environment(check.env), **check.environ},
        stdin=subprocess.DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
        text=True,
        errors="backslashreplace",
    )
    assert process.stdout is not None
    for line in process.stdout:
        print(f"{check.name}| {line}", end="", flush=True)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = f"{time.monotonic() - began:.0f} s, {usage.ru_utime + usage.ru_stime:.0f} s of CPU"
    print(f"{check.name}| {'failed' if process.returncode else 'passed'}: {seconds}", flush=True)
    return process.returncode == 0


def main() -> int:
    """Run all checks, and say of each how it went."""
    began = time.monotonic()
    if not install_project():
        return 1
    install_clients()
    install_node_client()
    print(f"installed: {time.monotonic() - began:.0f} s", flush=True)
    with ThreadPoolExecutor(len(LANES)) as lanes:
        results = lanes.map(lambda lane: [check.name for check in lane if not passes(check)], LANES)
        failed = [name for names in results for name in names]
    print(f"== {time.monotonic() - began:.0f} s", end=": ")
    print(f"failed: {', '.join(failed)}" if failed else "all checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
