"""Workers: a master and its processes, as a user starts and signals them."""

import json
import os
import re
import select
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.request import urlopen

import pytest

from bench import replacements
from tests.clients import exchange, free_port, tcp, udp, unix, visit
from tests.process.children import children, wait_for_exit
from tests.process.running import Running
from tests.process.starts import SERVE, TWISTD, finish, only_line
from tests.timeouts import TIMEOUT

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="reads /proc")

CONFIG = """
workers = 2
[[listener]]
service = "echo"
tcp = "127.0.0.1:{port}"
[[listener]]
service = "echo"
udp = "127.0.0.1:{port}"
"""


@pytest.fixture(params=[SERVE, TWISTD], ids=str)
def server(request, tmp_path, serve):
    """A server with two workers, a file, and its port."""
    port = free_port()
    (tmp_path / "netsrv.toml").write_text(CONFIG.format(port=port))
    running: Running = serve("-c", "netsrv.toml", start=request.param)
    running.start, running.own_port = request.param, port
    running.wait_for("Waiting for datagrams")
    return running


def test_workers_serve_and_are_replaced_and_drain(server, tmp_path):
    """One server's life: served, killed, reloaded, more, fewer, bad file, drained."""
    pid, port = server.process.pid, server.own_port
    workers = children(pid)
    assert len(workers) == 2
    assert visit(port, b"hello") == b"hello"
    with udp(port) as flow:
        assert exchange(flow, b"one") == b"one"
        # A killed worker is replaced, and a client in its queue is served.
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)
        with tcp(port) as waiting:
            waiting.sendall(b"queued")
            for worker in workers:
                os.kill(worker, signal.SIGKILL)
            assert waiting.recv(10) == b"queued"
        server.wait_for("has ended: SIGKILL", 2)
        assert exchange(flow, b"two") == b"two"
        # A reload replaces both, and a connection goes on.
        with tcp(port) as connection:
            assert exchange(connection, b"before") == b"before"
            before = children(pid)
            server.process.send_signal(signal.SIGHUP)
            server.wait_for("Reloaded: 2 listeners, 2 workers replaced")
            assert exchange(connection, b"after") == b"after"
            assert exchange(flow, b"three") == b"three"
        for worker in before:
            wait_for_exit(worker)
        # One fewer, and one more.
        server.process.send_signal(signal.SIGTTOU)
        server.wait_for("1 worker now")
        assert [visit(port, b"alone") for _ in range(8)] == [b"alone"] * 8
        assert exchange(flow, b"four") == b"four"
        server.process.send_signal(signal.SIGTTIN)
        server.wait_for("2 workers now")
        assert [visit(port, b"again") for _ in range(8)] == [b"again"] * 8
        if server.start is SERVE:  # The program again, in the same process.
            open_before = len(os.listdir(f"/proc/{pid}/fd"))
            with tcp(port) as connection:
                assert exchange(connection, b"before") == b"before"
                server.process.send_signal(signal.SIGUSR2)
                server.wait_for("has taken over")
                server.wait_for("Reloaded: 2 listeners, 2 workers replaced", 2)
                assert exchange(connection, b"after") == b"after"
                assert exchange(flow, b"five") == b"five"
            server.wait_for("Drained: 1 connection ended, 0 aborted", 2)
            assert len(os.listdir(f"/proc/{pid}/fd")) <= open_before + 4  # of a worker that ends
        # A bad file changes nothing.
        (tmp_path / "netsrv.toml").write_text("workers = 'many'")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("netsrv.toml: workers: 'many': a whole number")
        server.wait_for("Nothing is changed: the workers are as before")
        assert exchange(flow, b"five") == b"five"
    assert server.stop() == server.start.drained
    assert children(pid) == []
    with socket.socket() as sock:
        assert sock.connect_ex(("127.0.0.1", port)) != 0


def test_f86_workers_end_with_a_master_that_is_killed(serve, tmp_path):
    """Frozen ones too; then the address is free."""
    port = free_port()
    server = serve("--tcp", f"echo=127.0.0.1:{port}", "--workers", "2")
    server.wait_for("Waiting for connections")
    workers = children(server.process.pid)
    os.kill(workers[0], signal.SIGSTOP)
    server.process.kill()
    for worker in workers:
        wait_for_exit(worker)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))


def test_f93_an_address_in_use_is_an_error_also_if_it_could_be_shared(tmp_path, serve):
    """Two servers of one user do not share the connections of an address by mistake."""
    port = free_port()
    server = serve("--tcp", f"127.0.0.1:{port}", "--workers", "2")
    server.wait_for("Waiting for connections")
    done = finish(["netsrv", "serve", "--tcp", f"127.0.0.1:{port}", "--workers", "2"], tmp_path)
    assert done.returncode == SERVE.unavailable
    assert only_line(done) == f"netsrv: tcp 127.0.0.1:{port}: Address already in use"


def test_status_and_logs_are_those_of_one_server(tmp_path, serve):
    """Counts are sums that survive workers, and every line of both logs is whole."""
    options = ("--access-log", "access.jsonl", "--log-rate", "1000", "--log-format", "json")
    server = serve(
        *("--tcp", "echo=127.0.0.1:0", "--status", "127.0.0.1:0", "--workers", "2"), *options
    )
    address = server.wait_for(r"Serving status on http://([0-9.:]+)/")[1]
    port = server.port("tcp")
    name = f"tcp 127.0.0.1:{port} (echo)"

    def count(metric: str, labels: str = f'{{listener="{name}"}}') -> int:
        with urlopen(f"http://{address}/metrics") as answer:
            [line] = re.findall(
                rf"^{re.escape(metric + labels)} (\S+)$", answer.read().decode(), re.M
            )
        return int(float(line))

    def visit_all() -> None:
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(lambda _: visit(port, b"hello"), range(100))) == {b"hello"}

    visit_all()
    assert count("netsrv_connections_accepted_total") == 100
    assert count("netsrv_received_bytes_total") == 500
    assert count("netsrv_workers", "") == 2
    assert urlopen(f"http://{address}/readyz").status == 200
    server.process.send_signal(signal.SIGHUP)
    server.wait_for("Reloaded: 1 listener, 2 workers replaced")
    (tmp_path / "access.jsonl").rename(tmp_path / "access.1")
    server.process.send_signal(signal.SIGUSR1)
    visit_all()
    assert count("netsrv_connections_accepted_total") == 200
    server.process.send_signal(signal.SIGUSR2)
    server.wait_for("Reloaded: 1 listener, 2 workers replaced", 2)
    assert count("netsrv_connections_accepted_total") == 200
    os.kill(children(server.process.pid)[-1], signal.SIGKILL)
    server.wait_for("has ended: SIGKILL")
    assert count("netsrv_worker_restarts_total", '{reason="signal"}') == 1
    visit_all()
    server.process.send_signal(signal.SIGHUP)  # a worker's last message has the counts since
    server.wait_for("Reloaded: 1 listener, 2 workers replaced", 3)
    assert count("netsrv_connections_accepted_total") == 300
    assert server.stop() == 0
    logged = [json.loads(line) for line in server.lines]
    assert sum(line["message"].startswith("Got connection from") for line in logged) == 300
    assert {line.get("worker") for line in logged} == {None, 0, 1}
    lines = (tmp_path / "access.1").read_text() + (tmp_path / "access.jsonl").read_text()
    assert [json.loads(line)["received"] for line in lines.splitlines()] == [5] * 300


def test_f100_a_full_disk_keeps_no_worker_from_serving(serve):
    """The master says once that lines are lost, and counts each."""
    server = serve("--tcp", "echo=127.0.0.1:0", "--access-log", "/dev/full", "--workers", "2")
    port = server.port("tcp")
    for _ in range(30):
        assert visit(port, b"x") == b"x"
    server.wait_for("access log /dev/full: No space left on device; dropped lines are counted")
    assert visit(port, b"x") == b"x"
    assert server.stop() == 0
    assert server.output.count("No space left") == 1


def test_limits_are_those_of_the_server(tmp_path, serve):
    """Connections wait for a slot that another worker releases, and a source has its number."""
    path = tmp_path / "echo.sock"
    (tmp_path / "netsrv.toml").write_text(f"""
        workers = 2
        [[listener]]
        service = "echo"
        tcp = "127.0.0.1:0"
        limits = {{ max_connections = 3 }}
        [[listener]]
        service = "echo"
        tcp = "127.0.0.1:0"
        limits = {{ per_source = 3 }}
        [[listener]]
        service = "echo"
        unix = "{path}"
        limits = {{ max_connections = 3, overload = "close" }}
        """)
    server = serve("-c", "netsrv.toml")
    first, second = server.port("tcp"), server.port("tcp", 2)
    server.wait_for("Waiting for connections on unix")
    with ExitStack() as stack:
        served = [stack.enter_context(tcp(first)) for _ in range(12)]
        for sock in served:
            sock.sendall(b"x")
        answered = wait_for_answers(served)
        while len(served) > len(answered):  # each that ends makes room for one more
            assert len(answered) <= 4
            ended = answered.pop()
            served.remove(ended)
            ended.close()
            answered += wait_for_answers([sock for sock in served if sock not in answered])
        connections = [stack.enter_context(tcp(second)) for _ in range(12)]
        assert 3 <= count_served(connections) <= 4  # exceeded by one for each other worker
        connections = [stack.enter_context(unix(path)) for _ in range(12)]
        assert 3 <= count_served(connections) <= 4
    assert server.stop() == 0
    assert not path.exists()


def wait_for_answers(socks: list[socket.socket]) -> list[socket.socket]:
    """Wait until some sockets have an answer, and return these."""
    ready, _, _ = select.select(socks, [], [], TIMEOUT)
    assert ready, "all connections wait in vain"
    return [sock for sock in ready if sock.recv(10)]


def count_served(socks: list[socket.socket]) -> int:
    """Return how many connections are answered; the others are closed."""
    count = 0
    for sock in socks:
        with suppress(OSError):
            sock.sendall(b"x")
            count += sock.recv(10) == b"x"
    return count


def test_f88_replacements_under_load_fail_no_client():
    """In every way but a kill: no connection is refused or reset, and no datagram is lost.

    ``python -m bench.replacements`` does the same for longer.
    """
    totals = replacements.run(6, clients=4, seed=3, pause=0.01)
    assert totals.failed == 0
    assert totals.replaced >= 6
    assert totals.killed_connections <= 4
    assert totals.connections > 100
    assert totals.datagrams > 50
