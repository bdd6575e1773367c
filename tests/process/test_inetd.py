"""``netsrv serve --inetd``, started by xinetd, systemd-socket-activate, or as inetd does."""

import getpass
import os
import signal
import socket
import struct

import pytest

from tests.process import needs
from tests.process.activation import free_port, on_descriptor_0
from tests.process.running import Running
from tests.process.starts import SERVE, finish, only_line
from tests.timeouts import CLIENT_TIMEOUT, TIMEOUT

pytestmark = pytest.mark.version_independent

XINETD = """\
service echo
{{
    type = UNLISTED
    socket_type = {kind}
    protocol = {protocol}
    wait = {wait}
    port = {port}
    bind = 127.0.0.1
    user = {user}
    server = {server}
    server_args = serve --inetd echo --quiet
}}
"""


def read_all(sock: socket.socket) -> bytes:
    """Return all that a peer sends until it closes."""
    return b"".join(iter(lambda: sock.recv(4096), b""))


def test_xinetd_passes_connections_and_datagrams(tmp_path):
    """A process for each connection, and one for all datagrams, answer as the service does."""
    program, ports = needs.tool("xinetd"), (free_port(), free_port())
    needs.root()
    kinds = ("stream", "tcp", "no"), ("dgram", "udp", "yes")
    (tmp_path / "xinetd.conf").write_text(
        "".join(
            XINETD.format(
                kind=kind,
                protocol=protocol,
                wait=wait,
                port=port,
                user=getpass.getuser(),
                server=SERVE.located[0],
            )
            for (kind, protocol, wait), port in zip(kinds, ports, strict=True)
        )
    )
    log = tmp_path / "log"
    os.mkfifo(log)
    files = "-f", "xinetd.conf", "-pidfile", "pid", "-filelog", str(log)
    with Running([program, "-dontfork", *files], tmp_path) as server, log.open() as lines:
        assert any("Started working: 2 available services" in line for line in lines)
        with socket.create_connection(("127.0.0.1", ports[0]), CLIENT_TIMEOUT) as peer:
            peer.sendall(b"hello")
            peer.shutdown(socket.SHUT_WR)
            assert read_all(peer) == b"hello"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.settimeout(CLIENT_TIMEOUT)
            peer.connect(("127.0.0.1", ports[1]))
            peer.send(b"hello")
            assert peer.recv(100) == b"hello"
        server.process.terminate()


@pytest.mark.parametrize("options", [["--inetd"], []], ids=["descriptor 0", "LISTEN_FDS"])
def test_systemd_passes_each_connection(options, tmp_path):
    """As with Accept=yes: the peer gets the message and the end of the connection."""
    port = free_port()
    program = needs.tool("systemd-socket-activate")
    command = [program, *options, "-a", "-l", f"127.0.0.1:{port}", *SERVE.located]
    with Running([*command, "--inetd", "daytime"], tmp_path) as server:
        server.wait_for("Listening on")
        with socket.create_connection(("127.0.0.1", port), CLIENT_TIMEOUT) as peer:
            assert read_all(peer).count(b"\r\n") == 1
        server.wait_for("died with code 0")


def test_the_peer_gets_no_line_of_the_log(tmp_path):
    """The log and errors go to syslog if the descriptors 1 and 2 are the connection.

    The process ends with its connection, without delay: no load balancer has to learn of that.
    """
    command = [*SERVE.command, "--shutdown-delay=90", "--ine"]  # an abbreviation does the same
    for service, sent, status in (("echo", b"hello", 0), ("no-such-service", b"", 78)):
        ours, theirs = socket.socketpair()
        with ours, on_descriptor_0([*command, service], theirs, tmp_path) as process:
            theirs.close()
            ours.settimeout(CLIENT_TIMEOUT)
            ours.sendall(sent)
            ours.shutdown(socket.SHUT_WR)
            assert read_all(ours) == sent
            assert process.wait(TIMEOUT) == status


def test_a_peer_that_has_left_ends_the_process(tmp_path):
    """A port scanner resets its connection before the process has started."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        peer = socket.create_connection(listening.getsockname())
        accepted, _ = listening.accept()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        command = [*SERVE.command, "--inetd", "echo"]
        with accepted, on_descriptor_0(command, accepted, tmp_path) as process:
            assert process.wait(TIMEOUT) == 0


def test_a_listening_socket_is_served_until_a_signal(tmp_path):
    """As with inetd's wait: all clients are served; the socket goes on listening for inetd."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        command = [*SERVE.command, "--inetd", "echo"]
        with on_descriptor_0(command, listening, tmp_path) as process:
            for _ in range(2):
                with socket.create_connection(listening.getsockname(), CLIENT_TIMEOUT) as peer:
                    peer.sendall(b"hello")
                    assert peer.recv(100) == b"hello"
            process.send_signal(signal.SIGTERM)
            assert process.wait(TIMEOUT) == 0
        with socket.create_connection(listening.getsockname()):
            listening.accept()[0].close()


def test_descriptor_0_is_no_socket(tmp_path):
    """One line says which programs have to start the command."""
    line = only_line(finish([*SERVE.command, "--inetd", "echo"], tmp_path))
    assert line.startswith("netsrv: --inetd: descriptor 0 is no socket; inetd, xinetd, ")
