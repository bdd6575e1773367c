"""Options of the command line, in their effect on the running server."""

import pytest

from tests.clients import exchange, read_all, talk, tcp, udp
from tests.process.starts import SERVE, finish


def test_reuse_port_shares_a_port(tmp_path, serve):
    """Two servers with --reuse-port share a port; one without it cannot start."""
    first = serve("--reuse-port", "--tcp", "echo=127.0.0.1:0")
    port = first.port("tcp")
    with serve("--reuse-port", "--tcp", f"echo=127.0.0.1:{port}") as second:
        assert second.port("tcp") == port
        assert talk(tcp(port), b"hello") == b"hello"
        assert first.stop() == 0
        assert talk(tcp(port), b"hello") == b"hello"
        refused = finish([*SERVE.command, "--tcp", f"127.0.0.1:{port}"], tmp_path)
        assert refused.returncode == SERVE.unavailable


@pytest.mark.parametrize(
    ("options", "tcp_value", "udp_value"),
    [([], "1", "0"), (["--no-reuse-address"], "0", "0"), (["--reuse-address"], "1", "1")],
)
def test_reuse_address(options, tcp_value, udp_value, tmp_path):
    """SO_REUSEADDR is on for TCP and off for UDP; options set either, as --check shows."""
    listeners = ["--tcp", "127.0.0.1:0", "--udp", "127.0.0.1:0"]
    done = finish([*SERVE.command, *listeners, *options, "--check"], tmp_path)
    rows = [line.split() for line in done.stdout.splitlines() if "SO_REUSEADDR" in line]
    assert rows == [["SO_REUSEADDR", each, each] for each in (tcp_value, udp_value)]


def test_limits_of_connections(serve):
    """Limits, the overload policy and access apply to the listeners of the command line."""
    options = ["--max-connections", "1", "--overload", "reset", "--no-access", "127.0.0.2"]
    server = serve("--tcp", "echo=0", *options)
    port = server.port("tcp")
    with tcp(port) as first:
        assert exchange(first, b"hello") == b"hello"
        with pytest.raises(ConnectionResetError):
            tcp(port).recv(1)
        server.wait_for(r"rejected 127\.0\.0\.1:\d+ \(--max-connections\)")
        assert exchange(first, b"still") == b"still"
    assert server.stop() == 0


def test_time_limits(serve):
    """The log line of an idle connection's end names the option that changes it."""
    server = serve("--tcp", "echo=0", "--idle-timeout", "0.2")
    assert read_all(tcp(server.port("tcp"))) == b""
    server.wait_for(r"closed 127\.0\.0\.1:\d+ \(--idle-timeout\)")
    assert server.stop() == 0


def test_rules_for_datagrams(serve):
    """The log line of a refused source port names the option that changes it."""
    with (
        serve("--udp", "0") as server,
        udp(server.port("udp")) as probe,
    ):
        own = probe.getsockname()[1]
        options = ["--refuse-source-ports", str(own)]
        with serve("--udp", "0", *options) as strict:
            probe.connect(("127.0.0.1", strict.port("udp")))
            assert probe.getsockname()[1] == own
            probe.send(b"hello")
            strict.wait_for(
                r"dropped a datagram from 127\.0\.0\.1:\d+: .*\(--refuse-source-ports\)"
            )
            assert "Got data" not in strict.output
