"""Networks of a test's own: what is started and opened in them sees nothing else."""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.process import needs
from tests.process.running import PATIENCE

CLONE_NEWNET = 0x40000000
"""Of setns(2)."""


@contextmanager
def network(*commands: str) -> Iterator[None]:
    """Move this thread into a new network with a loopback interface, made ready by *commands*.

    Sockets that are opened and processes that are started meanwhile belong to it; it is
    gone with the last of them.  A machine that has no networks to give skips the test.
    """
    needs.root()
    ready = " && ".join(["ip link set lo up", *commands, "echo ready", "exec cat"])
    holder = [needs.tool("unshare"), "--net", "sh", "-c", ready]
    pipe = subprocess.PIPE
    with subprocess.Popen(holder, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        if process.stdout.readline() != "ready\n":
            pytest.skip(f"no network can be made here: {process.stderr.read().strip()}")
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/proc/{process.pid}/ns/net", os.O_RDONLY)
        try:
            _enter(there)
            yield
        finally:
            _enter(before)
            os.close(there)
            os.close(before)
            process.communicate(timeout=PATIENCE)  # the end of its input is its end


def run(command: str) -> None:
    """Run a command of ip(8) or the like, in the network of this thread."""
    subprocess.run(command.split(), check=True, timeout=PATIENCE)


def write(setting: str, value: str) -> None:
    """Change a setting of the network: ``net/ipv6/conf/all/disable_ipv6``."""
    Path("/proc/sys", setting).write_text(value)


def _enter(network: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(network, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
