"""The connection slots of a process: its descriptors do not run out."""

import resource

import pytest

from tests.clients import exchange, tcp
from tests.process.running import Running
from tests.process.starts import TWISTD

pytestmark = pytest.mark.version_independent

RESERVE = 64
"""Descriptors reserved for everything but connections."""


def served_in_turn(server: Running, places: int, clients: int) -> None:
    """Connect more clients than there are slots; each is served when an earlier one has gone."""
    port = server.port("tcp")
    socks = [tcp(port) for _ in range(clients)]
    for sock in socks[:places]:
        assert exchange(sock, b"hello") == b"hello"
    server.wait_for(r"new connections wait in the backlog \(--max-connections\)$")
    for first, later in zip(socks, socks[places:], strict=False):
        first.close()
        assert exchange(later, b"hello") == b"hello"
    for sock in socks:
        sock.close()
    assert server.stop() in (0, -15)
    assert "Too many open files" not in server.output
    assert "Traceback" not in server.output


@pytest.mark.parametrize("listeners", [1, 3])
def test_f16_descriptors_do_not_run_out(listeners, serve):
    """F16: with few descriptors new connections wait in the backlog, at all listeners together."""
    limit = RESERVE + 20
    more = ["--tcp", "accept=127.0.0.1:0"] * (listeners - 1)
    server = serve(
        "--tcp",
        "echo=127.0.0.1:0",
        *more,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)),
    )
    served_in_turn(server, 20, 30)


def test_the_select_reactor_is_not_given_more_than_it_can_watch(tmp_path):
    """Beyond FD_SETSIZE, select's limit, new connections wait in the backlog; none is lost."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 2048:
        pytest.skip(f"needs 2048 descriptors, and has {soft} (ulimit -n)")
    command = [TWISTD.command[0], "--reactor=select", *TWISTD.command[1:]]
    with Running([*command, "--tcp", "echo=127.0.0.1:0"], tmp_path) as server:
        served_in_turn(server, 1024 - RESERVE, 1010)
