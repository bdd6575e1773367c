"""A process under load: everything arrives, and nothing accumulates."""

import hashlib
import os
import random
import re
import resource
import selectors
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench.drain import drain
from tests.timeouts import TIMEOUT

pytestmark = pytest.mark.version_independent

MIB = 1 << 20
PEERS = 1000
GROWTH = 4 * MIB
"""Bytes that the process may have grown by since a tenth of the load: the allocator's own
variation, not something kept for each of so many peers."""


@pytest.fixture
def server(serve):
    """A server of accept and echo on TCP, and echo on UDP."""
    server = serve("--tcp", "127.0.0.1:0", "--tcp", "echo=127.0.0.1:0", "--udp", "127.0.0.1:0")
    server.port("udp")
    return server


def resident(running) -> int:
    """Bytes of memory that the process has in RAM."""
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024


def descriptors(running) -> int:
    """Count the descriptors that the process has open."""
    return len(os.listdir(f"/proc/{running.process.pid}/fd"))


def nothing_stays(running, load, *arguments) -> None:
    """Put a tenth of a load on the process, then all of it; fail if it has grown."""
    load(running, *(each // 10 for each in arguments))
    open_before, size_before = descriptors(running), resident(running)
    load(running, *arguments)
    assert descriptors(running) == open_before
    assert resident(running) - size_before <= GROWTH


def connect_and_read(port: int, times: int) -> None:
    """Connect *times* times in turn, and read each time until the end."""
    for _ in range(times):
        with socket.create_connection(("127.0.0.1", port), TIMEOUT) as sock:
            assert sock.recv(1) == b""


def many_connections(running, total: int) -> None:
    """Let four clients at once make *total* connections."""
    port = running.port("tcp")
    with ThreadPoolExecutor(4) as clients:
        for done in [clients.submit(connect_and_read, port, total // 4) for _ in range(4)]:
            done.result()


def test_10_000_connections_are_all_logged_or_counted(server):
    """Lines about single peers and totals add up to every connection."""
    nothing_stays(server, many_connections, 10_000)
    assert server.stop() == 0
    logged = len(re.findall("Got connection from", server.output))
    counted = sum(
        int(each) for each in re.findall(r"\(--log-rate\): (\d+) connections?", server.output)
    )
    assert logged + counted == 11_000
    assert 0 < logged < 11_000


def echo_intact(port: int, size: int) -> None:
    """Send *size* random bytes to echo while reading them back, and compare."""
    data = random.randbytes(size)
    came_back = hashlib.sha256()
    connection = socket.create_connection(("127.0.0.1", port), TIMEOUT)
    with connection as sock, ThreadPoolExecutor(1) as sender:
        sent = sender.submit(lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)))
        while piece := sock.recv(MIB):
            came_back.update(piece)
        sent.result()
    assert came_back.digest() == hashlib.sha256(data).digest()


def fifty_echoes(running, size: int) -> None:
    """Echo on 50 connections at once, *size* bytes on each."""
    port = running.port("tcp", 2)
    with ThreadPoolExecutor(50) as clients:
        for done in [clients.submit(echo_intact, port, size) for _ in range(50)]:
            done.result()


def test_100_megabytes_come_back_intact_on_50_connections(server):
    """Every byte of 2 MB on each of 50 connections at once comes back in its place."""
    nothing_stays(server, fifty_echoes, 2_000_000)


def datagrams_in_flight(running, total: int, in_flight: int = 40) -> None:
    """Send *total* numbered datagrams, a window at a time, and compare the echoes."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect(("127.0.0.1", running.port("udp")))
        for first in range(0, total, in_flight):
            sent = [b"%064d" % number for number in range(first, min(first + in_flight, total))]
            for datagram in sent:
                sock.send(datagram)
            assert [sock.recv(100) for _ in sent] == sent


def test_200_000_datagrams_come_back(server):
    """Of these datagrams, 40 in flight, none is lost, changed or reordered.

    ``python -m bench.soak`` sends 10,000,000.
    """
    nothing_stays(server, datagrams_in_flight, 200_000)


def test_f1_peers_that_do_not_read_are_bounded(server):
    """F1: 1,000 peers of echo that never read cost at most 256 MiB."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < PEERS + 100:
        pytest.skip(f"needs {PEERS + 100} descriptors, and has {soft} (ulimit -n)")
    port = server.port("tcp", 2)
    before = resident(server)
    with ExitStack() as stack:
        address = ("127.0.0.1", port)
        peers = [
            stack.enter_context(socket.create_connection(address, TIMEOUT)) for _ in range(PEERS)
        ]
        fed = feed_until_they_stop(peers)
        assert fed > 256 * MIB
        assert resident(server) - before <= 256 * MIB


def feed_until_they_stop(peers: list[socket.socket]) -> int:
    """Send to all without reading, until none takes more for a second; return the bytes."""
    fed = 0
    with selectors.DefaultSelector() as selector:
        for peer in peers:
            peer.setblocking(False)
            selector.register(peer, selectors.EVENT_WRITE)
        while ready := selector.select(1):
            for key, _ in ready:
                fed += key.fileobj.send(bytes(65_536))
    return fed


@pytest.mark.parametrize("staying", [0, 100])
def test_f81_a_drain_under_load(staying, tmp_path):
    """F81: peers that read get everything; the status is 0, or 3 if some were aborted."""
    drain(tmp_path, staying)
