"""The end of a server: killed, drained with connections left, or signalled twice."""

import signal

import pytest

from tests.clients import exchange, talk, tcp, udp, unix
from tests.process import needs, thirdparty
from tests.process.running import Running
from tests.process.starts import SERVE, TWISTD, each_start

pytestmark = pytest.mark.version_independent

DRAINING = r"(?:\]|:\d\d) Draining: 1 connection, at most 8 s; a second signal ends it now$"


@each_start
def test_the_next_start_after_sigkill(start, tmp_path, serve):
    """The next server takes over the socket file and the port of a killed one."""
    path = tmp_path / "echo.sock"
    options = ["--unix", "echo=echo.sock", "--tcp", "echo=127.0.0.1:{port}"]
    with serve(*(each.format(port=0) for each in options), start=start) as server:
        port = server.port("tcp")
        with tcp(port) as client:
            assert exchange(client, b"hello") == b"hello"
            assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    assert path.is_socket()
    with serve(*(each.format(port=port) for each in options), start=start) as server:
        assert server.port("tcp") == port
        assert talk(unix(path), b"hello") == b"hello"
        assert talk(tcp(port), b"hello") == b"hello"
        server.stop()
    assert not path.exists()


@pytest.mark.parametrize(("start", "status"), [(SERVE, 0), (TWISTD, -signal.SIGTERM)])
def test_f81_drains(start, status, tmp_path, serve):
    """After SIGTERM new clients are refused, connections are served, and then the server ends."""
    server = serve("--tcp", "echo=0", "--unix", "echo=echo.sock", start=start)
    server.wait_for("Waiting for connections on unix ")
    port = server.port("tcp")
    with tcp(port) as client:
        assert exchange(client, b"hello") == b"hello"
        server.process.send_signal(signal.SIGTERM)
        server.wait_for(DRAINING)
        with pytest.raises(ConnectionRefusedError):
            tcp(port)
        assert not (tmp_path / "echo.sock").exists()
        assert talk(client, b"again") == b"again"
    assert server.wait() == status
    server.wait_for(r"(?:\]|:\d\d) Drained: 1 connection ended, 0 aborted$")


def test_f81_connections_in_the_backlog_are_served(serve):
    """Clients that had connected before SIGTERM are served, although none was accepted yet."""
    server = serve("--tcp", "echo=0")
    port = server.port("tcp")
    assert talk(tcp(port), b"hello") == b"hello"
    server.process.send_signal(signal.SIGSTOP)
    clients = [tcp(port) for _ in range(100)]
    server.process.send_signal(signal.SIGTERM)
    server.process.send_signal(signal.SIGCONT)
    assert [talk(each, b"hello") for each in clients] == [b"hello"] * len(clients)
    assert server.wait() == 0


def test_f81_the_only_connection_in_the_backlog_is_served(serve):
    """The server waits for it, although it has no other connection."""
    for _ in range(5):  # the kernel chooses whether the client or the signal is noticed first
        with serve("--tcp", "echo=0") as server:
            port = server.port("tcp")
            server.process.send_signal(signal.SIGSTOP)
            client = tcp(port)
            server.process.send_signal(signal.SIGTERM)
            server.process.send_signal(signal.SIGCONT)
            assert talk(client, b"hello") == b"hello"
            assert server.wait() == 0


def test_datagrams_that_have_arrived_are_answered(serve):
    """Datagrams that had arrived before SIGTERM are answered, although none was read yet."""
    server = serve("--udp", "0")
    with udp(server.port("udp")) as client:
        assert exchange(client, b"hello") == b"hello"
        server.process.send_signal(signal.SIGSTOP)
        datagrams = [f"datagram {number}".encode() for number in range(20)]
        for each in datagrams:
            client.send(each)
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGCONT)
        assert [client.recv(100) for _ in datagrams] == datagrams
    assert server.wait() == 0


def test_f83_the_drain_has_a_limit(serve):
    """At the limit a remaining connection is aborted and logged; the status is 3."""
    server = serve("--tcp", "echo=0", "--shutdown-timeout", "0.5")
    with tcp(server.port("tcp")) as client:
        assert exchange(client, b"hello") == b"hello"
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    server.wait_for(r"(?:\]|:\d\d) Draining: 1 connection, at most 0.5 s; ")
    assert server.wait() == 3
    server.wait_for(r"(?:\]|:\d\d) Drained: 0 connections ended, 1 aborted$")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_f82_a_second_signal_ends_it_now(number, serve):
    """A second signal aborts remaining connections, without a traceback; the status is 3."""
    server = serve("--tcp", "echo=0", "--shutdown-timeout", "3600")
    with tcp(server.port("tcp")) as client:
        assert exchange(client, b"hello") == b"hello"
        server.process.send_signal(number)
        server.wait_for(r"(?:\]|:\d\d) Draining: 1 connection, at most 3600 s;")
        server.process.send_signal(number)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert server.wait() == 3
    assert "Traceback" not in server.output


def test_f83_a_datagram_protocol_that_cannot_stop(tmp_path, serve):
    """A protocol that raises in stopProtocol holds up neither the other listeners nor the drain."""
    body = """
    class Faulty(DatagramProtocol):
        def stopProtocol(self):
            raise RuntimeError("no luck today")
    faulty = Service("faulty", datagrams=Faulty)
    """
    thirdparty.services(tmp_path, body)
    options = ["--udp", "faulty=0", "--udp", "echo=0", "--unix", "echo=echo.sock"]
    env = thirdparty.on_path(tmp_path)
    with serve(*options, env=env) as server:
        server.wait_for("Waiting for connections on unix ")
        assert server.stop() == 0
        assert server.output.count("RuntimeError: no luck today") == 1
    assert not (tmp_path / "echo.sock").exists()


def test_sighup_drains(tmp_path, serve):
    """Without a configuration to read again, SIGHUP ends the server as SIGTERM does."""
    with serve("--unix", "echo=echo.sock") as server:
        server.wait_for("Waiting for connections on unix ")
        assert talk(unix(tmp_path / "echo.sock"), b"hello") == b"hello"
        assert server.stop(signal.SIGHUP) == 0
    assert list(tmp_path.iterdir()) == []


def test_nohup_is_respected(tmp_path):
    """A server under nohup keeps running when the terminal closes."""
    command = [needs.tool("nohup"), *SERVE.located, "--tcp", "echo=0"]
    with Running(command, tmp_path) as server:
        port = server.port("tcp")
        server.process.send_signal(signal.SIGHUP)
        for _ in range(3):
            assert talk(tcp(port), b"hello") == b"hello"
        assert server.stop() == 0
        server.wait_for(r"(?:\]|:\d\d) Received SIGTERM, shutting down\.$")


def test_f83_a_service_that_cannot_stop(tmp_path, serve):
    """A factory that raises in stopFactory holds up neither the other listeners nor the drain."""
    body = """
    class Faulty(Service):
        def stream(self, settings):
            factory = super().stream(settings)
            factory.stopFactory = self.fail
            return factory
        def fail(self):
            raise RuntimeError("no luck today")
    faulty = Faulty("faulty", Greeting)
    """
    thirdparty.services(tmp_path, body)
    env = thirdparty.on_path(tmp_path)
    server = serve("--tcp", "faulty=0", "--tcp", "echo=0", "--unix", "echo=echo.sock", env=env)
    server.wait_for("Waiting for connections on unix ")
    port = server.port("tcp", 2)
    with tcp(port) as client:
        assert exchange(client, b"hello") == b"hello"
        server.process.send_signal(signal.SIGTERM)
        server.wait_for(DRAINING)
        server.wait_for("RuntimeError: no luck today$")
        with pytest.raises(ConnectionRefusedError):
            tcp(port)
        assert not (tmp_path / "echo.sock").exists()
        assert talk(client, b"again") == b"again"
    assert server.wait() == 0
