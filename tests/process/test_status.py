"""The status server in a process: its start, its clients, its end."""

import json
import re
import socket
import subprocess
import threading
import time
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

from bench.status_counts import check
from netsrv.cli.fetching import Target, fetch, parse_target
from netsrv.status.exposition import OPENMETRICS_TYPE, TEXT_TYPE
from tests.clients import exchange, read_all, tcp
from tests.process.needs import tool
from tests.process.running import free_port, killed_at_end
from tests.process.starts import SERVE, finish
from tests.timeouts import CLIENT_TIMEOUT, TIMEOUT

TOKEN = "0123456789abcdef"


def status_of(server):
    """Wait for a server of the status, and return its address."""
    return parse_target(server.wait_for(r"Serving status on (\S+)")[1])


def ask(target, path="/status.json", token=""):
    """Return the status of HTTP, and the content of JSON."""
    answer = fetch(target, path, token, CLIENT_TIMEOUT)
    return answer.status, json.loads(answer.body)


@pytest.mark.parametrize(
    ("options", "status", "line"),
    [
        (["--status", "0.0.0.0:0"], 78, r"status 0\.0\.0\.0:\d+: other machines can reach this "),
        (["--status", "[::]:0"], 78, r"status \[::\]:\d+: other machines can reach this address"),
        (["--status", "127.0.0.1:0", "--status-token-file", "no"], 78, "status token no: No such"),
        (["--status", "unix:no/where"], 69, "unix no/where: No such file or directory"),
        (["--health", "192.0.2.1:0"], 69, r"tcp 192\.0\.2\.1:0: Cannot assign requested address"),
    ],
)
def test_f108_an_unsafe_or_impossible_status_is_one_line(options, status, line, tmp_path):
    """At the start, with nothing half-started."""
    ended = finish([*SERVE.command, "--tcp", "127.0.0.1:0", *options], tmp_path)
    assert (ended.returncode, ended.stdout) == (status, "")
    assert re.fullmatch(rf"netsrv: {line}.*\n", ended.stderr)


def test_check_opens_the_addresses_of_the_status(tmp_path):
    """An address in use is a note, as that of a listener."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        command = [*SERVE.command, "--tcp", "127.0.0.1:0", "--status", address, "--check"]
        ended = finish(command, tmp_path)
        assert ended.returncode == 0
        assert f"  status.address       {address}\n" in ended.stdout
        assert ended.stdout.endswith(f"  note: tcp {address}: Address already in use\n")


def test_readiness_follows_a_server_to_its_end(serve, tmp_path):
    """Ready with the first line, not from the first moment of a drain, and gone with the last."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    server = serve(
        *("--tcp", "echo=127.0.0.1:0", "--status", "unix:status.sock", "--health", "0.0.0.0:0"),
        *("--status-token-file", "token"),
    )
    target = Target("", 0, str(tmp_path / "status.sock"))
    health = server.wait_for(r"Serving health on http://(\S+)/")[1]
    assert finish(["netsrv", "status", "unix:status.sock"], tmp_path).returncode == 0
    environ = {"NETSRV_STATUS": health}
    assert finish(["netsrv", "status"], tmp_path, environ).stdout == f"{health}: ready\n"
    assert ask(target)[0] == 401
    assert ask(target, token=TOKEN)[1]["ready"] is True
    with tcp(server.port("tcp")) as client:
        assert exchange(client, b"x") == b"x"
        server.process.terminate()
        server.wait_for("Draining: 1 connection")
        ended = finish(["netsrv", "status", "unix:status.sock"], tmp_path)
        assert ended.returncode == 1
        reason = "not ready: shutdown failed: the server is ending"
        assert ended.stdout == f"unix:status.sock: {reason}\n"
        status = ask(target, token=TOKEN)[1]
        assert (status["state"], status["listeners"][0]["state"]) == ("draining", "closing")
        assert fetch(parse_target(health), "/livez").status == 200
    assert server.wait() == 0
    ended = finish(["netsrv", "status", "unix:status.sock"], tmp_path)
    assert (ended.returncode, ended.stdout) == (69, "")
    assert not (tmp_path / "status.sock").exists()


def test_a_file_has_the_names_of_hosts_and_the_permissions(serve, tmp_path):
    """A page that reaches the server by a name of its own gets nothing."""
    (tmp_path / "netsrv.toml").write_text(
        '[status]\naddress = "127.0.0.1:0"\nhealth = "unix:health.sock"\nunix_mode = "0600"\n'
        'hosts = ["status.lan"]\n[[listener]]\nservice = "echo"\ntcp = "127.0.0.1:0"\n'
    )
    server = serve("-c", "netsrv.toml")
    target = status_of(server)
    for host, status in (("status.lan:80", b"200"), ("evil.example", b"403")):
        with tcp(target.port) as client:
            client.sendall(b"GET /status.json HTTP/1.0\r\nHost: %s\r\n\r\n" % host.encode())
            assert read_all(client).split(b" ", 2)[1] == status
    assert (tmp_path / "health.sock").stat().st_mode & 0o777 == 0o600
    server.stop()


def test_a_reload_takes_a_new_token_and_reports_its_result(serve, tmp_path):
    """A file that is bad changes nothing but the count; an address needs a restart."""
    listeners = '[[listener]]\nservice = "echo"\ntcp = "127.0.0.1:0"\n'
    table = '[status]\naddress = "127.0.0.1:0"\ntoken_file = "token"\n'
    path = tmp_path / "netsrv.toml"
    path.write_text(table + listeners)
    (tmp_path / "token").write_text(TOKEN)
    server = serve("-c", "netsrv.toml")
    target = status_of(server)
    assert ask(target, token=TOKEN)[0] == 200
    (tmp_path / "token").write_text(TOKEN[::-1])
    path.write_text(table.replace("127.0.0.1:0", "127.0.0.1:1") + listeners)
    server.process.send_signal(1)
    server.wait_for("Reloaded: ")
    server.wait_for("status.address changes with a restart")
    assert ask(target, token=TOKEN)[0] == 401
    (tmp_path / "token").write_text("short")
    server.process.send_signal(1)
    server.wait_for("Nothing is changed")
    status = ask(target, token=TOKEN[::-1])[1]
    assert status["config"]["reloads"] == {"success": 1, "failure": 1, "abandoned": 0}
    assert "16 printable ASCII characters" in status["config"]["last_reload"]["error"]
    path.write_text("[[listener]]")
    server.process.send_signal(1)
    server.wait_for("Nothing is changed", 2)
    status = ask(target, token=TOKEN[::-1])[1]
    assert status["config"]["reloads"]["failure"] == 2
    assert "give it one address" in status["config"]["last_reload"]["error"]
    assert status["recent"]["events"][-1]["event"] == "reload_failed"
    server.stop()


def test_a_full_server_answers_and_counts_none_of_its_status(serve):
    """The status has slots of its own, and is none of the listeners that it reports."""
    server = serve(
        *("--tcp", "echo=127.0.0.1:0", "--max-connections", "1", "--per-source", "1"),
        *("--status", "127.0.0.1:0", "--idle-timeout", "1000"),
    )
    target = status_of(server)
    with tcp(server.port("tcp")) as client:
        assert exchange(client, b"x") == b"x"
        for _ in range(3):
            assert fetch(target, "/metrics").status == 200
        [row] = ask(target)[1]["listeners"]
        assert (row["state"], row["connections"]["accepted"]) == ("full", 1)
        assert ask(target)[1]["ready"] is True
        assert ask(target)[1]["sources"][0] == {
            "source": "127.0.0.1",
            "listener": row["id"],
            "connections": 1,
        }
    server.stop()


def test_f108_no_client_of_the_status_harms_the_server(serve):
    """1,000 idle connections, readers that never read, and garbage: memory is bounded."""
    server = serve("--tcp", "echo=127.0.0.1:0", "--status", "127.0.0.1:0", "--log-rate", "0")
    target = status_of(server)
    before = ask(target)[1]["process"]
    with ExitStack() as stack:
        echo = stack.enter_context(tcp(server.port("tcp")))
        for _ in range(20):
            deaf = stack.enter_context(tcp(target.port))
            deaf.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
        for _ in range(1000):
            stack.enter_context(tcp(target.port))
        for _ in range(20):
            rude = stack.enter_context(tcp(target.port))
            rude.sendall(b"\x16\x03\x01" + bytes(10_000) + b"\r\n\r\n")
        assert exchange(echo, b"hello") == b"hello"
        assert fetch(target, "/readyz").status == 200
        after = ask(target)[1]["process"]
        assert after["resident_bytes"] - before["resident_bytes"] < 20 * 2**20
        assert after["open_descriptors"] - before["open_descriptors"] < 40
        assert ask(target)[1]["connections"]["now"] == 1
    server.stop()


def test_the_counts_agree_exactly_with_what_clients_did(tmp_path):
    """3,000 connections of every ending and 100,000 datagrams, in JSON and in both formats."""
    assert check(tmp_path, 3000, 100_000) >= 3000


# Prometheus


class AsText(BaseHTTPRequestHandler):
    """Passes requests of a client on as those of one that knows the text format only."""

    target: Target
    types: set[str]
    scraped = threading.Event()

    def do_GET(self):
        """Answer with what the server answers."""
        url = f"http://{self.target}{self.path}"
        with urlopen(Request(url, headers={"Accept": "text/plain;version=0.0.4"})) as answer:
            body, content_type = answer.read(), answer.headers["Content-Type"]
        self.types.add(content_type)
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.scraped.set()

    def log_message(self, format, *arguments):  # noqa: A002 - as its base class has it
        """Print nothing."""


def query(port, expression):
    """Return the values of an expression in Prometheus, by job; none while it starts."""
    url = f"http://127.0.0.1:{port}/api/v1/query?{urlencode({'query': expression})}"
    try:
        with urlopen(url, timeout=CLIENT_TIMEOUT) as answer:
            results = json.loads(answer.read())["data"]["result"]
    except OSError:
        return {}
    return {one["metric"]["job"]: float(one["value"][1]) for one in results}


def wait_for_values(port, expression, values):
    """Wait until an expression has these values in Prometheus."""
    deadline = time.monotonic() + TIMEOUT
    while (found := query(port, expression)) != values:
        assert time.monotonic() < deadline, (expression, found)
        AsText.scraped.clear()
        AsText.scraped.wait(TIMEOUT)


@pytest.mark.version_independent
def test_prometheus_scrapes_both_formats(serve, tmp_path):
    """The values in Prometheus are those of the clients; promtool finds nothing to say."""
    prometheus, promtool = tool("prometheus"), tool("promtool")
    server = serve("--tcp", "echo=127.0.0.1:0", "--udp", "same", "--status", "127.0.0.1:0")
    target = status_of(server)
    AsText.target, AsText.types = target, set()
    relay = ThreadingHTTPServer(("127.0.0.1", 0), AsText)
    threading.Thread(target=relay.serve_forever, daemon=True).start()
    jobs = {"openmetrics": target.port, "text": relay.server_port}
    lines = ["global: {scrape_interval: 100ms}", "scrape_configs:"]
    lines += [
        f"- {{job_name: {job}, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}"
        for job, port in jobs.items()
    ]
    (tmp_path / "prometheus.yml").write_text("\n".join(lines))
    port = free_port()
    command = [prometheus, "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb"]
    command.append(f"--web.listen-address=127.0.0.1:{port}")
    log = (tmp_path / "log").open("w")
    with log, killed_at_end(command, cwd=tmp_path, stdout=log, stderr=log):
        try:
            with tcp(server.port("tcp")) as client:
                assert exchange(client, b"hello") == b"hello"
                both = dict.fromkeys(jobs, 1.0)
                wait_for_values(port, "netsrv_connections_active", both)
                wait_for_values(port, "up", both)
                wait_for_values(port, "netsrv_build_info", both)
                sums = "sum by (job) (netsrv_received_bytes_total)"
                wait_for_values(port, sums, dict.fromkeys(jobs, 5.0))
                wait_for_values(port, "process_open_fds > bool 10", both)
        finally:
            relay.shutdown()
            relay.server_close()
    assert AsText.types == {TEXT_TYPE}
    with urlopen(Request(f"http://{target}/metrics", headers={"Accept": OPENMETRICS_TYPE})) as got:
        assert got.headers["Content-Type"] == OPENMETRICS_TYPE
    text = fetch(target, "/metrics").body
    linted = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (linted.returncode, linted.stdout, linted.stderr) == (0, b"", b"")
    server.stop()
