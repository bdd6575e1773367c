"""SIGHUP: a running server reads its configuration file again."""

import signal
import socket
from pathlib import Path
from textwrap import dedent

import pytest

from tests.clients import exchange, free_port, read_all, tcp, udp, visit
from tests.process import thirdparty
from tests.process.running import Running
from tests.process.starts import each_start

pytestmark = pytest.mark.version_independent


def write(folder: Path, *listeners: str) -> None:
    """Write the configuration file with a table for each of these listeners."""
    text = "\n".join(f"[[listener]]\n{dedent(each)}" for each in listeners)
    (folder / "netsrv.toml").write_text(text)


def reload(server: Running, times: int = 1) -> None:
    """Send SIGHUP, and wait until the server has reloaded."""
    server.process.send_signal(signal.SIGHUP)
    server.wait_for("Reloaded: ", times)


@each_start
def test_listeners_come_and_go_and_connections_stay(start, tmp_path, serve):
    """Added listeners serve, removed ones refuse, and connections stay open."""
    stays, goes, comes = (f'tcp = "127.0.0.1:{free_port()}"' for _ in range(3))
    port_of = {each: int(each.rpartition(":")[2].rstrip('"')) for each in (stays, goes, comes)}
    write(tmp_path, f'service = "echo"\n{stays}', f'service = "echo"\n{goes}')
    server = serve("-c", "netsrv.toml", start=start)
    server.wait_for("Waiting for connections", 2)
    with tcp(port_of[stays]) as one, tcp(port_of[goes]) as other:
        for sock in (one, other):  # it is not only in the backlog
            assert exchange(sock, b"here") == b"here"
        write(tmp_path, f'service = "daytime"\n{stays}', f'service = "echo"\n{comes}')
        reload(server)
        server.wait_for(r"Reloaded: 0 listeners as before, 1 changed, 1 added, 1 closed")
        for sock in (one, other):
            assert exchange(sock, b"still here") == b"still here"
    assert visit(port_of[comes], b"new") == b"new"
    with tcp(port_of[stays]) as sock:
        assert read_all(sock).endswith(b"\r\n")
    with socket.socket() as sock:
        assert sock.connect_ex(("127.0.0.1", port_of[goes])) != 0
    server.stop()


@each_start
def test_f90_a_bad_file_changes_nothing_and_is_named(start, tmp_path, serve):
    """Each error is a log line, the server goes on, and the next good file is used."""
    good = f'service = "echo"\ntcp = "127.0.0.1:{free_port()}"'
    write(tmp_path, good)
    server = serve("-c", "netsrv.toml", start=start)
    port = server.port("tcp")
    with tcp(port) as sock:
        assert exchange(sock, b"here") == b"here"
        write(tmp_path, 'tcp = "127.0.0.1:99999"\nservce = "echo"', 'udp = "192.0.2.1:7"')
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("Nothing is changed")
        server.wait_for(r"netsrv\.toml: listener\[0\]\.tcp: '127.0.0.1:99999': a port is")
        server.wait_for(r"netsrv\.toml: listener\[0\]\.servce: there is no such key")
        write(tmp_path, good, 'udp = "192.0.2.1:7"')
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("Nothing is changed", 2)
        server.wait_for("udp 192.0.2.1:7: Cannot assign requested address")
        (tmp_path / "netsrv.toml").unlink()
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("Nothing is changed", 3)
        server.wait_for("netsrv.toml: No such file or directory")
        sock.sendall(b"still here")
        assert sock.recv(100) == b"still here"
    assert visit(port, b"new") == b"new"
    write(tmp_path, good, 'udp = "127.0.0.1:0"')
    reload(server)
    with udp(server.port("udp")) as sock:
        sock.send(b"x")
        assert sock.recv(10) == b"x"
    server.stop()
    assert "Traceback" not in server.output


def test_what_the_command_line_says_holds(tmp_path, serve):
    """The listeners of the command line stay, and its options override those of the file."""
    echo = f'service = "echo"\ntcp = "127.0.0.1:{free_port()}"'
    write(tmp_path, echo)
    options = ["--tcp", "daytime=127.0.0.1:0", "--shutdown-timeout", "0.1"]
    server = serve("-c", "netsrv.toml", *options)
    first, second = server.port("tcp", 1), server.port("tcp", 2)
    (tmp_path / "netsrv.toml").write_text("shutdown_timeout = 60\n")
    reload(server)
    with socket.socket() as sock:
        assert sock.connect_ex(("127.0.0.1", first)) != 0
    with tcp(second) as sock:
        assert read_all(sock).endswith(b"\r\n")
    write(tmp_path, echo)
    reload(server, 2)
    with tcp(first) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        assert server.stop() == 3
    server.wait_for("Draining: 1 connection, at most 0.1 s")


def test_not_one_client_is_refused_while_it_is_reloaded(tmp_path, serve):
    """Sockets that stay are never closed: clients that connect during a reload are served."""
    port = free_port()
    write(tmp_path, f'service = "echo"\ntcp = "127.0.0.1:{port}"')
    server = serve("-c", "netsrv.toml", "--log-rate", "0")
    server.wait_for("Waiting for connections")
    for times in range(1, 31):
        limit = f"[listener.limits]\nmax_connections = {100 + times}"
        write(tmp_path, f'service = "echo"\ntcp = "127.0.0.1:{port}"\n{limit}')
        server.process.send_signal(signal.SIGHUP)
        for _ in range(5):
            assert visit(port, b"x") == b"x"
        server.wait_for("Reloaded: 0 listeners as before, 1 changed", times)
    assert server.stop() == 0


def test_a_service_of_ones_own_keeps_its_state_unless_it_changes(tmp_path, serve):
    """A change of limits does not create the service again."""
    thirdparty.services(
        tmp_path,
        """
        class Count(Protocol):
            def connectionMade(self):
                self.factory.count += 1
                self.transport.write(b"%d\\n" % self.factory.count)
                self.transport.loseConnection()

        class Counting(Service):
            def stream(self, settings):
                factory = Factory.forProtocol(Count)
                factory.count = 0
                return factory

        counting = Counting("acme.counting")
        """,
    )
    port = free_port()
    listener = f'service = "acme.counting"\ntcp = "127.0.0.1:{port}"'
    write(tmp_path, listener)
    server = serve("-c", "netsrv.toml", env=thirdparty.on_path(tmp_path))
    server.wait_for("Waiting for connections")
    assert visit(port) == b"1\n"
    write(tmp_path, f"{listener}\nlimits = {{ lifetime = 60 }}")
    reload(server)
    assert visit(port) == b"2\n"
    server.stop()


def test_f22_a_service_that_blocks_the_reactor_is_logged(tmp_path, serve):
    """The log says for how long the reactor was blocked; then all peers are served again."""
    thirdparty.services(
        tmp_path,
        """
        import time

        class Slow(Protocol):
            def connectionMade(self):
                time.sleep(2.5)
                self.transport.loseConnection()

        slow = Service("acme.slow", Slow)
        """,
    )
    options = ["--tcp", "acme.slow=127.0.0.1:0", "--tcp", "echo=127.0.0.1:0"]
    server = serve(*options, env=thirdparty.on_path(tmp_path))
    slow, echo = server.port("tcp", 1), server.port("tcp", 2)
    visit(slow)
    found = server.wait_for(r"Reactor blocked for (\d\.\d) s")
    assert 1.0 <= float(found[1]) <= 2.6
    assert visit(echo, b"x") == b"x"
    server.stop()


def test_many_signals_at_once_are_one_reload(tmp_path, serve):
    """Repeated SIGHUPs do not keep peers from being served."""
    write(tmp_path, f'service = "echo"\ntcp = "127.0.0.1:{free_port()}"')
    server = serve("-c", "netsrv.toml", "--log-rate", "0")
    port = server.port("tcp")
    for _ in range(300):
        server.process.send_signal(signal.SIGHUP)
    assert visit(port, b"x") == b"x"
    assert server.stop() == 0
    assert server.output.count("Reloaded") < 100


def test_a_server_that_drains_reads_nothing_again(tmp_path, serve):
    """During a drain SIGHUP reopens no listener and leaves the exit status as it is."""
    write(tmp_path, f'service = "echo"\ntcp = "127.0.0.1:{free_port()}"')
    server = serve("-c", "netsrv.toml")
    port = server.port("tcp")
    with tcp(port) as sock:
        assert exchange(sock, b"x") == b"x"
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("Draining: 1 connection")
        server.process.send_signal(signal.SIGHUP)
        assert exchange(sock, b"still") == b"still"
        with socket.socket() as late:
            assert late.connect_ex(("127.0.0.1", port)) != 0
    assert server.wait() == 0
    assert "Reloaded" not in server.output
