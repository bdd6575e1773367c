"""The operators' files in ``deploy/``: alert rules, a scrape configuration, a dashboard."""

import json
import re
import subprocess
import time
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from netsrv.cli.fetching import fetch, parse_target
from tests.checkout import TOP
from tests.clients import exchange, tcp, udp
from tests.process.needs import tool
from tests.process.running import free_port, killed_at_end
from tests.timeouts import TIMEOUT

pytestmark = pytest.mark.version_independent

DEPLOY = TOP / "deploy"
VARIABLES = {"$__rate_interval": "1m", "$job": ".*", "$instance": ".*", "$listener": ".*"}
LATER = {
    "netsrv_connections_pending": "it has samples while a handshake is awaited",
    "netsrv_tls_certificate_expiry_timestamp_seconds": "it needs TLS",
    "netsrv_worker_restarts_total": "it needs workers",
}
"""Metrics that the files name and a plain server does not have."""


def queries() -> list[str]:
    """Return the queries of the dashboard, with a value for each variable."""
    dashboard = json.loads((DEPLOY / "grafana/netsrv.json").read_text())
    found = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    for variable, value in VARIABLES.items():
        found = [query.replace(variable, value) for query in found]
    return found


def metrics(text: str) -> set[str]:
    """Return the metrics of netsrv and of processes that a text names."""
    return set(re.findall(r"\b(?:netsrv|process)_\w+\b", text))


@pytest.mark.parametrize(
    "command",
    ["check rules netsrv-rules.yml", "check config prometheus.yml", "test rules netsrv-tests.yml"],
)
def test_promtool_accepts_the_rules_and_their_tests(command):
    """Each alert fires on a bad server, and none on a good one."""
    done = subprocess.run(
        [tool("promtool"), *command.split()],
        cwd=DEPLOY / "prometheus",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_each_alert_is_tested():
    """Its name is among those that fire on the bad server."""
    rules = (DEPLOY / "prometheus/netsrv-rules.yml").read_text()
    tests = (DEPLOY / "prometheus/netsrv-tests.yml").read_text()
    for alert in re.findall(r"- alert: (\w+)", rules):
        assert f'alertname="{alert}", severity=' in tests


def test_each_query_of_the_dashboard_returns_data(serve, tmp_path):
    """On a Prometheus that scrapes a server with traffic; the rules name no other metrics."""
    server = serve("--tcp", "echo=127.0.0.1:0", "--udp", "echo=same", "--status", "127.0.0.1:0")
    address = server.wait_for(r"Serving status on http://(\S+)/")[1]
    (tmp_path / "prometheus.yml").write_text(
        "global: {scrape_interval: 100ms}\nscrape_configs:\n"
        f"- {{job_name: netsrv, static_configs: [{{targets: ['{address}']}}]}}\n"
    )
    port = free_port()
    command = [tool("prometheus"), "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb"]
    command.append(f"--web.listen-address=127.0.0.1:{port}")
    log = (tmp_path / "log").open("w")
    with log, killed_at_end(command, cwd=tmp_path, stdout=log, stderr=log):
        wait_for(port, 'up{job="netsrv"} == 1')
        make_traffic(server)
        for query in queries():
            if not metrics(query) & LATER.keys():
                wait_for(port, query)
    text = fetch(parse_target(address), "/metrics").body.decode()
    rules = (DEPLOY / "prometheus/netsrv-rules.yml").read_text()
    named = {re.sub(r"_bucket$", "", name) for name in metrics(f"{rules} {queries()}")}
    assert named - metrics(text) <= LATER.keys() | {"netsrv_connection_duration_seconds"}


def make_traffic(server: Any) -> None:
    """Let a connection and a datagram come and go."""
    with tcp(server.port("tcp")) as client:
        assert exchange(client, b"hello") == b"hello"
    with udp(server.port("udp")) as client:
        client.send(b"hello")
        assert client.recv(100) == b"hello"


def wait_for(port: int, query: str) -> None:
    """Wait until a query returns data."""
    deadline = time.monotonic() + TIMEOUT
    while not (result := ask(port, query)):
        assert time.monotonic() < deadline, (query, result)


def ask(port: int, query: str) -> list[Any]:
    """Return what Prometheus answers to a query; nothing while it is starting."""
    url = f"http://127.0.0.1:{port}/api/v1/query?{urlencode({'query': query})}"
    try:
        with urlopen(url, timeout=TIMEOUT) as answer:
            return list(json.load(answer)["data"]["result"])
    except HTTPError as error:
        if error.code != 503:
            raise AssertionError(f"{query}: {error.read().decode()}") from None
    except URLError as error:
        if not isinstance(error.reason, ConnectionRefusedError):
            raise
    return []
