"""Servers in memory."""

import pytest

from netsrv.testing import MemoryServer


@pytest.fixture
def server():
    """Return an echo server."""
    return MemoryServer("echo")


@pytest.fixture
def udp():
    """Return an echo server of datagrams."""
    return MemoryServer("echo", "udp")
