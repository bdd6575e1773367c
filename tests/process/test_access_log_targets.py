"""The access log on standard output and error, under each of their names."""

import os
import re
import signal
import socket
import subprocess

import pytest

from tests.clients import visit
from tests.process.running import Running, killed_at_end, still_runs
from tests.process.starts import SERVE, TWIST, TWISTD, finish, located, only_line
from tests.timeouts import TIMEOUT

pytestmark = pytest.mark.version_independent

NAMES = ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/dev/../dev/stdout"]
ROUNDS = 50


def visited(file, path, options, cwd, errors=subprocess.DEVNULL) -> str:
    """Serve with the log in *file* until it has all lines, and return its text."""
    command = located([*SERVE.command, "--tcp", "echo=127.0.0.1:0", *options])
    with killed_at_end(command, cwd=cwd, stdout=file, stderr=errors) as process:
        while not (found := re.search(r"on tcp 127\.0\.0\.1:(\d+) ", path.read_text())):
            assert still_runs(process)
        for number in range(1, ROUNDS + 1):
            assert visit(int(found[1]), b"x") == b"x"
            while number == ROUNDS // 2 and '"ended"' not in path.read_text():
                assert still_runs(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT) == 0
    return path.read_text()


@pytest.mark.parametrize("name", NAMES)
def test_f148_standard_output_has_many_names(name, tmp_path):
    """In one file, no line of the log and of the access log is overwritten or torn."""
    path = tmp_path / "log"
    with path.open("w") as file:
        lines = visited(file, path, ["--access-log", name], tmp_path).splitlines()
    assert len([line for line in lines if re.fullmatch(r'\{"time":.*"ended":"peer"\}', line)]) == (
        ROUNDS
    )
    got = [
        line
        for line in lines
        if re.search(r"[+-]\d\d:\d\d Got connection from 127\.0\.0\.1:\d+$", line)
    ]
    assert len(got) == ROUNDS


def test_f148_standard_error(tmp_path):
    """/dev/stderr is the open descriptor too: it may share a file with standard output."""
    path = tmp_path / "log"
    with path.open("w") as file:
        text = visited(file, path, ["--access-log", "/dev/stderr"], tmp_path, errors=file)
    assert text.count('"ended":"peer"}\n') == ROUNDS
    assert len(re.findall(r"[+-]\d\d:\d\d Got connection from \S+\n", text)) == ROUNDS


@pytest.mark.parametrize("name", NAMES)
def test_f148_standard_output_is_a_socket(name, tmp_path):
    """A socket, as journald hands over, takes the access log under each name."""
    ours, theirs = socket.socketpair()
    ours.settimeout(TIMEOUT)
    command = located([*SERVE.command, "--tcp", "echo=127.0.0.1:0", "--access-log", name])
    with ours, ours.makefile() as lines, killed_at_end(command, stdout=theirs) as process:
        theirs.close()
        waiting = next(line for line in lines if "Waiting for" in line)
        assert visit(int(re.search(r":(\d+) \(echo\)", waiting)[1]), b"x") == b"x"
        assert any('"ended":"peer"}' in line for line in lines)
        process.terminate()
        assert process.wait(TIMEOUT) == 0


@pytest.mark.parametrize("name", [*NAMES, "/dev/stderr", "/proc/self/fd/2"])
@pytest.mark.parametrize("in_file", [False, True], ids=["option", "file"])
def test_f148_a_daemon_does_not_hold_its_callers_output(name, in_file, tmp_path):
    """A daemon is refused an access log on standard output, with one line."""
    (tmp_path / "n.toml").write_text(f'access_log = "{name}"\n')
    options = ["-c", "n.toml"] if in_file else ["--access-log", name]
    done = finish(["twistd", "--pidfile=pid", "netsrv", "--unix", "s", *options], tmp_path)
    assert done.returncode == 1
    expected = "a daemon has no standard output; name a file, or start twistd with -n"
    assert only_line(done) == f"netsrv: access log {name}: {expected}"
    assert not (tmp_path / "s").exists()


def test_f148_a_daemon_that_reloads(tmp_path):
    """A reload is refused the same, and changes nothing; the start has left no output open."""
    file = tmp_path / "n.toml"
    file.write_text('[[listener]]\nunix = "s"\n')
    done = finish(["twistd", "--pidfile=pid", "--logfile=log", "netsrv", "-c", "n.toml"], tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    pid = int((tmp_path / "pid").read_text())
    try:
        file.write_text('access_log = "/dev/stdout"\n[[listener]]\nunix = "s"\n')
        os.kill(pid, signal.SIGHUP)
        with Running(["/usr/bin/tail", "-F", "-n", "+1", str(tmp_path / "log")], tmp_path) as log:
            log.wait_for("access log /dev/stdout: a daemon has no standard output")
            log.wait_for("Nothing is changed")
    finally:
        os.kill(pid, signal.SIGTERM)


@pytest.mark.parametrize("start", [TWISTD, TWIST], ids=str)
def test_f148_in_the_foreground_it_is_allowed(start, tmp_path, serve):
    """twistd -n and twist write the access log to standard output."""
    server = serve("--tcp", "echo=127.0.0.1:0", "--access-log", "/dev/stdout", start=start)
    assert visit(server.port("tcp"), b"x") == b"x"
    server.wait_for(r'^\{"time":.*"ended":"peer"\}$')
    assert server.stop() == start.drained
