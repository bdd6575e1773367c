"""The fixture ``netsrv_server`` with workers: what a test can ask of all of them."""

import os
import re
import signal
import socket
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from netsrv.fixture import ServerError, ServerProcess, expect, reply, script, start_server
from netsrv.fixture.merging import WORKER_ENDED
from tests.clients import exchange, name_of, read_all
from tests.process.children import children, lives, wait_for_exit
from tests.timeouts import CLIENT_TIMEOUT

pytestmark = [
    pytest.mark.version_independent,
    pytest.mark.skipif(not Path("/proc").exists(), reason="reads /proc"),
]

Connect = Callable[..., socket.socket]

MAX_CLIENTS = 100
"""Clients of which both workers have some: the chance that one has none is 2**-99."""

CONFIG = """
workers = 2
log_rate = 10000
[[listener]]
service = "echo"
[[listener]]
service = "discard"
[[listener]]
service = "echo"
udp = "127.0.0.1:0"
[[listener]]
service = "echo"
limits = { max_connections = 3, overload = "reset" }
"""

SERVICES = """
import os

from twisted.internet.protocol import Protocol


class Exits(Protocol):
    def dataReceived(self, data):
        os._exit(7)


class Fails(Protocol):
    def dataReceived(self, data):
        raise ValueError(data.decode())


async def shout(reader, writer):
    writer.write((await reader.readline()).upper())
    writer.close()
    await writer.wait_closed()
"""


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connect clients, which are closed after the test."""
    with ExitStack() as opened:

        def connect_one(server: Any, source: str | None = None) -> socket.socket:
            listener = getattr(server, "listeners", [server])[0]
            kind = socket.SOCK_DGRAM if listener.transport == "udp" else socket.SOCK_STREAM
            sock = opened.enter_context(socket.socket(socket.AF_INET, kind))
            sock.settimeout(CLIENT_TIMEOUT)
            if source is not None:
                sock.bind((source, 0))
            sock.connect(listener.address)
            return sock

        yield connect_one


@pytest.fixture(scope="module")
def running() -> Iterator[ServerProcess]:
    """A server with two workers, for the tests that leave it alive."""
    with start_server(config=CONFIG) as server:
        yield server


@pytest.fixture
def server(running: ServerProcess) -> Iterator[ServerProcess]:
    """The server, without records."""
    yield running
    running.clear_faults()
    running.clear()


def worker_of(server: ServerProcess, client: socket.socket) -> str:
    """Return the index of the worker that has logged a client."""
    return re.findall(rf"(?m)^(\d+): .* {re.escape(name_of(client))}\b", server.log)[-1]


def clients_of(server: ServerProcess, connect: Connect) -> dict[str, list[socket.socket]]:
    """Exchange numbers with clients until both workers have one; return them by the workers."""
    found = defaultdict(list)
    for number in range(MAX_CLIENTS):
        client = connect(server)
        assert exchange(client, b"%d" % number) == b"%d" % number
        found[worker_of(server, client)].append(client)
        if len(found) == 2:
            return dict(found)
    raise AssertionError(f"one worker has all of {MAX_CLIENTS} clients")


def test_records_of_both_workers_are_those_of_one_server(server, connect):
    """They are in the order of acceptance, are counted together, and are forgotten together."""
    clients = [client for found in clients_of(server, connect).values() for client in found]
    count = len(clients)
    server.wait_for_connections(count)
    assert server.received == [b"%d" % number for number in range(count)]
    records = server.connections
    assert sorted(record.peer for record in records) == sorted(map(name_of, clients))
    assert {(record.received, record.sent) for record in records[:9]} == {(1, 1)}
    assert {record.close_reason for record in records} == {None}
    for client in clients:
        client.shutdown(socket.SHUT_WR)
    assert {record.close_reason for record in server.connections} == {"peer"}
    server.clear()
    assert server.connections == server.received == server.errors == []
    connect(server)
    server.wait_for_connections(1)
    with pytest.raises(TimeoutError, match="accepted 1 of 2 connections"):
        server.wait_for_connections(2, timeout=0)


def test_a_fault_is_in_effect_at_all_workers(server, connect):
    """Its hits are counted together, also after its end; an error is that of one server."""
    with server.latency(1) as fault:
        count = sum(map(len, clients_of(server, connect).values()))
        assert fault.hits == count
    connect(server).sendall(b"not hit")
    assert fault.hits == count
    with pytest.raises(ValueError, match=r"^config: latency: latency: 'slow'"):
        server.fault("latency", latency="slow")


def test_a_killed_worker_is_replaced_and_its_records_stay(server, connect):
    """Its successor has the faults that were added, and an answer waits for it."""
    fault = server.latency(1)
    before = children(server.process.pid)
    count = sum(map(len, clients_of(server, connect).values()))
    os.kill(before[0], signal.SIGKILL)
    wait_for_exit(before[0])
    late = [connect(server) for _ in range(MAX_CLIENTS)]  # some wait for the successor
    for client in late:
        client.sendall(b"late")
        client.shutdown(socket.SHUT_WR)
    assert server.received == [b"%d" % number for number in range(count)] + [b"late"] * len(late)
    ended = {record.close_reason for record in server.connections[:count]}
    assert ended == {WORKER_ENDED, None}
    assert [read_all(client) for client in late] == [b"late"] * len(late)
    assert fault.hits == count + len(late)
    after = children(server.process.pid)
    assert len(after) == 2
    assert before[1] in after
    assert "has ended: SIGKILL" in server.log


def test_all_that_has_arrived_is_recorded(server, connect):
    """Data that no client waits for is there when the test asks, and the datagrams of both."""
    _, discard, echo, _ = server.listeners
    numbers = [b"%d" % number for number in range(50)]
    for number in numbers:
        connect(discard).sendall(number)
    assert sorted(discard.received) == sorted(numbers)
    flows = [connect(echo, f"127.0.0.{number}") for number in range(1, 51)]
    for flow, number in zip(flows, numbers, strict=True):
        assert exchange(flow, number) == number
    assert echo.received == numbers
    assert {worker_of(server, flow) for flow in flows} == {"0", "1"}
    echo.wait_for_datagrams(50)


def test_limits_are_those_of_the_whole_server(server, connect):
    """They may be exceeded by one connection for the other worker."""
    limited, served = server.listeners[3], 0
    with suppress(ConnectionError):
        while served < MAX_CLIENTS:
            client = connect(limited)
            client.sendall(b"x")
            served += client.recv(1) == b"x"
    assert 3 <= served <= 4
    assert len(limited.connections) == served


def test_a_restart_and_the_end_leave_no_process(netsrv_server, connect):
    """It is at the same address, also after a kill -9 of the master."""
    server = netsrv_server("echo", workers=2)
    address, pids = server.address, children(server.process.pid)
    client = connect(server)
    assert exchange(client, b"first") == b"first"
    server.stop()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert [record.close_reason for record in server.connections] == ["shutdown"]
    assert server.received == [b"first"]
    assert not any(map(lives, pids))
    server.start()
    pids = children(server.process.pid)
    server.process.kill()
    server.restart()
    assert not any(map(lives, pids))
    assert server.address == address
    assert exchange(connect(server), b"second") == b"second"
    assert server.received == [b"second"]


def test_services_of_the_test(netsrv_server, connect, tmp_path, monkeypatch):
    """Protocols that fail and that end their worker, and a handler: each in both workers."""
    (tmp_path / "of_the_test.py").write_text(SERVICES)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    config = """
    workers = 2
    [[listener]]
    service = "of_the_test:Fails"
    [[listener]]
    service = "of_the_test:shout"
    [[listener]]
    service = "of_the_test:Exits"
    """
    server = netsrv_server(config=config)
    fails, shout, exits = server.listeners
    for number in range(20):
        client = connect(fails)
        client.sendall(b"%d" % number)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert exchange(connect(shout), b"hello\n") == b"HELLO\n"
    assert server.errors == [f"of_the_test:Fails: ValueError: {number}" for number in range(20)]
    assert {record.close_reason for record in fails.connections} == {"service_failed"}
    assert shout.received == [b"hello\n"] * 20
    client = connect(exits)
    client.sendall(b"the end")
    assert client.recv(1) == b""
    [record] = exits.connections
    assert (record.received, record.close_reason, exits.received) == (7, WORKER_ENDED, [b"the end"])
    assert "has ended: exit 7" in server.log


def test_a_script_of_one_part_serves_all_connections(netsrv_server, connect):
    """In both workers; a mismatch is an error of the server."""
    server = netsrv_server.script(expect(b"ping"), reply(b"pong"), workers=2)
    assert [exchange(connect(server), b"ping") for _ in range(20)] == [b"pong"] * 20
    client = connect(server)
    client.sendall(b"what")
    assert read_all(client) == b""
    [error] = server.errors
    assert error.endswith("expected b'ping', got b'what'")
    with pytest.raises(ServerError, match=r"^netsrv_server: script: .* needs workers = 1$"):
        start_server(script([reply(b"x")], [reply(b"y")]), workers=2)


def test_a_server_that_cannot_start_is_an_error(server, netsrv_server):
    """It names the option, or the address."""
    with pytest.raises(ServerError, match=r"^netsrv_server: workers: 0: a whole number from 1 to"):
        netsrv_server("echo", workers=0)
    with pytest.raises(ServerError, match="Address already in use"):
        netsrv_server("echo", workers=2, port=server.port)
