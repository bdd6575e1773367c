"""The server under ``twistd`` and ``twist``."""

import grp
import json
import os
import pwd
import re
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from netsrv.cli.fetching import fetch, parse_target
from tests.clients import exchange, name_of, read_all, talk, tcp, udp, unix
from tests.process import needs, thirdparty
from tests.process.running import Running
from tests.process.starts import TWIST, TWISTD, finish
from tests.timeouts import TIMEOUT

MEBIBYTE = bytes(range(256)) * 4096

RECORD = "\x1e"
"""What begins a text in a sequence of JSON (RFC 7464)."""

REACTORS = {
    "epoll": "EPollReactor",
    "poll": "PollReactor",
    "select": "SelectReactor",
    "asyncio": "AsyncioSelectorReactor",
}

each_reactor = pytest.mark.parametrize("reactor", REACTORS)


def on_reactor(name: str) -> list[str]:
    """Return the command that serves on this reactor."""
    return ["twistd", "-n", "--pidfile=", f"--reactor={name}", "netsrv"]


@pytest.fixture(scope="module", params=REACTORS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """One server for each reactor: accept and the datagram echo on one port, then echo."""
    command = [*on_reactor(request.param), "--tcp", "0", "--udp", "same"]
    cwd = tmp_path_factory.mktemp(request.param)
    with Running([*command, "--tcp", "echo=127.0.0.1:0"], cwd) as running:
        running.wait_for(rf"\.{REACTORS[request.param]}\.$")
        running.port("udp")
        yield running


def test_says_what_it_waits_for(server):
    """The log has a line for each listener, with the port that the kernel chose."""
    port = server.port("tcp")
    server.wait_for(rf"#info\] Waiting for connections on tcp 0\.0\.0\.0:{port} \(accept\)$")
    server.wait_for(rf"#info\] Waiting for datagrams on udp 0\.0\.0\.0:{port} \(echo\)$")
    server.wait_for(r"#info\] Waiting for connections on tcp 127\.0\.0\.1:\d+ \(echo\)$")


def test_accepts_and_closes(server):
    """A connection to accept is logged, and ends without a byte."""
    with tcp(server.port("tcp")) as client:
        assert read_all(client) == b""
        server.wait_for(rf"#info\] Got connection from {name_of(client)} on tcp \S+ \(accept\)$")


def test_sends_datagrams_back(server):
    """A datagram to echo comes back, and is logged with its size."""
    with udp(server.port("udp")) as client:
        assert exchange(client, b"hello") == b"hello"
        server.wait_for(
            rf"#info\] Got data from {name_of(client)} \(5 bytes\) on udp \S+ \(echo\)$"
        )


def test_sends_streams_back(server):
    """A whole mebibyte comes back from echo after the client has half-closed."""
    assert talk(tcp(server.port("tcp", 2)), MEBIBYTE) == MEBIBYTE


@each_reactor
def test_a_signal_ends_it_at_once(reactor, tmp_path):
    """SIGTERM ends a server without connections with no drain, and is its exit status."""
    with Running([*on_reactor(reactor), "--udp", "0"], tmp_path) as server:
        with udp(server.port("udp")) as client:
            assert exchange(client, b"hello") == b"hello"
        assert server.stop() == -signal.SIGTERM
        server.wait_for(r"\] Received SIGTERM, shutting down\.$")
        assert "Draining" not in server.output


@pytest.mark.parametrize("start", [TWISTD, TWIST], ids=str)
def test_a_signal_may_come_as_soon_as_it_waits(start, tmp_path, serve):
    """SIGTERM right after the line of the last listener ends the server in order."""
    path = tmp_path / "echo.sock"
    server = serve("--unix", f"echo={path}", start=start)
    server.wait_for("Waiting for connections on unix ")
    assert server.stop() == -signal.SIGTERM
    server.wait_for(r"\] Received SIGTERM, shutting down\.$")
    assert not path.exists()


def test_names_the_peer_of_a_unix_socket(tmp_path, serve):
    """A peer on a unix socket gets its echo, and is logged with its process and user id."""
    path = tmp_path / "echo.sock"
    server = serve("--unix", f"echo={path}", start=TWISTD)
    server.wait_for(rf"Waiting for connections on unix {re.escape(str(path))} \(echo\)$")
    assert talk(unix(path), b"hello") == b"hello"
    server.wait_for(rf"Got connection from unix pid {os.getpid()} uid {os.geteuid()}$")


def test_takes_a_relative_path(tmp_path, serve):
    """The path of a unix socket may be relative to the working directory."""
    server = serve("--unix", "echo=echo.sock", start=TWISTD)
    server.wait_for("Waiting for connections on unix ")
    assert talk(unix(tmp_path / "echo.sock"), b"hello") == b"hello"


def test_serves_ipv6(serve):
    """Listeners and peers with IPv6 addresses are logged in brackets."""
    needs.ipv6()
    server = serve("--tcp", "echo=[::1]:0", "--udp", "[::1]:0", start=TWISTD)
    stream = int(server.wait_for(r"connections on tcp \[::1\]:(\d+) \(echo\)$")[1])
    datagrams = int(server.wait_for(r"datagrams on udp \[::1\]:(\d+) \(echo\)$")[1])
    with tcp(stream, "::1") as client:
        assert exchange(client, b"hello") == b"hello"
        server.wait_for(rf"Got connection from {re.escape(name_of(client))} on tcp \S+ \(echo\)$")
    with udp(datagrams, "::1") as client:
        assert exchange(client, b"hello") == b"hello"
        server.wait_for(rf"Got data from {re.escape(name_of(client))} \(5 bytes\) on udp ")


def test_f13_shows_ipv4_peers_of_ipv6_sockets_as_ipv4(serve):
    """A listener on [::] serves both families, and logs an IPv4 peer by its IPv4 address."""
    needs.ipv6()
    server = serve("--tcp", "echo=[::]:0", "--udp", "same", start=TWISTD)
    port = int(server.wait_for(r"connections on tcp \[::\]:(\d+) \(echo\)$")[1])
    with tcp(port) as client:
        assert exchange(client, b"hello") == b"hello"
        server.wait_for(rf"Got connection from {name_of(client)} on tcp \S+ \(echo\)$")
    with tcp(port, "::1") as client:
        server.wait_for(rf"Got connection from {re.escape(name_of(client))} on tcp \S+ \(echo\)$")


def test_ipv4_datagrams_reach_an_ipv6_socket(serve):
    """An IPv4 peer of a UDP listener on [::] gets its echo, and is logged as IPv4."""
    needs.ipv6()
    with serve("--udp", "[::]:0", start=TWISTD) as server, udp(server.port("udp")) as client:
        assert exchange(client, b"hello") == b"hello"
        server.wait_for(rf"Got data from {name_of(client)} \(5 bytes\)$")


def test_says_what_a_name_means(serve):
    """The log shows the address that a host name resolved to."""
    server = serve("--tcp", "localhost:0", start=TWISTD)
    found = server.wait_for(r"\] localhost is (127\.0\.0\.1|::1)$")[1]
    server.wait_for(rf"Waiting for connections on tcp \[?{found}\]?:\d+ \(accept\)$")


def test_twist_serves(serve):
    """Twist runs the same server, with the same lines in its text log."""
    server = serve("--tcp", "echo=0", "--udp", "same", start=TWIST)
    assert server.port("udp") == server.port("tcp")
    assert talk(tcp(server.port("tcp")), b"hello") == b"hello"
    server.wait_for(r"Got connection from 127\.0\.0\.1:\d+ on tcp 0\.0\.0\.0:\d+ \(echo\)$")
    assert server.stop() == -signal.SIGTERM


def test_twist_logs_json_to_a_pipe(tmp_path):
    """Each line that twist writes to a pipe is a JSON object (RFC 7464), ours too."""
    with Running(["twist", "netsrv", "--tcp", "0"], tmp_path) as server:
        server.wait_for(r"Waiting for \{what\}")
        events = [json.loads(line.lstrip(RECORD)) for line in server.lines]
        waiting = [event for event in events if "what" in event]
        assert [each["what"] for each in waiting] == ["connections"]
        assert re.fullmatch(r"tcp 0\.0\.0\.0:\d+ \(accept\)", waiting[0]["listener"])


@contextmanager
def daemon(cwd: Path, *options: str, stdin_closed: bool = False) -> Iterator[None]:
    """Start a daemon, which is ready when its parent has ended; end it with SIGTERM."""
    command = ["twistd", "--pidfile=pid", "--logfile=log", "netsrv", *options]
    ended, held = os.pipe()  # the daemon inherits one end; the other tells when it is gone
    with open(ended, "rb") as until_end:
        try:
            close = {"preexec_fn": lambda: os.close(0)} if stdin_closed else {}
            started = finish(command, cwd, pass_fds=[held], **close)
        finally:
            os.close(held)
        assert (started.returncode, started.stdout, started.stderr) == (0, "", "")
        try:
            yield
        finally:
            os.kill(int((cwd / "pid").read_text()), signal.SIGTERM)
            assert select.select([until_end], [], [], TIMEOUT)[0]
            assert until_end.read() == b""


def test_runs_as_a_daemon(tmp_path):
    """A daemon is ready when its parent ends, serves, and leaves neither socket nor pid file."""
    log = tmp_path / "log"
    with daemon(tmp_path, "--tcp", "echo=127.0.0.1:0", "--unix", "echo=echo.sock"):
        assert talk(unix(tmp_path / "echo.sock"), b"hello") == b"hello"
        found = re.search(r"on tcp 127\.0\.0\.1:(\d+) \(echo\)$", log.read_text(), re.MULTILINE)
        assert found
        port = int(found[1])
        assert talk(tcp(port), MEBIBYTE) == MEBIBYTE
    with pytest.raises(ConnectionRefusedError):
        tcp(port)
    assert list(tmp_path.iterdir()) == [log]
    assert "Traceback" not in log.read_text()


def test_a_daemon_keeps_its_sockets_when_it_is_started_without_standard_input(
    tmp_path,
):
    """No socket has the descriptor 0, which a daemon replaces with /dev/null."""
    with daemon(tmp_path, "--unix", "echo=echo.sock", stdin_closed=True):
        assert talk(unix(tmp_path / "echo.sock"), b"hello") == b"hello"
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_daemon_that_cannot_start_says_so(tmp_path):
    """The terminal and the exit status show an error at start."""
    done = finish(["twistd", "netsrv", "--tcp", "192.0.2.1:0"], tmp_path)
    assert done.returncode == 1
    assert done.stderr == "netsrv: tcp 192.0.2.1:0: Cannot assign requested address\n"
    assert list(tmp_path.iterdir()) == []


def test_f94_gives_root_up_after_binding_a_low_port(tmp_path):
    """With --uid and --gid, twistd binds a port below 1024, and then drops root entirely."""
    needs.root()
    user = pwd.getpwnam("nobody")
    group = grp.getgrgid(user.pw_gid)
    command = ["twistd", "-n", "--pidfile=", "--uid", user.pw_name, "--gid", group.gr_name]
    port = needs.free_low_port()
    with Running([*command, "netsrv", "--tcp", f"echo=127.0.0.1:{port}"], tmp_path) as server:
        assert server.port("tcp") == port
        assert talk(tcp(port), MEBIBYTE) == MEBIBYTE
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        assert fields["Uid"].split() == [str(user.pw_uid)] * 4
        assert fields["Gid"].split() == [str(user.pw_gid)] * 4
        assert {int(each) for each in fields["Groups"].split()} <= {user.pw_gid}
        assert int(fields["CapPrm"], 16) == 0
        assert server.stop() == -signal.SIGTERM


def test_f94_root_cannot_be_had_again(tmp_path):
    """After that no code in the process can become root or its group again."""
    needs.root()
    body = """
    import os

    class Regain(Protocol):
        def connectionMade(self):
            for attempt in (os.setuid, os.seteuid, os.setgid, os.setegid):
                try:
                    attempt(0)
                except PermissionError:
                    self.transport.write(b"refused ")
            try:
                os.setgroups([0])
            except PermissionError:
                self.transport.write(b"refused")
            self.transport.loseConnection()

    regain = Service("regain", Regain)
    """
    thirdparty.services(tmp_path, body)
    user = pwd.getpwnam("nobody")
    command = ["twistd", "-n", "--pidfile=", "--uid", str(user.pw_uid), "--gid", str(user.pw_gid)]
    env = thirdparty.on_path(tmp_path)
    with Running([*command, "netsrv", "--tcp", "regain=127.0.0.1:0"], tmp_path, env) as server:
        assert talk(tcp(server.port("tcp")), b"") == b"refused refused refused refused refused"


def test_f95_a_stale_pid_file_is_no_obstacle(tmp_path):
    """A pid file that an earlier server left behind does not prevent the start."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    (tmp_path / "pid").write_text(str(gone.pid))
    with Running(["twistd", "-n", "--pidfile=pid", "netsrv", "--tcp", "0"], tmp_path) as server:
        with tcp(server.port("tcp")) as client:
            assert read_all(client) == b""
        assert (tmp_path / "pid").read_text() == str(server.process.pid)
        assert server.stop() == -signal.SIGTERM
    assert not (tmp_path / "pid").exists()


@pytest.mark.parametrize("content", ["precious", str(os.getpid())], ids=["text", "live process"])
@pytest.mark.parametrize("linked", [False, True], ids=["file", "link"])
def test_f95_a_foreign_pid_file_stays(linked, content, tmp_path):
    """A file that is not a stale pid file prevents the start; neither it nor a link is changed."""
    path, file = tmp_path / "pid", tmp_path / ("precious" if linked else "pid")
    file.write_text(content)
    if linked:
        path.symlink_to(file)
    options = ["--unix", "echo=echo.sock"]
    done = finish(["twistd", "-n", "--pidfile=pid", "netsrv", *options], tmp_path)
    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr
    if content.isdigit():
        assert f"Another twistd server is running, PID {content}\n" in done.stderr
    assert file.read_text() == content
    assert path.is_symlink() == linked
    assert not (tmp_path / "echo.sock").exists()


def test_f95_what_a_stale_pid_files_link_leads_to_stays(tmp_path):
    """If the pid file is a link to a stale one, the link is replaced, and not its target."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    file = tmp_path / "elsewhere"
    file.write_text(str(gone.pid))
    (tmp_path / "pid").symlink_to(file)
    with Running(["twistd", "-n", "--pidfile=pid", "netsrv", "--tcp", "0"], tmp_path) as server:
        server.port("tcp")
        assert file.read_text() == str(gone.pid)
        assert server.stop() == -signal.SIGTERM
    assert file.read_text() == str(gone.pid)


def test_same_is_a_port_that_is_free_on_both(serve):
    """Two servers with 0 and same at the same time have one port number each."""
    options = ["--tcp", "127.0.0.1:0", "--udp", "127.0.0.1:same"]
    one, other = serve(*options, start=TWISTD), serve(*options, start=TWISTD)
    ports = [one.port("tcp"), other.port("tcp")]
    assert [one.port("udp"), other.port("udp")] == ports
    assert ports[0] != ports[1]
    assert [talk(tcp(port), b"") for port in ports] == [b"", b""]


@pytest.mark.parametrize("reactor", ["uvloop", "epoll"])
def test_f94_a_server_in_a_jail_serves(reactor, tmp_path):
    """After twistd --chroot no module can be imported: all sockets serve, and the status does."""
    needs.root()
    path = tmp_path / "echo.sock"
    launcher, options = on_reactor(reactor)[:-1], ["--tcp", "info=127.0.0.1:0", "--udp", "same"]
    options += ["--unix", f"echo={path}", "--status", "127.0.0.1:0", "--health", "127.0.0.1:0"]
    command = [*launcher, f"--chroot={tmp_path}", "netsrv", *options]
    with Running(command, tmp_path) as server:
        server.wait_for("Waiting for connections on unix ")
        port = server.port("tcp")
        assert json.loads(read_all(tcp(port)))["local"] == f"127.0.0.1:{port}"
        assert talk(unix(path), MEBIBYTE) == MEBIBYTE
        with udp(port) as client:
            assert exchange(client, b"hello") == b"hello"
        status = parse_target(server.wait_for(r"Serving status on (\S+)")[1])
        for name in ("metrics", "status.json", "readyz", "no"):
            assert fetch(status, f"/{name}").status == (404 if name == "no" else 200)
        server.stop()
        assert "Traceback" not in server.output
