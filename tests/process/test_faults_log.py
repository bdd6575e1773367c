"""Faults of the log, and hostile input that peers try to log."""

import os
import re
import shutil
import socket
import time
from pathlib import Path

import pytest

from tests.clients import exchange, read_all, talk, tcp, udp, unix
from tests.process.running import Running
from tests.process.starts import SERVE
from tests.timeouts import TIMEOUT

pytestmark = pytest.mark.version_independent

NASTY = [b"\r\n", b"a\nb", b"\x1b[31mred", b"\0", "\u2028".encode(), b"\xff\xfe", b"x" * (1 << 20)]
"""Input that breaks a line, colours a terminal, or fills a disk."""

PEER = r"Got connection from (127\.0\.0\.1:\d+|unix pid \d+ uid \d+)"
DATA = r"Got data from 127\.0\.0\.1:\d+ \(\d+ bytes\)"


LISTENERS = ["--tcp", "echo=0", "--unix", "echo=echo.sock"]


def logging_to(place: Path) -> list[str]:
    """Return the command of a server that logs to *path*, a file of any kind."""
    return ["/bin/sh", "-c", f'exec "$@" >{place} 2>&1', "sh", *SERVE.located, *LISTENERS]


def still_serves(folder: Path) -> None:
    """Check that the server answers; its log may not tell its port."""
    wait_until_it_listens(folder / "echo.sock")
    for _ in range(3):
        assert talk(unix(folder / "echo.sock"), b"hello") == b"hello"


def wait_until_it_listens(path: Path) -> None:
    """Wait until a unix socket takes a connection: its file is there before, since bind(2)."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            unix(path).close()
        except (FileNotFoundError, ConnectionRefusedError):
            assert time.monotonic() < deadline
        else:
            return


def wait_until_written(path: Path, words: str) -> str:
    """Wait until a file contains *words*, and return its text."""
    deadline = time.monotonic() + TIMEOUT
    while not (path.exists() and words in path.read_text()):
        assert time.monotonic() < deadline
    return path.read_text()


def test_f100_a_full_disk_does_not_stop_it(tmp_path):
    """On a full disk the server keeps serving, and ends with status 0."""
    with Running(logging_to(Path("/dev/full")), tmp_path) as server:
        still_serves(tmp_path)
        assert server.stop() == 0


def test_f100_a_closed_pipe_does_not_stop_it(tmp_path):
    """Without a reader of its log the server keeps serving, and ends with status 0."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with Running(logging_to(pipe), tmp_path) as server:
        with pipe.open() as reading:
            while "Waiting for connections on unix" not in reading.readline():
                pass
        still_serves(tmp_path)
        assert server.stop() == 0


def test_f100_the_folder_of_the_log_may_go(tmp_path):
    """Under twistd the log's folder can be removed; the server keeps serving."""
    logs = tmp_path / "logs"
    logs.mkdir()
    command = ["twistd", "-n", "--pidfile=", f"--logfile={logs}/log", "netsrv", *LISTENERS]
    with Running(command, tmp_path) as server:
        wait_until_written(logs / "log", "Waiting for connections on unix")
        shutil.rmtree(logs)
        still_serves(tmp_path)
        server.stop()
        assert "Traceback" not in server.output


def test_f101_no_line_is_lost_or_doubled_when_the_log_rotates(tmp_path):
    """Of datagrams of distinct sizes, each size is in twistd's log files exactly once."""
    command = ["twistd", "-n", "--pidfile=", "--logfile=log", "netsrv", "--log-rate", "1000000"]
    sizes = range(1, 14_001)
    with Running([*command, "--udp", "127.0.0.1:0"], tmp_path) as server:
        log = wait_until_written(tmp_path / "log", "(echo)\n")
        with udp(int(re.findall(r"on udp \S+:(\d+) ", log)[0])) as client:
            for size in sizes:
                assert len(exchange(client, bytes(size))) == size
        server.stop()
    files = sorted(tmp_path.glob("log*"))
    assert len(files) > 1
    found = [int(each) for file in files for each in re.findall(r"\((\d+) byt", file.read_text())]
    assert sorted(found) == list(sizes)


def test_f102_nothing_of_what_peers_send_reaches_the_log(tmp_path, serve):
    """Whatever peers send, each is one short line of printable characters."""
    with serve("--tcp", "echo=0", "--udp", "0", "--unix", "echo=echo.sock") as server:
        server.wait_for("Waiting for connections on unix")
        before = len(server.lines)
        for number, data in enumerate(NASTY):
            assert talk(tcp(server.port("tcp")), data) == data
            with udp(server.port("udp")) as client:
                assert exchange(client, data[:60_000]) == data[:60_000]
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(TIMEOUT)
                sock.bind(f"{tmp_path}/\x1b[31m\n{number}\u2028")
                sock.connect(str(tmp_path / "echo.sock"))
                assert exchange(sock, b"hello") == b"hello"
        assert server.stop() == 0
    lines = server.lines[before:]
    about_peers = [
        line
        for line in lines
        if re.search(rf":\d\d ({PEER}|{DATA}) on (tcp|udp|unix) \S+ \(echo\)$", line)
    ]
    assert len(about_peers) == 3 * len(NASTY)
    assert all(line.isprintable() and len(line) < 200 for line in lines)
    assert "Traceback" not in server.output


def test_f103_refusals_do_not_fill_the_log(serve):
    """Thousands of rejected connections make one line, and a total each second."""
    refused = 5_000
    with serve("--tcp", "echo=0", "--no-access", "127.0.0.2") as server:
        port, began, before = server.port("tcp"), time.monotonic(), len(server.lines)
        for _ in range(refused):
            with socket.create_connection(("127.0.0.1", port), TIMEOUT, ("127.0.0.2", 0)) as sock:
                assert read_all(sock) == b""
        assert server.stop() == 0
        seconds = time.monotonic() - began
        lines = server.lines[before:]
    assert len([line for line in lines if "rejected 127.0.0.2:" in line]) == 1
    counted = sum(int(each) for each in re.findall(r"(\d+) rejected connection", server.output))
    assert counted == refused - 1
    assert len(lines) <= 10 + seconds
