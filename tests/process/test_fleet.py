"""A fleet behind HAProxy: its servers are replaced under load, and no client notices."""

import pytest

from bench.fleet import SERVERS, WAYS, fleet, roll
from tests.process.needs import tool

pytestmark = pytest.mark.version_independent

CLIENTS = 4
PAUSE = 0.05
"""Seconds between two connections of a client: the load is not what is measured here."""


@pytest.fixture(scope="module")
def running():
    """HAProxy with three servers, all of version 1."""
    tool("haproxy")
    tool("socat")
    with fleet() as present:
        yield present


def test_a_fleet_is_replaced_without_a_failed_connection(running):
    """By the agent and by the recipe no client fails, and HAProxy meets no closed socket.

    It sends no client to a server that ends, and stops doing so before the socket is closed.
    """
    for version, way in enumerate(WAYS, 1):
        results = roll(running, way, version, 1, CLIENTS, PAUSE)
        assert results.keys() == {str(version), str(version + 1)}, results
        assert running.refused == 0
        running.haproxy.wait_for("enters drain state", version * len(SERVERS))
