"""Servers that systemd starts: its sockets, its notifications, its store, its restrictions."""

import ctypes
import signal
import socket

import pytest

from netsrv.cli.fetching import Target, fetch
from tests.process import needs
from tests.process.activation import activated, free_port
from tests.process.running import Running, interruptible
from tests.process.starts import SERVE, TWISTD
from tests.systemd.receiver import Receiver
from tests.timeouts import CLIENT_TIMEOUT

PR_SET_MDWE = 65
PR_MDWE_REFUSE_EXEC_GAIN = 1

ABORTED = 3


def ask(port: int, data: bytes = b"hello") -> bytes:
    """Return what a stream service answers to *data*."""
    with socket.create_connection(("127.0.0.1", port), CLIENT_TIMEOUT) as sock:
        sock.sendall(data)
        return sock.recv(100)


@pytest.mark.parametrize("start", [SERVE, TWISTD], ids=str)
def test_systemd_passes_stream_sockets(start, tmp_path):
    """Each listener gets the socket of its name, and the client whose connection has started it."""
    web, other, status = free_port(), free_port(), free_port()
    command = [
        *(needs.tool("systemd-socket-activate"), "-l", f"127.0.0.1:{web}"),
        *("-l", f"127.0.0.1:{other}", "-l", f"127.0.0.1:{status}", "-l", f"{tmp_path}/health"),
        *("--fdname=web:other:status:health", *start.located),
        *("--tcp", "echo=systemd:other", "--tcp", "daytime=systemd:web"),
        *("--status", "systemd:status", "--health", "systemd:health"),
    ]
    with Running(command, tmp_path) as server:
        server.wait_for("Listening on", 4)
        assert ask(other) == b"hello"
        assert ask(web, b"").endswith(b"\r\n")
        assert fetch(Target("127.0.0.1", status), "/metrics").status == 200
        assert fetch(Target("", 0, f"{tmp_path}/health"), "/readyz").status == 200
        assert server.stop() == start.drained


def test_systemd_passes_a_datagram_socket(tmp_path):
    """The datagram that has started the server is answered."""
    port = free_port()
    program = needs.tool("systemd-socket-activate")
    command = [program, "-d", "-l", f"127.0.0.1:{port}", "--fdname=dns", *SERVE.located]
    with (
        Running([*command, "--udp", "echo=systemd:dns"], tmp_path) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer,
    ):
        server.wait_for("Listening on")
        peer.settimeout(CLIENT_TIMEOUT)
        peer.connect(("127.0.0.1", port))
        peer.send(b"hello")
        assert peer.recv(100) == b"hello"


def test_a_shutdown_delay_serves_on_while_the_server_ends(tmp_path):
    """From the first signal on the manager knows of the end, and /readyz says no.

    New clients are served all the same; a second signal ends the delay, and the server.
    """
    health = f"{tmp_path}/health"
    options = ["--tcp", "echo=127.0.0.1:0", "--shutdown-delay", "60", "--health", f"unix:{health}"]
    with Receiver(str(tmp_path / "notify")) as manager:
        environ = {"NOTIFY_SOCKET": manager.address}
        with Running([*SERVE.command, *options], tmp_path, environ) as server:
            port = server.port("tcp")
            server.process.send_signal(signal.SIGTERM)
            server.wait_for("Not ready: still serving for 60 s")
            while manager.receive() != "STOPPING=1":
                pass
            assert manager.receive() == "STATUS=Draining: 0 connections"
            assert manager.receive() == "EXTEND_TIMEOUT_USEC=15000000"
            answer = fetch(Target("", 0, health), "/readyz")
            assert (answer.status, b"-]shutdown failed" in answer.body) == (503, True)
            with socket.create_connection(("127.0.0.1", port), CLIENT_TIMEOUT) as sock:
                sock.sendall(b"hello")
                assert sock.recv(100) == b"hello"
                assert server.stop() == ABORTED


def test_a_restart_closes_no_socket(tmp_path):
    """systemd's store keeps them: a client that comes in between is served by the next process.

    The manager hears of the start, a reload and the end; a listener that a reload has removed
    is not in the store.
    """
    config = tmp_path / "netsrv.toml"
    tcp, gone = free_port(), free_port()
    kept = f'[[listener]]\nservice = "echo"\ntcp = "127.0.0.1:{tcp}"\n'
    config.write_text(f'{kept}[[listener]]\ntcp = "127.0.0.1:{gone}"\n')
    with Receiver(str(tmp_path / "notify")) as manager:
        command = [*SERVE.command, "--config", str(config)]
        env = {"NOTIFY_SOCKET": manager.address, "FDSTORE": "8"}
        with Running(command, tmp_path, env) as server:
            manager.wait_for("^READY=1$")
            manager.wait_for("^STATUS=Serving 2 listeners: 0 connections, 0 accepted$")
            config.write_text(kept)
            server.process.send_signal(signal.SIGHUP)
            manager.wait_for(r"^RELOADING=1\nMONOTONIC_USEC=\d+$")
            manager.wait_for(f"^FDSTOREREMOVE=1\nFDNAME=netsrv/tcp/127.0.0.1%3A{gone}$")
            manager.wait_for("^READY=1$")
            assert server.stop() == 0
            manager.wait_for("^STOPPING=1$")
            manager.wait_for("^STATUS=Draining: 0 connections$")
            manager.wait_for("^EXTEND_TIMEOUT_USEC=15000000$")
        [(name, sock)] = manager.stored.items()
        with socket.create_connection(("127.0.0.1", tcp), CLIENT_TIMEOUT) as client:
            client.sendall(b"between")
            stale = manager.stored["netsrv/stale"] = socket.create_server(("127.0.0.1", 0))
            sockets = [(name, sock), ("netsrv/stale", stale)]
            with activated(command, tmp_path, sockets, **env):
                manager.wait_for("^FDSTOREREMOVE=1\nFDNAME=netsrv/stale$")
                manager.wait_for("^READY=1$")
                assert client.recv(100) == b"between"


def forbid_writable_code() -> None:
    """Do what MemoryDenyWriteExecute=yes does; the flag outlives exec."""
    interruptible()
    ctypes.CDLL(None).prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)


def test_all_works_without_writable_code(serve):
    """MemoryDenyWriteExecute=yes is no restriction: neither uvloop nor ctypes needs such memory."""
    probe = "import ctypes, sys; sys.exit(ctypes.CDLL(None).prctl(66, 0, 0, 0, 0) != 1)"
    tried = Running(["python", "-c", probe], ".", preexec_fn=forbid_writable_code)
    with tried:
        if tried.wait():
            pytest.skip("this kernel has no PR_SET_MDWE")
    options = "--tcp", "echo=127.0.0.1:0", "--udp", "echo=127.0.0.1:0"
    server = serve(*options, preexec_fn=forbid_writable_code)
    assert ask(server.port("tcp")) == b"hello"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.settimeout(CLIENT_TIMEOUT)
        peer.connect(("127.0.0.1", server.port("udp")))
        for _ in range(3):
            peer.send(b"hello")
            assert peer.recv(100) == b"hello"
    assert server.stop() == 0
