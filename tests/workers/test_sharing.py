"""Connections of a socket that several processes share, with a clock that the test advances."""

import os
import socket

import pytest

from netsrv.streams.sharing import FREE_TIME, FairShare
from netsrv.workers.memory import ColumnAllocator, LimitMemory
from netsrv.workers.sharing import MAX_LEAD, Share
from tests.doubles import ReactorClock


@pytest.fixture
def shares():
    """Return the parts of three processes in one listener."""
    allocator = ColumnAllocator(1024)
    block = allocator.block_of("unix /run/echo.sock #1")
    columns = [allocator.take(number, 1)[0] for number in range(3)]
    descriptors = allocator.memory.descriptors
    yield [Share(LimitMemory(*descriptors, 1024), block, column) for column in columns]
    for descriptor in descriptors:
        os.close(descriptor)


def test_a_process_is_ahead_of_one_that_has_far_fewer_connections(shares):
    """Only those count that take connections."""
    first, second, third = shares
    assert not first.is_ahead(100)  # it is alone
    assert not second.is_ahead(100 - MAX_LEAD)
    assert not first.is_ahead(100)
    assert first.is_ahead(101)
    assert not third.is_ahead(0)
    assert second.is_ahead(100 - MAX_LEAD)
    third.leave()
    assert not second.is_ahead(100 - MAX_LEAD)
    second.leave()
    assert not first.is_ahead(101)


def test_a_process_that_is_ahead_takes_connections_that_others_leave_waiting(shares):
    """For a while: then it leaves new ones to them again."""
    clock = ReactorClock()
    first, second, _ = shares
    with socket.create_server(("127.0.0.1", 0)) as server:
        fair = FairShare(first, server, clock.seconds)
        second.is_ahead(0)
        assert fair.yields(MAX_LEAD + 1)
        fair.look()
        assert fair.yields(MAX_LEAD + 1)
        with socket.create_connection(server.getsockname()):
            second.is_ahead(1)  # it takes connections, and will take this one too
            fair.look()
            assert fair.yields(MAX_LEAD + 2)
            fair.look()
            assert not fair.yields(MAX_LEAD + 2)
            clock.advance(FREE_TIME)
            assert fair.yields(MAX_LEAD + 2)
