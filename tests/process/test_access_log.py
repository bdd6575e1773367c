"""The access log of a running server, and its faults."""

import json
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.clients import tcp, udp, visit
from tests.process import needs
from tests.process.running import Running, killed_at_end, located
from tests.process.starts import SERVE, TWISTD, each_start, finish, only_line
from tests.timeouts import TIMEOUT

pytestmark = pytest.mark.version_independent

ECHO = ("--tcp", "echo=127.0.0.1:0")


def records(path: Path) -> list[dict[str, Any]]:
    """Read the lines of an access log."""
    return [json.loads(each) for each in path.read_text().splitlines()]


@each_start
def test_each_connection_and_datagram_is_a_line(start, tmp_path, serve):
    """A line has the peer, the bytes and the close reason; all are written when the server ends."""
    options = ["--udp", "127.0.0.1:0", "--access-log", "log", "--access-log-datagrams"]
    with serve(*ECHO, *options, start=start) as server:
        port = server.port("tcp")
        with tcp(port) as client:
            peer = client.getsockname()
            client.sendall(b"hello")
            assert client.recv(5) == b"hello"
        with udp(server.port("udp")) as client:
            client.send(b"four")
            assert client.recv(4) == b"four"
        server.stop()
    connection, received, sent = sorted(
        records(tmp_path / "log"), key=lambda each: ("ended" not in each, each["time"])
    )
    assert connection["listener"] == f"tcp 127.0.0.1:{port} (echo)"
    assert connection["peer"] == f"127.0.0.1:{peer[1]}"
    assert (connection["received"], connection["sent"]) == (5, 5)
    assert connection["ended"] == "peer"
    assert 0 < connection["seconds"] < 30
    assert (received["received"], sent["sent"]) == (4, 4)


def test_standard_output(serve):
    """``-`` writes the access log to standard output."""
    server = serve(*ECHO, "--access-log", "-")
    visit(server.port("tcp"), b"x")
    found = server.wait_for(r'^\{"time":.*\}$')
    assert json.loads(found[0])["received"] == 1
    server.stop()


@pytest.mark.parametrize(
    ("start", "with_signal"), [(SERVE, True), (TWISTD, True), (SERVE, False)], ids=str
)
def test_f101_rotation_loses_and_doubles_no_line(start, with_signal, tmp_path, serve):
    """No line is lost or repeated while the file is moved away and connections come and go."""
    rounds, each_round = 5, 20
    log = tmp_path / "log"
    with serve(*ECHO, "--access-log", "log", start=start) as server:
        port = server.port("tcp")
        for number in range(rounds):
            for _ in range(each_round):
                visit(port, b"x")
            log.rename(tmp_path / f"log.{number}")
            if with_signal:
                server.process.send_signal(signal.SIGUSR1)
            while not log.exists():
                assert visit(port) == b""
        server.stop()
    lines = [each for path in tmp_path.glob("log*") for each in records(path)]
    assert sum(each["received"] for each in lines) == rounds * each_round
    peers = [each["peer"] for each in lines if each["received"]]
    assert len(peers) == rounds * each_round


def test_f100_a_full_disk_does_not_keep_it_from_serving(serve):
    """The log says once that lines are lost; clients are served as usual."""
    server = serve(*ECHO, "--access-log", "/dev/full")
    port = server.port("tcp")
    for _ in range(50):
        assert visit(port, b"x") == b"x"
    server.wait_for("access log /dev/full: No space left on device; dropped lines are counted")
    assert visit(port, b"x") == b"x"
    assert server.stop() == 0
    assert server.output.count("No space left") == 1


def test_f100_a_disk_that_has_room_again_is_written_again(tmp_path):
    """On a disk that is full for a while, no line of the file is torn."""
    needs.root()
    disk = tmp_path / "disk"
    disk.mkdir()
    script = (
        f"mount -t tmpfs -o size=1m none {disk} && head -c 1040000 /dev/zero > {disk}/ballast && "
        f"echo ready && exec {' '.join(SERVE.located)} {' '.join(ECHO)} --access-log {disk}/log"
    )
    command = [needs.tool("unshare"), "--mount", "sh", "-c", script]
    with Running(command, tmp_path) as server:
        server.wait_for("ready")
        port = server.port("tcp")
        root = Path(f"/proc/{server.process.pid}/root")
        rounds = 0
        while "No space left" not in server.output:
            assert visit(port, b"x") == b"x"
            rounds += 1
        (root / str(disk).lstrip("/") / "ballast").unlink()
        while "writing again" not in server.output:
            assert visit(port, b"x") == b"x"
            rounds += 1
        found = server.wait_for(r"writing again; (\d+) lines? (?:was|were) dropped")
        log = root / str(disk).lstrip("/") / "log"
        server.process.send_signal(signal.SIGUSR1)
        written = len(records(log))
        assert int(found[1]) > 0
        assert written + int(found[1]) <= rounds
        assert server.stop() == 0


def test_f100_a_folder_that_is_gone_does_not_keep_it_from_serving(tmp_path, serve):
    """Lines are dropped until the folder exists again."""
    folder = tmp_path / "logs"
    folder.mkdir()
    with serve(*ECHO, "--access-log", "logs/log") as server:
        port = server.port("tcp")
        shutil.rmtree(folder)
        assert visit(port, b"x") == b"x"
        server.wait_for(r"access log .*/logs/log: No such file or directory; dropped lines")
        folder.mkdir()
        assert visit(port, b"x") == b"x"
        server.wait_for(r"access log .*/logs/log: writing again; 1 line was dropped")
        assert server.stop() == 0
    assert [each["received"] for each in records(folder / "log")] == [1]


def test_f100_the_log_itself_may_be_a_pipe_that_is_closed(tmp_path):
    """When the reader of standard output is gone, the server keeps serving."""
    log = tmp_path / "access"
    command = located([*SERVE.command, *ECHO, "--access-log", "access"])
    pipe = subprocess.PIPE
    with killed_at_end(command, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True) as process:
        waiting = next(line for line in process.stdout if "Waiting for" in line)
        port = int(waiting.rpartition(" (")[0].rpartition(":")[2])
        process.stdout.close()
        for _ in range(20):
            assert visit(port, b"x") == b"x"
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT) == 0
    assert len(records(log)) == 20


def test_a_file_that_cannot_be_opened_is_one_line(tmp_path):
    """A start without a writable access log fails with one line."""
    done = finish([*SERVE.command, *ECHO, "--access-log", "no/such"], tmp_path)
    assert done.returncode == SERVE.misconfigured
    assert only_line(done) == "netsrv: access log no/such: No such file or directory"
