"""What the status and the metrics say of TLS."""

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from netsrv.status.exposition import TEXT_TYPE, render_metrics
from netsrv.testing import MemoryServer
from tests.tls.authority import replace_files
from tests.tls.clients import client_context, connect

NAME = "tcp 0.0.0.0:7 (echo)"


@pytest.fixture
def server(authority, tmp_path):
    """A server whose certificate can be replaced."""
    replace_files(authority.server, tmp_path)
    files = {"tls_certificate": f"{tmp_path}/a.pem", "tls_key": f"{tmp_path}/a.key"}
    return MemoryServer("echo", **files)


def snapshot_of(server):
    """Return the state, as /status.json has it."""
    waiting = server.server.status.take_snapshot()
    server.settle()
    return waiting.result


def samples_of(server):
    """Return the value of each sample about TLS, by its name and labels."""
    text = render_metrics(snapshot_of(server), TEXT_TYPE).decode()
    samples = (sample for family in parse(text) for sample in family.samples)
    return {
        (sample.name.removeprefix("netsrv_tls_"), *sorted(sample.labels.values())): sample.value
        for sample in samples
        if sample.name.startswith("netsrv_tls_")
    }


def test_the_status_has_the_certificates_and_their_expiry(server, tmp_path):
    """With all names and the file; the page computes the days that are left."""
    [certificate] = snapshot_of(server)["certificates"]
    assert certificate["file"] == f"{tmp_path}/a.pem"
    assert certificate["names"] == ("localhost", "*.example.org", "127.0.0.1")
    assert (
        samples_of(server)["certificate_expiry_timestamp_seconds", "localhost"]
        == (certificate["not_after"])
    )


def test_of_certificates_with_one_name_the_first_to_expire_counts(authority, tmp_path):
    """The metric has one sample for a name, and an alert is not missed."""
    names = []
    for days, name in ((3, "late"), (1, "early"), (2, "middle")):
        names.append(authority.issue(name, "same.test", days=days))
    certificates, keys = zip(*names, strict=True)
    server = MemoryServer(
        "echo", tls_certificate=[*map(str, certificates)], tls_key=[*map(str, keys)]
    )
    ends = [certificate["not_after"] for certificate in snapshot_of(server)["certificates"]]
    assert samples_of(server)["certificate_expiry_timestamp_seconds", "same.test"] == min(ends)
    assert len(set(ends)) == 3


def test_handshakes_are_counted_by_result_and_duration(server, authority):
    """A completed one has a duration, a failed one a reason."""
    connect(server, client_context(authority))
    server.connect().send(b"GET / HTTP/1.0\r\n\r\n")
    samples = samples_of(server)
    assert samples["handshakes_total", "completed", NAME] == 1
    assert samples["handshakes_total", NAME, "tls_plaintext"] == 1
    assert samples["handshake_duration_seconds_count", NAME] == 1
    assert samples["handshake_duration_seconds_bucket", "+Inf", NAME] == 1


def test_renewals_are_counted_by_result(server, authority, tmp_path):
    """One that has failed too; info() has the same counts."""
    replace_files((authority.other[0], authority.server[1]), tmp_path)
    server.advance(6)
    replace_files(authority.other, tmp_path)
    server.advance(6)
    samples = samples_of(server)
    assert samples["certificate_renewals_total", "failure"] == 1
    assert samples["certificate_renewals_total", "success"] == 1
    assert server.server.listeners[0].info()["renewals"] == {"failure": 1, "success": 1}
