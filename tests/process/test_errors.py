"""Errors at start: one line without delay, and nothing is left behind."""

import resource
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients import exchange, outgoing, taken, tcp
from tests.process import needs
from tests.process.starts import SERVE, TWIST, TWISTD, each_start, finish, only_line

pytestmark = pytest.mark.version_independent

each_kind = pytest.mark.parametrize(
    ("transport", "kind"), [("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)]
)


# Addresses that cannot be had


@each_start
@each_kind
def test_f91_port_in_use(transport, kind, start, tmp_path):
    """A port in use is reported in one line with the address and the errno's text."""
    with taken(("127.0.0.1", 0), kind) as port:
        done = finish([*start.command, f"--{transport}", f"echo=127.0.0.1:{port}"], tmp_path)
    assert done.returncode == start.unavailable
    assert only_line(done) == f"netsrv: {transport} 127.0.0.1:{port}: Address already in use"


@each_kind
def test_f91_ipv6_port_in_use(transport, kind, tmp_path):
    """An IPv6 port in use is shown in brackets."""
    needs.ipv6()
    with taken(("::1", 0), kind) as port:
        done = finish([*SERVE.command, f"--{transport}", f"echo=[::1]:{port}"], tmp_path)
    assert done.returncode == SERVE.unavailable
    assert only_line(done) == f"netsrv: {transport} [::1]:{port}: Address already in use"


def test_port_in_use_by_a_busy_server(tmp_path, serve):
    """A server with connections is not reported as an outgoing connection."""
    with serve("--tcp", "echo=127.0.0.1:0", start=TWISTD) as server:
        port = server.port("tcp")
        with tcp(port) as client:
            assert exchange(client, b"hello") == b"hello"
            done = finish([*TWISTD.command, "--tcp", f"127.0.0.1:{port}"], tmp_path)
            assert exchange(client, b"again") == b"again"
    assert only_line(done) == f"netsrv: tcp 127.0.0.1:{port}: Address already in use"


@pytest.mark.parametrize(("transport", "host"), [("tcp", "192.0.2.1"), ("udp", "[2001:db8::1]")])
def test_f91_absent_address(transport, host, tmp_path):
    """An address that no interface has is reported in one line."""
    if ":" in host:
        needs.ipv6()
    done = finish([*SERVE.command, f"--{transport}", f"echo={host}:0"], tmp_path)
    assert done.returncode == SERVE.unavailable
    assert only_line(done) == f"netsrv: {transport} {host}:0: Cannot assign requested address"


@pytest.mark.parametrize(
    ("start", "transport"), [(SERVE, "tcp"), (TWISTD, "udp"), (TWIST, "tcp")], ids=str
)
def test_f91_low_port(start, transport, tmp_path):
    """A port that takes a privilege is reported in one line that names the privilege."""
    port = needs.forbidden_port()
    command = [*needs.powerless(), *start.located, f"--{transport}", f"echo=127.0.0.1:{port}"]
    done = finish(command, tmp_path)
    assert done.returncode == start.unavailable
    words = "Permission denied: ports below 1024 need root, or CAP_NET_BIND_SERVICE"
    assert only_line(done) == f"netsrv: {transport} 127.0.0.1:{port}: {words}"


@each_kind
def test_f92_port_of_an_outgoing_connection(transport, kind, tmp_path):
    """A port held by an outgoing connection is reported with the connection's target."""
    with outgoing(kind) as (port, there):
        done = finish([*SERVE.command, f"--{transport}", f"echo={port}"], tmp_path)
    assert done.returncode == SERVE.unavailable
    assert only_line(done).startswith(
        f"netsrv: {transport} 0.0.0.0:{port}: Address already in use: "
        f"an outgoing connection to port {there} has {port}, "
    )


# None or all


@pytest.mark.parametrize(
    ("start", "last"),
    [(SERVE, "[::1"), *((each, "192.0.2.1:0") for each in (SERVE, TWISTD, TWIST))],
    ids=str,
)
def test_f91_nothing_stays_half_started(last, start, tmp_path):
    """If the last of several listeners fails, the sockets of the others are closed."""
    options = ["--unix", "echo=echo.sock", "--tcp", "127.0.0.1:0", "--tcp", last]
    done = finish([*start.command, *options], tmp_path)
    assert done.returncode in (start.unavailable, start.misconfigured)
    assert last in only_line(done)
    assert list(tmp_path.iterdir()) == []


def test_an_option_that_fits_nothing_leaves_nothing(tmp_path):
    """An option that fits no socket is reported before anything is served."""
    options = ["--unix", "echo=echo.sock", "--socket-option", "TCP_NODELAY=1"]
    done = finish([*SERVE.command, *options], tmp_path)
    assert done.returncode == SERVE.misconfigured
    assert only_line(done).startswith("netsrv: --socket-option TCP_NODELAY: ")
    assert list(tmp_path.iterdir()) == []


# Descriptors


def few_descriptors(number: int) -> Callable[[], None]:
    """Return a function that limits a process about to start to *number* descriptors."""
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (number, number))


def test_f98_too_few_descriptors_for_the_sockets(tmp_path):
    """Without descriptors for all sockets, the error names the listener that has none."""
    options = ["--unix", "echo=echo.sock", *["--tcp", "127.0.0.1:0"] * 40]
    done = finish([*SERVE.command, *options], tmp_path, preexec_fn=few_descriptors(24))
    assert done.returncode == SERVE.unavailable
    assert only_line(done) == "netsrv: tcp 127.0.0.1:0: Too many open files"
    assert list(tmp_path.iterdir()) == []


@each_start
@pytest.mark.parametrize("spare", [0, 3])
def test_f98_no_descriptor_is_left_for_the_rest(spare, start, tmp_path):
    """Without descriptors for the reactor, the start fails with one line."""
    options = ["--unix", "echo=echo.sock", *["--tcp", "127.0.0.1:0"] * 8]
    standard, sockets = 3, 9
    limit = few_descriptors(standard + sockets + spare)
    done = finish([*start.command, *options], tmp_path, preexec_fn=limit)
    assert done.returncode == start.unavailable
    assert "Too many open files" in only_line(done)
    assert list(tmp_path.iterdir()) == []


# Cost


def modules_imported(command: list[str], cwd: Path) -> int:
    """Count the modules that a command imports: the main cost of a start."""
    done = finish(command, cwd, env={"PYTHONPROFILEIMPORTTIME": "1"})
    return done.stderr.count("import time:")


def test_an_error_is_cheap(tmp_path):
    """An error imports little more than ``twistd --help`` does, and no reactor."""
    error = modules_imported([*TWISTD.command, "--tcp", "192.0.2.1:0"], tmp_path)
    shortest = modules_imported(["twistd", "--help"], tmp_path)
    assert 100 < shortest < error <= 1.45 * shortest


@each_start
def test_f91_an_error_takes_less_than_a_second(start, tmp_path):
    """The limit is a second of processor time, however loaded the machine is."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = finish([*start.command, "--tcp", "192.0.2.1:0"], tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == start.unavailable
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


def test_usage_under_twistd(tmp_path):
    """Without a listener, the error and where the options are listed are all that twistd prints."""
    done = finish([*TWISTD.command], tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    error, hint = done.stderr.splitlines()
    assert error.startswith("netsrv: nothing to serve: give at least one of --tcp, --udp and")
    assert hint == "twistd netsrv --help shows all options"
