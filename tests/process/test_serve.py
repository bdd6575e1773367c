"""The command ``netsrv serve``: its log, its exit statuses, and its output."""

import json
import platform
import re
import signal
import socket
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

import netsrv
from tests.clients import exchange, taken, talk, tcp, udp
from tests.process.starts import SERVE, finish, only_line

BUILT_IN = "accept agent chargen daytime discard echo forward info qotd time".split()


def run_serve(cwd: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run ``netsrv serve`` to its end."""
    return finish([*SERVE.command, *options], cwd)


# Serving


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_status_0(number, serve):
    """After SIGTERM or SIGINT a server without connections has exit status 0."""
    server = serve("--tcp", "echo=0", "--udp", "same")
    assert talk(tcp(server.port("tcp")), b"hello") == b"hello"
    with udp(server.port("udp")) as client:
        assert exchange(client, b"hello") == b"hello"
    assert server.stop(number) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_may_come_as_soon_as_it_waits(number, tmp_path, serve):
    """A signal that follows the line of the last listener ends the server with status 0."""
    path = tmp_path / "echo.sock"
    server = serve("--unix", f"echo={path}")
    server.wait_for("Waiting for connections on unix ")
    assert server.stop(number) == 0
    assert not path.exists()


def test_logs_on_standard_output(tmp_path, serve):
    """The log is on standard output, with time and listener, and standard error is empty."""
    options = ["--tcp", "accept=127.0.0.1:0", "--udp", "echo=127.0.0.1:same"]
    with (
        (tmp_path / "errors").open("w") as errors,
        serve(*options, stderr=errors) as server,
    ):
        port = server.port("tcp")
        server.wait_for(
            rf"^\S+[+-]\d\d:\d\d Waiting for connections on tcp 127\.0\.0\.1:{port} \(accept\)$"
        )
        server.wait_for(
            rf"^\S+[+-]\d\d:\d\d Waiting for datagrams on udp 127\.0\.0\.1:{port} \(echo\)$"
        )
        assert talk(tcp(port), b"") == b""
        peer, listener = r"127\.0\.0\.1:\d+", rf"tcp 127\.0\.0\.1:{port} \(accept\)"
        server.wait_for(rf"[+-]\d\d:\d\d Got connection from {peer} on {listener}$")
        assert server.stop() == 0
    assert (tmp_path / "errors").read_text() == ""
    assert [each.name for each in tmp_path.iterdir()] == ["errors"]


def test_every_line_of_the_log_is_json(serve):
    """Those of Twisted and of the end of a connection are objects too."""
    server = serve("--tcp", "echo=0", "--log-format", "json", "--log-level", "debug")
    assert talk(tcp(server.port("tcp")), b"hello") == b"hello"
    server.wait_for("Closed 127")
    assert server.stop() == 0
    records = [json.loads(line) for line in server.lines]
    [closed] = [record for record in records if record["level"] == "debug"]
    assert (closed["reason"], closed["received"], closed["sent"]) == ("peer", 5, 5)
    assert records[-1]["message"] == "Received SIGTERM, shutting down."


# Exit statuses of a start that fails


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ([], "nothing to serve"),
        (["--no-such-option"], "there is no option --no-such-option"),
        (["--tcp"], "--tcp needs an argument: [SERVICE=]ADDRESS"),
        (["--tcp", "0", "surplus"], "'surplus' belongs to no option"),
    ],
)
def test_wrong_usage_shows_the_right_one(options, problem, tmp_path):
    """A usage error has status 64, and prints what is wrong, and where the options are listed."""
    done = run_serve(tmp_path, *options)
    assert done.returncode == 64
    assert done.stdout == ""
    error, hint = done.stderr.splitlines()
    assert error.startswith(f"netsrv: {problem}")
    assert hint == "netsrv serve --help shows all options"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [([], "a command is missing"), (["swerve"], "there is no command 'swerve'")],
)
@pytest.mark.parametrize("command", [["netsrv"], ["python", "-m", "netsrv"]], ids=" ".join)
def test_the_command_itself_is_needed(command, arguments, problem, tmp_path):
    """Without ``serve``, or with another word, the status is 64 and the error names it."""
    done = finish([*command, *arguments], tmp_path)
    assert done.returncode == 64
    error, hint = done.stderr.splitlines()
    assert error.startswith(f"netsrv: {problem}")
    assert " serve" in error
    assert hint == "netsrv --help shows all options"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--tcp", "192.0.2.1:0"], "tcp 192.0.2.1:0: Cannot assign requested address"),
        (["--tcp", "no-such-host.invalid:7"], "tcp no-such-host.invalid:7: "),
        (["--unix", "no/such/directory"], "unix no/such/directory: No such file or directory"),
    ],
)
def test_an_unavailable_address(options, problem, tmp_path):
    """An address that the machine does not have, or that does not resolve, has status 69."""
    done = run_serve(tmp_path, *options)
    assert done.returncode == 69
    assert only_line(done).startswith(f"netsrv: {problem}")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--tcp", "nosuch=0"], "tcp 0.0.0.0:0: there is no service 'nosuch'; there are accept, "),
        (
            ["--udp", "accept=0"],
            "udp 0.0.0.0:0: 'accept' is not served on UDP; there are chargen, ",
        ),
        (["--tcp", "0", "--backlog", "many"], "--backlog 'many': a whole number from 0 to "),
    ],
)
def test_a_bad_configuration(options, problem, tmp_path):
    """An unknown service or an invalid value has status 78."""
    done = run_serve(tmp_path, *options)
    assert done.returncode == 78
    assert only_line(done).startswith(f"netsrv: {problem}")


# What it prints


@pytest.mark.parametrize("command", [["netsrv"], ["netsrv", "serve"]], ids=" ".join)
def test_version(command, tmp_path):
    """The version of netsrv is the first line; others have those below it; status 0."""
    done = finish([*command, "--version"], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    first, *others = done.stdout.splitlines()
    assert first == f"netsrv {netsrv.__version__}"
    assert others == [
        f"Python {platform.python_version()}",
        f"Twisted {version('twisted')}",
        f"uvloop {version('uvloop')}",
        "reactor uvloop",
    ]


def test_help(tmp_path):
    """The help is on standard output, begins with the command, and has examples; status 0."""
    done = run_serve(tmp_path, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: netsrv serve [options]\n")
    assert "\nExamples:\n" in done.stdout


def test_list_services(tmp_path):
    """Each service that comes with netsrv is one line: name, transports, description."""
    done = run_serve(tmp_path, "--list-services")
    assert (done.returncode, done.stderr) == (0, "")
    found = [
        re.fullmatch(r"(\w+) +(tcp udp|tcp) +(\S.*\S)", line) for line in done.stdout.splitlines()
    ]
    services = {match[1]: match[2] for match in found if match}
    assert list(services) == BUILT_IN
    streams_only = {name for name, transports in services.items() if transports == "tcp"}
    assert streams_only == {"accept", "agent"}


# --check


def table(output: str, place: str) -> dict[str, tuple[str, str]]:
    """Return the options of the listener whose line begins with *place*: requested, in effect."""
    after = re.split(rf"^{place}.*\n", output, flags=re.MULTILINE)
    assert len(after) == 2, output
    rows = re.match(r"(  note: .*\n)?  option +asked for +in effect\n((  .*\n)*)", after[1])
    assert rows, output
    return {name: (asked, effect) for name, asked, effect in map(str.split, rows[2].splitlines())}


def test_check_shows_what_the_kernel_made_of_it(tmp_path):
    """--check prints each option as requested and as in effect: doubled buffers, a cut backlog."""
    longest = int(Path("/proc/sys/net/core/somaxconn").read_text())
    buffer = ["--socket-option", "SO_RCVBUF=10000"]
    options = [*buffer, "--backlog", str(longest + 1), "--udp", "same", "--tcp", "127.0.0.1:0"]
    done = run_serve(tmp_path, "--check", *options)
    assert (done.returncode, done.stderr) == (0, "")
    stream = table(done.stdout, r"tcp 127\.0\.0\.1:\d+ \(accept\)")
    assert stream["SO_RCVBUF"] == ("10000", "20000")
    assert stream["backlog"] == (str(longest + 1), str(longest))
    assert stream["SO_REUSEADDR"] == stream["TCP_NODELAY"] == ("1", "1")
    datagrams = table(done.stdout, r"udp 0\.0\.0\.0:\d+ \(echo\)")
    assert datagrams == {"SO_RCVBUF": ("10000", "20000"), "SO_REUSEADDR": ("0", "0")}


def test_check_takes_the_address_in_effect(tmp_path):
    """--check prints the port that the kernel chose, the same for TCP and UDP if requested."""
    done = run_serve(tmp_path, "--check", "--tcp", "0", "--udp", "same")
    ports = re.findall(r"^(?:tcp|udp) 0\.0\.0\.0:(\d+) \(", done.stdout, re.MULTILINE)
    assert len(ports) == 2
    assert len(set(ports) - {"0"}) == 1


@pytest.mark.parametrize(
    ("transport", "kind"), [("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)]
)
def test_check_beside_the_running_server(transport, kind, tmp_path):
    """--check notes an address in use, prints the options, and has status 0."""
    with taken(("127.0.0.1", 0), kind) as port:
        options = [f"--{transport}", f"echo=127.0.0.1:{port}", "--socket-option", "SO_RCVBUF=9000"]
        done = run_serve(tmp_path, "--check", *options)
    assert (done.returncode, done.stderr) == (0, "")
    place = f"{transport} 127.0.0.1:{port}"
    assert f"  note: {place}: Address already in use\n" in done.stdout
    assert table(done.stdout, rf"{place} \(echo\)")["SO_RCVBUF"] == ("9000", "18000")


def test_check_leaves_no_socket_file(tmp_path):
    """--check of a unix socket removes its file."""
    done = run_serve(tmp_path, "--check", "--unix", "echo=echo.sock")
    assert (done.returncode, done.stderr) == (0, "")
    assert table(done.stdout, rf"unix {tmp_path}/echo\.sock \(echo\)")["backlog"][0] == "1024"
    assert list(tmp_path.iterdir()) == []


def test_check_leaves_a_live_socket_alone(tmp_path):
    """--check notes a unix socket in use, and its server keeps serving."""
    path = tmp_path / "live.sock"
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(str(path))
        live.listen()
        done = run_serve(tmp_path, "--check", "--unix", str(path))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert f"  note: unix {path}: Address already in use: a server listens there\n" in done.stdout


@pytest.mark.parametrize(
    ("options", "status", "problem"),
    [
        (["--tcp", "192.0.2.1:0"], 69, "tcp 192.0.2.1:0: Cannot assign requested address"),
        (["--tcp", "nosuch=0"], 78, "tcp 0.0.0.0:0: there is no service 'nosuch'"),
        (["--udp", "0", "--socket-option", "TCP_NODELAY=1"], 78, "--socket-option TCP_NODELAY: "),
    ],
)
def test_check_finds_what_a_start_would_find(options, status, problem, tmp_path):
    """--check reports what a start would, in one line with the same status."""
    done = run_serve(tmp_path, "--check", *options)
    assert done.returncode == status
    assert done.stderr.startswith(f"netsrv: {problem}")
    assert done.stderr.count("\n") == 1
