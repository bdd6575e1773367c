"""Requirements on the machine; a test that lacks one is skipped, with the reason."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest


def tool(name: str) -> str:
    """Return the path of a program, or skip the test."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def ipv6() -> None:
    """Skip the test on a machine without IPv6."""
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")


def root() -> None:
    """Skip the test unless it runs as root."""
    if os.geteuid() != 0:
        pytest.skip("only root can do this")


def powerless() -> list[str]:
    """Return a command prefix that drops root's capabilities; root still owns its files."""
    if os.geteuid() != 0:
        return []
    return [tool("setpriv"), "--bounding-set=-all", "--inh-caps=-all"]


def forbidden_port() -> int:
    """Return a port that takes a privilege to bind, or skip the test."""
    limit = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if limit.exists() and int(limit.read_text()) <= 1:
        pytest.skip("every user may bind every port here (net.ipv4.ip_unprivileged_port_start)")
    return 1


def free_low_port() -> int:
    """Return a free port below 1024, or skip the test."""
    for port in range(1023, 0, -1):
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    pytest.skip("no port below 1024 is free")


def strace(output: Path, call: str, injection: str) -> list[str]:
    """Return a command prefix that makes a system call fail, or skip the test.

    *injection* is as in ``strace -e inject``: ``error=EMFILE:when=1..3``.  The command
    stays a child of its caller; *output* is complete when it has ended.
    """
    program = tool("strace")
    tried = subprocess.run(
        [program, "-qq", "-o", os.devnull, "true"], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        pytest.skip(f"strace may not trace here: {tried.stderr.strip()}")
    follow = [program, "--daemonize", "--follow-forks", "--seccomp-bpf", "-qq"]
    wanted = ["-e", f"trace={call}", "-e", "signal=none", "-e", f"inject={call}:{injection}"]
    return [*follow, "--absolute-timestamps=format:unix,precision:us", "-o", str(output), *wanted]


def faketime(offset: Path) -> dict[str, str]:
    """Return the environment in which the wall clock is off by *offset*, or skip the test.

    *offset* is a file that may change at any time: ``+86400``.  Monotonic clocks are not
    changed.
    """
    tool("faketime")
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    environ = {
        "LD_PRELOAD": ":".join(map(str, found[:1])),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    try_it = [sys.executable, "-c", "import time; print(time.time())"]
    offset.write_text("+1000000000")
    tried = subprocess.run(
        try_it, env={**os.environ, **environ}, capture_output=True, text=True, check=False
    )
    if tried.returncode or float(tried.stdout) < time.time() + 900_000_000:
        pytest.skip(f"libfaketime cannot be loaded here: {tried.stdout}{tried.stderr}")
    offset.write_text("+0")
    return environ
