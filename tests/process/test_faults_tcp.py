"""Faults of connections on a running server."""

import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from bench.measure import cpu_seconds
from tests.clients import exchange, read_all, talk, tcp
from tests.process.starts import EPOLL
from tests.timeouts import TIMEOUT

pytestmark = pytest.mark.version_independent


def latency(sock: socket.socket, times: int = 300) -> float:
    """Return the shortest round trip to echo, in seconds: the undisturbed one."""
    taken = []
    for _ in range(times):
        began = time.monotonic()
        assert exchange(sock, b"hello") == b"hello"
        taken.append(time.monotonic() - began)
    return min(taken)


def test_f10_connections_keep_their_latency_at_the_limit(serve):
    """A hundred connections in the backlog do not slow down those that are served."""
    server = serve("--tcp", "echo=0", "--max-connections", "2")
    port = server.port("tcp")
    with tcp(port) as first, tcp(port) as second:
        assert exchange(second, b"hello") == b"hello"
        alone = latency(first)
        waiting = [tcp(port) for _ in range(100)]
        assert latency(first) < 3 * alone
    for each in waiting:  # and they are served now
        with each:
            assert exchange(each, b"hello") == b"hello"
    assert server.stop() == 0


@contextmanager
def in_the_background(work: threading.Thread) -> Iterator[None]:
    """Run a thread during the block, and wait for its end."""
    work.start()
    try:
        yield
    finally:
        work.join(TIMEOUT)
    assert not work.is_alive()


def test_f11_one_source_that_opens_10_000_takes_its_share_only(serve):
    """A source that connects 10,000 times gets its share; another is served meanwhile."""
    share = 50
    kept: list[socket.socket] = []

    def flood(port: int) -> None:
        for _ in range(10_000):
            sock = tcp(port, source="127.0.0.2")
            if len(kept) < share:
                kept.append(sock)
            else:
                with sock:
                    assert read_all(sock) == b""

    server = serve("--tcp", "echo=0", "--per-source", str(share), "--log-rate", "0")
    port = server.port("tcp")
    served = 0
    greedy = threading.Thread(target=flood, args=(port,), daemon=True)
    with in_the_background(greedy):
        while greedy.is_alive():
            with tcp(port, source="127.0.0.3") as other:
                assert exchange(other, b"hello") == b"hello"
            served += 1
    assert served > 10
    assert [exchange(each, b"still") for each in kept] == [b"still"] * share
    for each in kept:
        each.close()
    assert server.stop() == 0
    rejected = [line for line in server.lines if "rejected" in line]
    assert "(--per-source)" in rejected[0]


def open_and_close(port: int, cycles: int) -> None:
    """Connect and disconnect *times* times, in every way: FIN, RST, with and without a word.

    A connection beyond the limit is rejected, which is one way more.
    """
    for number in range(cycles):
        with suppress(ConnectionError), tcp(port) as sock:
            if number % 3 == 0:
                assert exchange(sock, b"hello") == b"hello"
            elif number % 3 == 1:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def test_f3_f15_after_many_cycles_every_slot_is_free(serve):
    """However peers have ended, even with RST, as many as before can connect."""
    limits = ["--max-connections", "4", "--per-source", "3", "--overload", "reset"]
    server = serve("--tcp", "echo=0", "--log-rate", "0", *limits)
    port = server.port("tcp")
    open_and_close(port, 10_000)
    inside = come_in(port, 3)
    with pytest.raises(ConnectionError):
        exchange(tcp(port), b"one more")
    with tcp(port, source="127.0.0.2") as fourth:
        assert exchange(fourth, b"hello") == b"hello"
        with pytest.raises(ConnectionError):
            exchange(tcp(port, source="127.0.0.3"), b"one more")
    for each in inside:
        each.close()
    assert server.stop() == 0


def come_in(port: int, number: int) -> list[socket.socket]:
    """Connect *number* times; a rejected connection is retried, as the last may be closing."""
    inside: list[socket.socket] = []
    deadline = time.monotonic() + TIMEOUT
    while len(inside) < number and time.monotonic() < deadline:
        sock = tcp(port)
        try:
            assert exchange(sock, b"hello") == b"hello"
        except ConnectionError:
            sock.close()
        else:
            inside.append(sock)
    assert len(inside) == number
    return inside


def test_f16_without_descriptors_clients_wait_and_the_server_rests(serve):
    """Meanwhile the server uses 5 % of a processor and a line a second; then all are served."""
    server = serve("--tcp", "echo=0", start=EPOLL)
    port, pid = server.port("tcp"), server.process.pid
    with tcp(port) as first:
        assert exchange(first, b"hello") == b"hello"
        used = [int(each) for each in os.listdir(f"/proc/{pid}/fd")]
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (max(used) + 4, before[1]))
        clients = [tcp(port) for _ in range(8)]
        server.wait_for("accept failed: Too many open files; ")
        spent, seen = cpu_seconds(pid), len(server.lines)
        clients[-1].settimeout(2)
        with pytest.raises(TimeoutError):
            clients[-1].recv(1)
        assert cpu_seconds(pid) - spent < 0.05 * 2
        assert len(server.lines) - seen <= 3
        server.wait_for(r"Suppressed in the last second .*accept errors? \(EMFILE\)")
        assert exchange(first, b"still") == b"still"
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    clients[-1].settimeout(TIMEOUT)
    assert [talk(each, b"hello") for each in clients] == [b"hello"] * len(clients)
    assert server.stop() == EPOLL.drained
