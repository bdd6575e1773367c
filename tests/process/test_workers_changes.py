"""Changes of a master and its workers at unfavourable moments, as an operator causes them."""

import json
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from signal import SIGHUP, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR2
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from netsrv.workers.upgrade import VERSION
from tests.clients import exchange, free_port, tcp, udp, visit
from tests.process.activation import activated
from tests.process.children import all_children, children
from tests.process.starts import SERVE, finish, only_line
from tests.timeouts import TIMEOUT

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="reads /proc")

CONFIG = """
{options}
[[listener]]
service = "echo"
tcp = "127.0.0.1:{port}"
"""

CRASHING = """
import os, sys
if "netsrv.cli.worker" in " ".join(sys.orig_argv):
    os._exit(3)
"""


def answers(port: int, count: int = 24) -> set[bytes]:
    """Return what so many clients at once are answered."""
    with ThreadPoolExecutor(count) as pool:
        return set(pool.map(lambda _: visit(port, b"x"), range(count)))


def status_of(address: str, path: str) -> int:
    """Return the status of the answer to a request."""
    try:
        with urlopen(f"http://{address}{path}") as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code


def test_a_reload_that_fails_leaves_no_connection_without_an_answer(tmp_path, serve):
    """Also where sockets for more workers were opened before."""
    port, file = free_port(), tmp_path / "netsrv.toml"
    file.write_text(CONFIG.format(options="workers = 2", port=port))
    server = serve("-c", file.name)
    server.wait_for("Waiting for connections")
    file.write_text(CONFIG.format(options='workers = 3\naccess_log = "none/x"', port=port))
    server.process.send_signal(SIGHUP)
    server.wait_for("Nothing is changed: the workers are as before")
    assert answers(port) == {b"x"}
    listener = f'[[listener]]\nservice = "echo"\ntcp = "127.0.0.1:{free_port()}"\n'
    tls = 'tls = { certificate = "none.pem", key = "none.pem" }'
    file.write_text(CONFIG.format(options="workers = 3", port=port) + listener + tls)
    server.process.send_signal(SIGHUP)
    server.wait_for("Nothing is changed: the workers are as before", 2)
    server.wait_for("has taken its place|workers now")
    assert answers(port) == {b"x"}
    server.process.send_signal(SIGTTOU)
    server.wait_for("1 worker now")
    server.process.send_signal(SIGTTIN)
    server.wait_for("2 workers now", 2)
    assert answers(port) == {b"x"}
    assert server.stop() == 0


def test_the_server_is_ready_without_a_gap_and_its_state_is_read_in_a_drain(tmp_path, serve):
    """From its first line on, and while each worker is replaced; a draining worker answers."""
    port, file = free_port(), tmp_path / "netsrv.toml"
    file.write_text(CONFIG.format(options="workers = 2", port=port))
    server = serve("-c", file.name, "--status", "127.0.0.1:0", "--shutdown-delay", "30")
    address = server.wait_for(r"Serving status on http://([0-9.:]+)/")[1]
    server.wait_for("Waiting for connections")
    reloaded = threading.Event()
    statuses = set()

    def watch() -> None:
        while not reloaded.is_set():
            statuses.add(status_of(address, "/readyz"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ExitStack() as stack:
        connections = [stack.enter_context(tcp(port)) for _ in range(8)]
        assert {exchange(one, b"before") for one in connections} == {b"before"}
        server.process.send_signal(SIGHUP)
        try:
            server.wait_for("Reloaded: 1 listener, 2 workers replaced")
        finally:
            reloaded.set()
            watcher.join()
        assert statuses == {200}
        for _ in range(2):
            with urlopen(f"http://{address}/status.json") as answer:
                status = json.load(answer)
            rows = status["workers"]["processes"]
            states = {row["state"]: 0 for row in rows}
            for row in rows:
                states[row["state"]] += row["connections"]
            assert states == {"released": 8, "serving": 0}
            assert status["listeners"][0]["connections"]["now"] == 8
        assert {exchange(one, b"after") for one in connections} == {b"after"}
        # The delay before a drain: not ready, and it serves.
        server.process.send_signal(SIGTERM)
        server.wait_for("goes on|not ready|shutdown")
        assert status_of(address, "/readyz") == 503
        assert answers(port, 4) == {b"x"}
    assert server.stop() in (0, 3)
    assert "Traceback" not in server.output


def wait_until_all_are_reaped(pid: int) -> None:
    """Wait until a process has no child that has ended and was not waited for."""
    deadline = time.monotonic() + TIMEOUT
    while all_children(pid) != children(pid):
        assert time.monotonic() < deadline, "a child stays a zombie"
        os.sched_yield()


def test_signals_while_the_next_program_is_checked(serve, tmp_path):
    """A second SIGUSR2 changes nothing more, and SIGTERM is not lost."""
    port = free_port()
    server = serve("--tcp", f"echo=127.0.0.1:{port}", "--workers", "2")
    server.wait_for("Waiting for connections")
    for _ in range(2):
        server.process.send_signal(SIGUSR2)
        server.wait_for("Checking the program")
    server.wait_for("has taken over")
    server.wait_for("Reloaded")
    wait_until_all_are_reaped(server.process.pid)
    server.process.send_signal(SIGUSR2)
    server.wait_for("Checking the program", 2)
    assert server.stop() == 0
    assert server.output.count("has taken over") == 1


def test_a_program_that_cannot_take_over_fails_its_check(tmp_path):
    """The check that SIGUSR2 runs tells it what is handed over: another form is an error."""
    command = [*SERVE.command, "--tcp", "127.0.0.1:0", "--workers", "2", "--check"]
    done = finish(command, tmp_path, {"NETSRV_HANDOVER": f"version {VERSION + 1}"})
    assert done.returncode == SERVE.misconfigured
    text = "netsrv: the program that runs cannot hand over to this one: restart it"
    assert only_line(done) == text
    assert finish(command, tmp_path, {"NETSRV_HANDOVER": f"version {VERSION}"}).returncode == 0


def test_an_upgrade_keeps_sockets_that_the_service_manager_has_passed(tmp_path):
    """Several of one name and one for datagrams, which one worker reads; the server is ready."""
    with ExitStack() as stack:
        web = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        dns = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        dns.bind(("127.0.0.1", 0))
        passed = [*(("web", sock) for sock in web), ("dns", dns)]
        options = ("--tcp", "echo=systemd:web", "--udp", "echo=systemd:dns")
        command = [*SERVE.command, *options, "--workers", "2", "--status", "127.0.0.1:0"]
        server = stack.enter_context(activated(command, tmp_path, passed))
        address = server.wait_for(r"Serving status on http://([0-9.:]+)/")[1]
        server.wait_for("Waiting for datagrams")
        for upgrades in range(2):
            assert status_of(address, "/readyz") == 200
            for sock in web:
                assert answers(sock.getsockname()[1], 8) == {b"x"}
            with udp(dns.getsockname()[1]) as flow:
                assert exchange(flow, b"x") == b"x"
            if not upgrades:
                server.process.send_signal(SIGUSR2)
                server.wait_for("Reloaded")
        assert server.stop() == 0


def test_a_unix_socket_is_gone_once_no_worker_reads_from_it(tmp_path, serve):
    """Clients are refused while connections are drained, instead of waiting in vain."""
    path = tmp_path / "echo.sock"
    server = serve("--unix", f"echo={path}", "--workers", "2")
    server.wait_for("Waiting for connections on unix")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        assert exchange(sock, b"x") == b"x"
        server.process.send_signal(SIGTERM)
        while path.exists():  # for as long as the drain waits for this client
            os.sched_yield()
        assert exchange(sock, b"x") == b"x"
    assert server.wait() == 0


def test_what_a_worker_cannot_load_is_an_error_of_the_start(tmp_path):
    """As without workers: no process is started for it."""
    (tmp_path / "bad.pem").write_text("none")
    tls = ("--tls-certificate", "bad.pem", "--tls-key", "bad.pem")
    alone, workers = (
        only_line(finish([*SERVE.command, "--tcp", "127.0.0.1:0", *tls, *more], tmp_path))
        for more in ((), ("--workers", "2"))
    )
    assert "bad.pem" in alone
    assert workers == alone


def test_f85_workers_that_never_start_end_the_server(tmp_path, serve):
    """With a status of its own, after five starts."""
    (tmp_path / "sitecustomize.py").write_text(CRASHING)
    server = serve("--tcp", "127.0.0.1:0", "--workers", "2", env={"PYTHONPATH": str(tmp_path)})
    assert server.wait() == 70
    server.wait_for("5 failed starts within 10 s, and no worker was ready")


@pytest.mark.parametrize("selection", ["source", "cpu", "shared"])
def test_each_selection_serves_all_clients(selection, serve):
    """By source, all connections of one client come to one worker."""
    options = ("--workers", "2", "--worker-selection", selection, "--status", "127.0.0.1:0")
    server = serve("--tcp", "echo=127.0.0.1:0", *options)
    address = server.wait_for(r"Serving status on http://([0-9.:]+)/")[1]
    assert answers(server.port("tcp")) == {b"x"}
    with urlopen(f"http://{address}/status.json") as answer:
        rows = json.load(answer)["workers"]["processes"]
    accepted = sorted(row["accepted"] for row in rows)
    assert sum(accepted) == 24
    if selection == "source":
        assert accepted == [0, 24]
    assert server.stop() == 0
