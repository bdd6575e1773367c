"""Socket files: what prevents a start, and what is left behind."""

import os
import re
import socket
from pathlib import Path

import pytest

from tests.clients import talk, unix
from tests.process import needs
from tests.process.running import Running
from tests.process.starts import SERVE, Start, each_start, finish, only_line

pytestmark = pytest.mark.version_independent

NOT_A_SOCKET = "the path exists and is not a socket; it is left alone"


def leave_stale(path: Path) -> None:
    """Create a socket file without a listener, as a killed server leaves it."""
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))


def serving(start: Start, path: Path) -> Running:
    """Start an echo server on *path*."""
    return Running([*start.command, "--unix", f"echo={path}"], path.parent)


def refusal(path: Path, start: Start = SERVE) -> str:
    """Return the reason in the one line of a start that *path* prevents."""
    done = finish([*start.command, "--unix", f"echo={path}"], path.parent)
    assert done.returncode == start.unavailable
    found = re.fullmatch(rf"netsrv: unix {re.escape(str(path))}: (.*)", only_line(done))
    assert found
    return found[1]


@each_start
def test_f95_stale_file_is_replaced(start, tmp_path):
    """A socket file without a listener is replaced, and removed at the end."""
    path = tmp_path / "echo.sock"
    leave_stale(path)
    with serving(start, path) as server:
        server.wait_for("Waiting for connections on unix ")
        assert talk(unix(path), b"hello") == b"hello"
        server.stop()
    assert not path.exists()


@each_start
def test_f95_live_socket_is_refused(start, tmp_path):
    """A socket file with a listener prevents the start, and stays."""
    path = tmp_path / "echo.sock"
    with serving(SERVE, path) as server:
        server.wait_for("Waiting for connections on unix ")
        assert refusal(path, start) == "Address already in use: a server listens there"
        assert talk(unix(path), b"hello") == b"hello"
        assert server.stop() == 0
    assert not path.exists()


def test_busy_socket_is_refused(tmp_path):
    """A server that is slow to accept, with a full backlog, counts as a listener."""
    path = tmp_path / "busy.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))
        assert refusal(path) == "Address already in use: a server listens there"
    assert path.is_socket()


def test_f95_regular_file_is_left_alone(tmp_path):
    """A file that is not a socket prevents the start, and stays."""
    path = tmp_path / "precious"
    path.write_text("precious")
    assert refusal(path) == NOT_A_SOCKET
    assert path.read_text() == "precious"


def test_f95_link_to_a_file_is_left_alone(tmp_path):
    """A symbolic link to a file prevents the start; link and file stay."""
    path, precious = tmp_path / "link", tmp_path / "precious"
    precious.write_text("precious")
    path.symlink_to(precious)
    assert refusal(path) == NOT_A_SOCKET
    assert path.is_symlink()
    assert precious.read_text() == "precious"


def test_f95_link_to_a_stale_socket_is_left_alone(tmp_path):
    """A symbolic link to a stale socket prevents the start; its target stays."""
    path, stale = tmp_path / "link", tmp_path / "stale.sock"
    leave_stale(stale)
    path.symlink_to(stale)
    assert refusal(path) == NOT_A_SOCKET
    assert path.is_symlink()
    assert stale.is_socket()


def test_f95_dangling_link_is_left_alone(tmp_path):
    """A dangling symbolic link prevents the start; its target is not created."""
    path = tmp_path / "link"
    path.symlink_to(tmp_path / "nowhere")
    assert refusal(path) == NOT_A_SOCKET
    assert [each.name for each in tmp_path.iterdir()] == ["link"]


def test_directory_is_left_alone(tmp_path):
    """A directory at the path prevents the start."""
    path = tmp_path / "directory"
    path.mkdir()
    assert refusal(path) == NOT_A_SOCKET
    assert path.is_dir()


def test_datagram_socket_is_left_alone(tmp_path):
    """A datagram socket in use prevents the start, and stays."""
    path = tmp_path / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        assert refusal(path) == "Protocol wrong type for socket; it is left alone"
        assert path.is_socket()


def test_directory_that_may_not_be_written(tmp_path):
    """A read-only directory is reported in one line with the errno's text."""
    path = tmp_path / "closed" / "echo.sock"
    path.parent.mkdir(mode=0o500)
    command = [*needs.powerless(), *SERVE.located, "--unix", f"echo={path}"]
    done = finish(command, tmp_path)
    assert done.returncode == SERVE.unavailable
    assert only_line(done) == f"netsrv: unix {path}: Permission denied"


@each_start
def test_f95_foreign_file_stays(start, tmp_path):
    """At the end a file that has replaced the server's socket file stays."""
    path = tmp_path / "echo.sock"
    with serving(start, path) as server, socket.socket(socket.AF_UNIX) as other:
        server.wait_for("Waiting for connections on unix ")
        assert talk(unix(path), b"hello") == b"hello"
        path.unlink()
        other.bind(str(path))
        server.stop()
        assert "Traceback" not in server.output
        assert path.is_socket()


def test_file_may_be_gone(tmp_path):
    """The server ends in order if its socket file has been removed."""
    path = tmp_path / "echo.sock"
    with serving(SERVE, path) as server:
        server.wait_for("Waiting for connections on unix ")
        assert talk(unix(path), b"hello") == b"hello"
        path.unlink()
        server.stop()
        assert "Traceback" not in server.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a b.sock", "ä.sock", "a\nb.sock", "-", "=.sock"])
def test_odd_names(name, tmp_path):
    """A path with any characters is served, and logged in one line."""
    path = tmp_path / name
    with serving(SERVE, path) as server:
        shown = server.wait_for(r"Waiting for connections on unix (\S.*) \(echo\)$")[1]
        assert shown == str(path).replace("\n", r"\n")
        assert talk(unix(path), b"hello") == b"hello"
        assert server.stop() == 0
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("reactor", ["uvloop", "epoll"])
def test_f137_a_socket_file_has_what_the_umask_of_twistd_leaves(reactor, tmp_path):
    """twistd applies its --umask after the file is there; the file has those permissions."""
    path = tmp_path / "echo.sock"
    command = ["twistd", "-n", "--pidfile=", f"--reactor={reactor}", "--umask=027", "netsrv"]
    with Running([*command, "--unix", f"echo={path}"], tmp_path) as server:
        server.wait_for("Waiting for connections on unix ")
        assert path.stat().st_mode & 0o777 == 0o750
