"""Faults that a kernel does not produce on demand, injected into the real process by strace."""

import errno
import os
import re
import signal
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from tests.clients import exchange, read_all, talk, tcp, udp
from tests.process import needs
from tests.process.running import Running, located
from tests.process.starts import EPOLL, SERVE, Start

pytestmark = pytest.mark.version_independent

PAUSE = 0.1
"""Seconds that the server waits before it retries."""

AT_ONCE = 64
"""Consecutive connections that may fail before the acceptor waits."""

TIMES = 3
"""Consecutive times that a system call fails."""

WELL = 3
"""Further calls: the one that succeeds, the one after it, and the last at the end."""

Faulty = Callable[..., Running]


@pytest.fixture
def faulty(tmp_path: Path) -> Faulty:
    """Start a server in which a system call fails, by default the first `TIMES` times."""

    def start(
        call: str, error: str, *options: str, when: str = f"1..{TIMES}", how: Start = SERVE
    ) -> Running:
        injection = f"error={error}:when={when}"
        strace = needs.strace(tmp_path / "trace", call, injection)
        return Running([*strace, *how.located, *options], tmp_path)

    return start


def calls(folder: Path) -> list[tuple[float, str]]:
    """Return what strace has recorded of a server that has ended: (time, result) of each call."""
    trace = (folder / "trace").read_text()
    found = re.findall(r"^\d+ +(\d+\.\d+) \w+\(.*\) = (.*)$", trace, re.MULTILINE)
    return [(float(when), result) for when, result in found]


def pauses(made: list[tuple[float, str]]) -> list[float]:
    """Return the seconds between each call that strace made to fail and the next call."""
    return [
        after - before for (before, result), (after, _) in pairwise(made) if "INJECTED" in result
    ]


def words(error: str) -> str:
    """Return an errno's text, for a pattern."""
    return re.escape(os.strerror(getattr(errno, error)))


# Accepting


@pytest.mark.parametrize(
    "error",
    "ECONNABORTED EPROTO EPERM ENETDOWN EHOSTUNREACH ENOSR EPROTONOSUPPORT".split(),
)
def test_f18_connection_lost_before_it_was_accepted(error, faulty, tmp_path):
    """An error of one connection is logged, and the next client is served without delay."""
    with faulty("accept4", error, "--tcp", "echo=0", how=EPOLL) as server:
        with tcp(server.port("tcp")) as client:
            server.wait_for(rf"tcp 0\.0\.0\.0:\d+ \(echo\): accept failed: {words(error)}; further")
            assert talk(client, b"hello") == b"hello"
        assert server.stop() == EPOLL.drained
        assert "Traceback" not in server.output
    assert [result for _, result in calls(tmp_path)][:TIMES] == [
        f"-1 {error} ({os.strerror(getattr(errno, error))}) (INJECTED)"
    ] * TIMES


@pytest.mark.parametrize("error", "EMFILE ENFILE ENOBUFS ENOMEM".split())
def test_f16_f17_no_resources_for_a_connection(error, faulty, tmp_path):
    """Without resources the acceptor pauses; then the waiting client is served."""
    with faulty("accept4", error, "--tcp", "echo=0", how=EPOLL) as server:
        with tcp(server.port("tcp")) as client:
            server.wait_for(rf"tcp 0\.0\.0\.0:\d+ \(echo\): accept failed: {words(error)}; further")
            assert talk(client, b"hello") == b"hello"
        assert server.stop() == EPOLL.drained
    made = calls(tmp_path)
    assert len(pauses(made)) == TIMES
    assert min(pauses(made)) > 0.9 * PAUSE
    assert len(made) <= TIMES + WELL


@pytest.mark.parametrize(
    ("error", "tries"), [("EPERM", AT_ONCE), ("ENFILE", 1), ("EMFILE", 1), ("ENOBUFS", 1)]
)
def test_f16_f18_an_error_that_stays_is_noticed_on_uvloop(error, tries, faulty):
    """The reactor detects lasting ``accept`` errors, which uvloop does not report.

    The pauses leave room for eleven turns in a second.
    """
    with faulty("accept4", error, "--tcp", "echo=0", when="1+") as server:
        with tcp(server.port("tcp")):
            server.wait_for(rf"\(echo\): accept failed: {words(error)}; further")
            found = server.wait_for(
                rf"Suppressed in the last second .*: (\d+) accept errors? \({error}\)"
            )
        assert int(found[1]) <= tries * (1 / PAUSE + 1)
        assert server.stop() == 0
        assert "Traceback" not in server.output


@pytest.mark.parametrize("error", "ECONNABORTED ENETDOWN ENOMEM".split())
def test_f16_f18_an_error_that_passes_is_not_seen_on_uvloop(error, faulty):
    """uvloop retries, and the client is served."""
    with faulty("accept4", error, "--tcp", "echo=0") as server:
        assert talk(tcp(server.port("tcp")), b"hello") == b"hello"
        assert server.stop() == 0
        assert "accept failed: " not in server.output


def test_a_pause_does_not_outlive_the_listener(faulty):
    """A server that is pausing drains like any other at SIGTERM."""
    with faulty("accept4", "EMFILE", "--tcp", "daytime=0", when="2+") as server:
        port = server.port("tcp")
        with tcp(port) as lingering, tcp(port):  # the first has its line, and does not end
            assert read_all(lingering).endswith(b"-UTC\r\n")
            server.wait_for("accept failed: Too many open files; ")
            server.process.send_signal(signal.SIGTERM)
            assert server.wait() == 0
        server.wait_for(r"(?:\]|:\d\d) Draining: 1 connection, ")
        assert "Traceback" not in server.output


@pytest.mark.parametrize("error", ["EBADF", "EINVAL"])
def test_listening_socket_is_gone(error, faulty, tmp_path):
    """A listening socket that fails is reported once, and other listeners keep serving."""
    options = ["--tcp", "echo=0", "--udp", "echo=0"]
    with faulty("accept4", error, *options, how=EPOLL) as server:
        with pytest.raises(ConnectionError):
            exchange(tcp(server.port("tcp")), b"hello")
        server.wait_for(rf"the listening socket failed: {words(error)}; no more connections")
        with udp(server.port("udp")) as client:
            assert exchange(client, b"hello") == b"hello"
        assert server.stop() == EPOLL.drained
        assert server.output.count("the listening socket failed") == 1
        assert "Traceback" not in server.output
    assert len(calls(tmp_path)) == 1


def test_clients_of_a_lost_listener_are_refused(faulty):
    """After a listening socket has failed, its port refuses connections."""
    with faulty("accept4", "EINVAL", "--tcp", "echo=0", when="1+") as server:
        port = server.port("tcp")
        with pytest.raises(ConnectionError):
            exchange(tcp(port), b"hello")
        server.wait_for("the listening socket failed: ")
        with pytest.raises(ConnectionRefusedError):
            tcp(port)


# Receiving datagrams


@pytest.mark.parametrize(
    "error", "ECONNREFUSED EHOSTUNREACH ENETDOWN EPROTO EHOSTDOWN ECONNRESET".split()
)
def test_f37_f38_late_news_of_an_earlier_send(error, faulty, tmp_path):
    """An ICMP error of an earlier datagram is logged, and receiving goes on without a pause."""
    with faulty("recvmsg", error, "--udp", "0") as server:
        with udp(server.port("udp")) as client:
            assert exchange(client, b"hello") == b"hello"
        line = rf"udp 0\.0\.0\.0:\d+ \(echo\): dropped a datagram: receive {error}$"
        server.wait_for(line, TIMES)
        assert server.stop() == 0
        assert "Traceback" not in server.output
    assert len(calls(tmp_path)) <= TIMES + WELL


@pytest.mark.parametrize("error", "ENOMEM EIO ENOBUFS EINVAL".split())
def test_f38_receiving_fails(error, faulty, tmp_path):
    """Any error of receiving is logged and followed by a pause; the port stays open."""
    with faulty("recvmsg", error, "--udp", "0") as server:
        with udp(server.port("udp")) as client:
            assert exchange(client, b"hello") == b"hello"
        server.wait_for(rf"udp \S+ \(echo\): dropped a datagram: receive {error}$", TIMES)
        assert server.stop() == 0
        assert "Traceback" not in server.output
    made = calls(tmp_path)
    assert len(pauses(made)) == TIMES
    assert min(pauses(made)) > 0.9 * PAUSE
    assert len(made) <= TIMES + WELL


@pytest.mark.parametrize("error", ["EBADF", "ENOTSOCK"])
def test_f38_a_dead_socket_is_opened_again(error, faulty, tmp_path):
    """It is reopened at the same port, although 0 was requested, with the same options."""
    options = ["--udp", "0", "--socket-option", "SO_RCVBUF=50000"]
    with faulty("recvmsg", error, *options, when="2") as server:
        port = server.port("udp")
        with udp(port) as client:  # the second call finds the queue empty
            assert exchange(client, b"hello") == b"hello"
            server.wait_for(rf"dropped a datagram: receive {error}$")
            server.wait_for(rf"udp 0\.0\.0\.0:{port} \(echo\): the socket failed: {words(error)};")
            server.wait_for(rf"udp 0\.0\.0\.0:{port} \(echo\): the socket is open again$")
            assert exchange(client, b"hello") == b"hello"
        assert server.stop() == 0
        assert server.output.count("the socket failed") == 1
        assert "Traceback" not in server.output


def test_f38_a_port_that_needs_root_cannot_be_opened_again(tmp_path):
    """A server without root logs once why it cannot, and serves its other listeners."""
    needs.root()
    port = needs.free_low_port()
    strace = needs.strace(tmp_path / "trace", "recvfrom", "error=EBADF:when=1")
    command = ["twistd", "-n", "--pidfile=", "--uid", "nobody", "netsrv", "--tcp", "echo=0"]
    started = [*strace, *located([*command, "--udp", f"127.0.0.1:{port}"])]
    with Running(started, tmp_path) as server:
        with udp(server.port("udp")) as client:
            client.send(b"lost")
        line = rf"cannot reopen the socket: udp 127\.0\.0\.1:{port}: Permission denied: ports below"
        server.wait_for(line)
        with tcp(server.port("tcp")) as other:
            assert exchange(other, b"hello") == b"hello"
        server.stop()
        assert server.output.count("cannot reopen the socket") == 1
        assert "Traceback" not in server.output


# Sending datagrams


@pytest.mark.parametrize(("call", "address"), [("sendmsg", "0"), ("sendto", "127.0.0.1:0")])
@pytest.mark.parametrize(
    "error", "ENOBUFS EPERM ENETUNREACH EMSGSIZE EAGAIN EINVAL ECONNREFUSED EPIPE".split()
)
def test_f39_sending_fails(error, call, address, faulty, tmp_path):
    """A datagram that cannot be sent is dropped and logged, and the next one is sent."""
    with faulty(call, error, "--udp", address) as server:
        with udp(server.port("udp")) as client:
            for number in range(1, TIMES + 1):
                client.send(b"lost")
                server.wait_for(rf"udp \S+ \(echo\): dropped a datagram: send {error}$", number)
            assert exchange(client, b"hello") == b"hello"
        assert server.stop() == 0
        assert "Traceback" not in server.output
    results = [result for _, result in calls(tmp_path)]
    assert len(results) == TIMES + 1
    assert results[-1] == str(len(b"hello"))
