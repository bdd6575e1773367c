"""Reports that cannot be printed, and starts from places that are gone."""

import os
import re
import signal
import subprocess

import pytest

import netsrv
from tests.clients import read_all, talk, tcp, unix
from tests.process import needs, thirdparty
from tests.process.running import Running
from tests.process.starts import SERVE, TWIST, TWISTD, finish, located
from tests.timeouts import TIMEOUT

pytestmark = pytest.mark.version_independent

PRINTS = {
    "list": ["--list-services"],
    "check": ["--tcp", "127.0.0.1:0", "--check"],
    "help": ["--help"],
    "version": ["--version"],
}

each_print = pytest.mark.parametrize("options", PRINTS.values(), ids=PRINTS)
each_command = pytest.mark.parametrize("start", [SERVE, TWISTD, TWIST], ids=str)

UMLAUTS = """
    class Greetings(Service):
        description = "Gr\\u00fc\\u00dfe \\u2013 an alle"
        def __init__(self):
            super().__init__("gruss")
            self.description = type(self).description
    greetings = Greetings()
"""


def printed_to(output: int, start, options, cwd) -> subprocess.CompletedProcess[str]:
    """Run a command whose standard output is *output*."""
    return subprocess.run(
        located([*start.command, *options]),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


@each_command
@each_print
def test_f146_a_reader_that_is_gone_is_no_error(options, start, tmp_path):
    """The command ends with status 0 and without a word, as if all had been read."""
    reader, writer = os.pipe()
    os.close(reader)
    done = printed_to(writer, start, options, tmp_path)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@each_command
@each_print
def test_f146_a_full_disk_is_one_line(options, start, tmp_path):
    """The command ends with status 74, or 1 under twistd, and one line."""
    full = os.open("/dev/full", os.O_WRONLY)
    done = printed_to(full, start, options, tmp_path)
    os.close(full)
    assert done.returncode == (74 if start is SERVE else 1)
    assert done.stderr == "netsrv: standard output: No space left on device\n"


@pytest.mark.parametrize("options", [["--help"], ["--version"]], ids=" ".join)
def test_f146_the_command_without_serve(options, tmp_path):
    """``netsrv --help`` and ``netsrv --version`` are held to the same."""
    full = os.open("/dev/full", os.O_WRONLY)
    done = printed_to(full, SERVE, options, tmp_path)
    os.close(full)
    command = subprocess.run(
        located(["netsrv", *options]), stdout=subprocess.PIPE, timeout=TIMEOUT, check=False
    )
    assert command.returncode == 0
    assert (done.returncode, done.stderr.count("\n")) == (74, 1)


@each_command
@pytest.mark.parametrize(
    ("encoding", "words"),
    [("ascii", r"Gr\xfc\xdfe \u2013 an alle"), ("latin-1", r"Grüße \u2013 an alle")],
)
def test_f146_an_output_without_the_characters(encoding, words, start, tmp_path):
    """What the output's encoding lacks is escaped."""
    thirdparty.services(tmp_path, UMLAUTS)
    env = {**os.environ, **thirdparty.on_path(tmp_path), "PYTHONIOENCODING": encoding}
    done = subprocess.run(
        located([*start.command, "--list-services"]),
        env=env,
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert words in done.stdout.decode(encoding)


@each_command
def test_f146_a_path_and_an_error_in_ascii(start, tmp_path):
    """--check of a path, and an error about a file, are printed with escapes."""
    folder = tmp_path / "ü"
    folder.mkdir()
    (folder / "bad ü.toml").write_text('[[listener]]\ntcp = "127.0.0.1:65536"\n')
    env = {"PYTHONIOENCODING": "ascii"}
    done = finish([*start.command, "--unix", f"{folder}/s", "--check"], tmp_path, env)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"unix {tmp_path}/\\xfc/s (accept)\n" in done.stdout
    done = finish([*start.command, "-c", f"{folder}/bad ü.toml", "--check"], tmp_path, env)
    assert done.returncode == start.misconfigured
    assert done.stderr.startswith(f"netsrv: {tmp_path}/\\xfc/bad \\xfc.toml: listener[0].tcp: ")


@pytest.mark.parametrize("start", [SERVE, TWISTD], ids=str)
def test_f146_the_log_in_ascii(start, tmp_path, serve):
    """A log line that the output's encoding lacks is escaped, and the rest follows."""
    server = serve("--unix", "echo=ü", "--tcp", "0", start=start, env={"PYTHONIOENCODING": "ascii"})
    server.wait_for(rf"connections on unix {re.escape(str(tmp_path))}/\\xfc \(echo\)$")
    server.port("tcp")
    assert server.stop() == start.drained


@pytest.mark.parametrize("options", [["--no-such-option"], ["--tcp", "0", "--backlog", "x"]])
def test_f146_an_error_that_cannot_be_printed(options, tmp_path):
    """The exit status is that of the error, although standard error is full."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            located([*SERVE.command, *options]), stderr=full, timeout=TIMEOUT, check=False
        )
    assert done.returncode == (64 if len(options) == 1 else 78)


# Places that are gone


def from_deleted(folder, command):
    """Return a command that runs *command* in a directory that has been deleted."""
    folder.mkdir()
    script = 'cd "$0" && rmdir "$0" && exec "$@"'
    return ["/bin/sh", "-c", script, str(folder), *located(command)]


@pytest.mark.parametrize("start", [SERVE, TWISTD, TWIST], ids=str)
@pytest.mark.parametrize(
    ("options", "place"),
    [
        (["-c", "n.toml"], "n.toml: No such file"),
        (["-c", "n.toml", "--check"], "n.toml: No such file"),
        (["--unix", "x.sock"], "unix x.sock: No such file"),
        (["--unix", "x.sock", "--check"], "unix x.sock: No such file"),
        (["--tcp", "127.0.0.1:0", "--access-log", "log"], "access log log: No such file"),
    ],
)
def test_f146_relative_paths_in_a_deleted_directory(options, place, start, tmp_path):
    """A relative path is one line with its place."""
    command = from_deleted(tmp_path / "gone", [*start.command, *options])
    done = finish(command, tmp_path)
    assert done.stderr == f"netsrv: {place} or directory\n"
    assert done.returncode in (start.misconfigured, start.unavailable)


@pytest.mark.parametrize("start", [SERVE, TWISTD], ids=str)
def test_f146_absolute_paths_in_a_deleted_directory(start, tmp_path):
    """Absolute paths work, at the start and at a reload."""
    file = tmp_path / "n.toml"
    file.write_text(f'[[listener]]\nservice = "echo"\nunix = "{tmp_path}/echo.sock"\n')
    command = from_deleted(tmp_path / "gone", [*start.command, "-c", str(file)])
    with Running(command, tmp_path) as server:
        server.wait_for("Waiting for connections on unix ")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("Reloaded: 1 listener as before")
        assert talk(unix(tmp_path / "echo.sock"), b"hello") == b"hello"
        assert server.stop() == start.drained


@pytest.mark.parametrize("start", [SERVE, TWISTD], ids=str)
def test_f146_a_machine_without_dev_null(start, tmp_path):
    """A server whose standard descriptors are open needs no /dev/null."""
    needs.root()
    script = f"mount -t tmpfs none /dev && exec {' '.join(start.located)} --tcp echo=127.0.0.1:0"
    with Running([needs.tool("unshare"), "--mount", "sh", "-c", script], tmp_path) as server:
        assert talk(tcp(server.port("tcp")), b"hello") == b"hello"
        assert server.stop() == start.drained


QUOTES = '[[listener]]\nservice = "qotd"\ntcp = "127.0.0.1:0"\nsettings = { file = "quotes" }\n'
SOCKET = '[[listener]]\nservice = "echo"\nunix = "echo.sock"\n'


@pytest.mark.parametrize("text", [QUOTES, SOCKET], ids=["setting", "socket"])
def test_f146_a_reload_resolves_paths_as_the_start_did(text, tmp_path):
    """With --rundir an unchanged file changes nothing, and new paths are in the same folder."""
    (tmp_path / "run").mkdir()
    (tmp_path / "quotes").write_text("One.\n")
    file = tmp_path / "n.toml"
    file.write_text(text)
    command = ["twistd", "-n", "--pidfile=", "--rundir=run", "netsrv", "-c", "n.toml"]
    with Running(command, tmp_path) as server:
        server.wait_for("Waiting for connections on ")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("Reloaded: 1 listener as before")
        added = '[[listener]]\nservice = "daytime"\nunix = "second.sock"\n'
        file.write_text(f'access_log = "access"\n{text}{added}')
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("Reloaded: 1 listener as before, 0 changed, 1 added")
        assert read_all(unix(tmp_path / "second.sock")) != b""
        assert (tmp_path / "access").exists()
        assert server.stop() == TWISTD.drained
    assert list((tmp_path / "run").iterdir()) == []


def test_f146_the_folder_of_the_start_is_gone_at_a_reload(tmp_path):
    """After --rundir a reload does not look for relative paths elsewhere: one line says so."""
    (tmp_path / "run").mkdir()
    home = tmp_path / "home"
    home.mkdir()
    (home / "quotes").write_text("One.\n")
    (home / "n.toml").write_text(QUOTES)
    command = ["twistd", "-n", "--pidfile=", f"--rundir={tmp_path}/run", "netsrv", "-c", "n.toml"]
    with Running(command, home) as server:
        port = server.port("tcp")
        (home / "quotes").unlink()
        (home / "n.toml").unlink()
        home.rmdir()
        server.process.send_signal(signal.SIGHUP)
        server.wait_for(f"{home}: No such file or directory")
        server.wait_for("Nothing is changed")
        assert read_all(tcp(port)) == b"One.\r\n"
        assert server.stop() == TWISTD.drained


def test_f146_the_version_is_printed_whole(tmp_path):
    """A report goes to a full pipe as soon as it is read."""
    done = finish([*SERVE.command, "--version"], tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith(f"netsrv {netsrv.__version__}\nPython ")
    assert done.stdout.endswith("\nreactor uvloop\n")
