"""The metrics: their names, their formats, their values."""

import re
from collections import Counter

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from netsrv.interfaces import CloseReason, RejectReason
from netsrv.status import ServerCollector
from netsrv.status.exposition import OPENMETRICS_TYPE, TEXT_TYPE, choose_type, render_metrics
from netsrv.status.families import LISTENER_FAMILIES, PROCESS_FAMILIES, SERVER_FAMILIES, Kind
from netsrv.testing import MemoryServer

FAMILIES = (*SERVER_FAMILIES, *LISTENER_FAMILIES, *PROCESS_FAMILIES)

PROMISED = """
netsrv_connections_accepted_total netsrv_connections_active netsrv_connections_refused_total
netsrv_connections_closed_total netsrv_connection_duration_seconds netsrv_received_bytes_total
netsrv_sent_bytes_total netsrv_datagrams_received_total netsrv_datagrams_sent_total
netsrv_datagrams_dropped_total netsrv_accept_errors_total netsrv_listener_suspended
netsrv_build_info netsrv_connections_limit netsrv_connections_pending netsrv_kernel_drops_total
netsrv_stalls_total netsrv_loop_lag_seconds netsrv_draining netsrv_reloads_total
netsrv_config_last_reload_successful netsrv_log_lines_dropped_total process_cpu_seconds_total
netsrv_forward_connect_errors_total netsrv_faults_active netsrv_fault_hits_total
process_open_fds process_max_fds process_resident_memory_bytes process_start_time_seconds
""".split()

PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;"
    "q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)

PARSERS = {TEXT_TYPE: parse_text, OPENMETRICS_TYPE: parse_openmetrics}


@pytest.fixture
def server():
    """An echo server in memory."""
    return MemoryServer("echo", max_connections=2, overload="close", idle_timeout=60)


def text_of(server, content_type):
    """Return the metrics as text."""
    waiting = server.server.status.take_snapshot()
    server.settle()
    return render_metrics(waiting.result, content_type).decode()


def samples_of(server, content_type=TEXT_TYPE):
    """Return the value of each sample, by name and labels."""
    text = text_of(server, content_type)
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in PARSERS[content_type](text)
        for sample in family.samples
    }


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", TEXT_TYPE),
        ("*/*", TEXT_TYPE),
        ("text/html,*/*;q=0.8", TEXT_TYPE),
        ("application/openmetrics-text", OPENMETRICS_TYPE),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", OPENMETRICS_TYPE),
        ("application/openmetrics-text;version=2.0.0", TEXT_TYPE),
        ("application/openmetrics-text;q=0", TEXT_TYPE),
        ("application/openmetrics-text;q=0.2,text/plain;q=0.5", TEXT_TYPE),
        ("application/openmetrics-text;q=x", TEXT_TYPE),
        (";;;=,,", TEXT_TYPE),
        (PROMETHEUS_2, OPENMETRICS_TYPE),
        (PROMETHEUS_3, OPENMETRICS_TYPE),
    ],
)
def test_the_type_is_one_of_two_that_prometheus_knows(accept, content_type):
    """Prometheus 3 fails a scrape with another type."""
    assert choose_type(accept) == content_type


def test_the_metrics_have_the_promised_names():
    """The names are promises; no two are alike."""
    names = [family.sample_name for family in FAMILIES]
    assert set(PROMISED) <= set(names)
    assert max(Counter(names).values()) == 1
    for family in FAMILIES:
        assert re.fullmatch(r"(netsrv|process)_[a-z_]+", family.name)
        assert family.help.endswith(".")


@pytest.mark.parametrize("content_type", PARSERS)
def test_both_formats_are_exactly_typed(content_type, server):
    """The parser of `prometheus_client` finds each family with its type, and OpenMetrics' end."""
    server.connect()
    text = text_of(server, content_type)
    parsed = {family.name: family for family in PARSERS[content_type](text)}
    assert text.endswith("# EOF\n") == (content_type == OPENMETRICS_TYPE)
    for family in FAMILIES:
        name = family.name
        if content_type == TEXT_TYPE and family.kind is Kind.INFO:
            assert parsed[f"{name}_info"].type == "gauge"
        else:
            assert parsed[name].type == family.kind.value
    counters = re.findall(r"^# TYPE (\w+) counter$", text, re.MULTILINE)
    ends = {name.endswith("_total") for name in counters}
    assert ends == {content_type == TEXT_TYPE}


def test_the_values_are_what_clients_did(server):
    """Accepted, active, limit, refused, closed, bytes and durations."""
    name = "tcp 0.0.0.0:7 (echo)"
    first, second, third = (server.connect() for _ in range(3))
    first.send(b"hello")
    third.send(b"x")
    second.close()
    server.advance(70)
    samples = samples_of(server)
    assert samples["netsrv_connections_accepted_total", name] == 2
    assert samples["netsrv_connections_active", name] == 0
    assert samples["netsrv_connections_peak", name] == 2
    assert samples["netsrv_connections_limit", name] == 2
    assert samples["netsrv_connections_refused_total", "max_connections", name] == 1
    assert samples["netsrv_connections_closed_total", "idle_timeout", name] == 1
    assert samples["netsrv_connections_closed_total", "peer", name] == 1
    assert samples["netsrv_received_bytes_total", name] == 5
    assert samples["netsrv_sent_bytes_total", name] == 5
    assert samples["netsrv_connection_duration_seconds_count", name] == 2
    assert samples["netsrv_connection_duration_seconds_bucket", "60.0", name] == 1
    assert samples["netsrv_connection_duration_seconds_bucket", "+Inf", name] == 2
    assert samples["netsrv_ready",] == 1
    assert samples == {**samples_of(server, OPENMETRICS_TYPE), **changing(samples)}


def changing(samples):
    """Return the samples about this process, which change by themselves."""
    return {key: value for key, value in samples.items() if key[0].startswith("process_")}


def test_datagrams_have_their_own_metrics():
    """And none of connections."""
    server = MemoryServer("echo", "udp")
    server.request(b"hello")
    server.request(b"x", ("192.0.2.1", 9))
    name = "udp 0.0.0.0:7 (echo)"
    samples = samples_of(server)
    assert samples["netsrv_datagrams_received_total", name] == 1
    assert samples["netsrv_datagrams_sent_total", name] == 1
    assert samples["netsrv_datagrams_dropped_total", "source_port", name] == 1
    assert ("netsrv_connections_active", name) not in samples


def test_f108_the_labels_are_bounded(server):
    """Every reason has a sample from the start, so that a first one is an increase; no peer has."""
    before = samples_of(server).keys()
    for number in range(5):
        server.connect(("192.0.2.1", 5000 + number)).close()
    server.advance(100)
    assert samples_of(server).keys() == before
    reasons = {reason.value for enum in (RejectReason, CloseReason) for reason in enum}
    assert reasons <= {label for key in before for label in key}


def test_a_program_registers_the_collector_with_its_own_registry(server):
    """`ServerCollector` reads the present values; process metrics are the registry's own."""
    registry = CollectorRegistry(auto_describe=True)
    registry.register(ServerCollector(server.server))
    assert registry.get_sample_value("netsrv_draining") == 0
    client = server.connect()
    labels = {"listener": "tcp 0.0.0.0:7 (echo)"}
    assert registry.get_sample_value("netsrv_connections_active", labels) == 1
    assert b"\nprocess_" not in generate_latest(registry)
    client.close()
    assert registry.get_sample_value("netsrv_connections_active", labels) == 0


def test_f111_faults_have_metrics():
    """How many are active, and what each has hit; both are gone with the fault."""
    name, faults = "tcp 0.0.0.0:7 (echo)", [{"type": "noop"}, {"type": "refuse", "first": 1}]
    server = MemoryServer("echo", fault=faults)
    server.connect()
    server.connect()
    samples = samples_of(server)
    assert samples["netsrv_faults_active", name] == 2
    assert samples["netsrv_fault_hits_total", "noop_downstream", name] == 1
    assert samples["netsrv_fault_hits_total", "refuse_downstream", name] == 1
    for fault in ("noop_downstream", "refuse_downstream"):
        server.server.listeners[0].faults.remove(fault)
    samples = samples_of(server)
    assert samples["netsrv_faults_active", name] == 0
    assert ("netsrv_fault_hits_total", "noop_downstream", name) not in samples
