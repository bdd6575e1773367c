"""What some tests need of the machine; without it they are skipped, with the reason."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest


def tool(name: str) -> str:
    """Give the path of a program, or skip the test."""
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
    """Skip the test for anybody else."""
    if os.geteuid() != 0:
        pytest.skip("only root can do this")


def powerless() -> list[str]:
    """Give the beginning of a command that takes root's privileges away, but not its files."""
    if os.geteuid() != 0:
        return []
    return [tool("setpriv"), "--bounding-set=-all", "--inh-caps=-all"]


def forbidden_port() -> int:
    """Give a port that only the privileged may have, or skip the test."""
    limit = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if limit.exists() and int(limit.read_text()) <= 1:
        pytest.skip("every port is for everyone here (net.ipv4.ip_unprivileged_port_start)")
    return 1


def free_low_port() -> int:
    """Give a port below 1024 that is free, or skip the test."""
    for port in range(1023, 0, -1):
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    pytest.skip("no port below 1024 can be had")


def strace(output: Path, call: str, injection: str) -> list[str]:
    """Give the beginning of a command that has a system call fail, or skip the test.

    *injection* is as in ``strace -e inject``: ``error=EMFILE:when=1..3``.  The command
    stays the child of whoever starts it; *output* is complete when it has ended.
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
