"""The configuration file of a running server, and the errors of a bad one."""

import os
import re
import socket
import stat
from pathlib import Path
from textwrap import dedent

import pytest

from tests.clients import exchange, read_all, taken, talk, tcp, udp, unix
from tests.process import needs, thirdparty
from tests.process.running import Running
from tests.process.starts import SERVE, TWISTD, Start, each_start, finish, only_line

ECHO = """
[[listener]]
service = "echo"
tcp = "127.0.0.1:0"
"""


def write(folder: Path, text: str) -> Path:
    """Write the configuration file."""
    path = folder / "netsrv.toml"
    path.write_text(dedent(text))
    return path


def refused(start: Start, folder: Path, *options: str) -> list[str]:
    """Return the errors of a start with a bad configuration, without their prefix."""
    done = finish([*start.command, "-c", "netsrv.toml", *options], folder)
    assert done.returncode == start.misconfigured
    assert done.stdout == ""
    assert re.fullmatch("(netsrv: .+\n)+", done.stderr), done.stderr
    return [each.removeprefix("netsrv: ") for each in done.stderr.splitlines()]


# What a file asks for is served


@each_start
def test_each_transport_is_served(start, tmp_path, serve):
    """TCP, UDP and unix sockets are served, before the listeners of the command line."""
    write(
        tmp_path,
        """
        [[listener]]
        service = "echo"
        tcp = "127.0.0.1:0"
        [[listener]]
        udp = "127.0.0.1:same"
        [[listener]]
        service = "daytime"
        unix = "day.sock"
        mode = "0606"
        """,
    )
    server = serve("--tcp", "time=127.0.0.1:0", "-c", "netsrv.toml", start=start)
    port = server.port("tcp")
    assert server.port("udp") == port
    assert talk(tcp(port), b"hello") == b"hello"
    with udp(port) as client:
        assert exchange(client, b"hello") == b"hello"
    assert b"-UTC" in read_all(unix(tmp_path / "day.sock"))
    assert stat.S_IMODE((tmp_path / "day.sock").stat().st_mode) == 0o606
    assert len(read_all(tcp(server.port("tcp", 2)))) == 4
    server.stop()
    names = re.findall(r"Waiting for \w+ on (\w+) .* \((\w+)\)", server.output)
    assert names == [("tcp", "echo"), ("udp", "echo"), ("unix", "daytime"), ("tcp", "time")]
    assert "Traceback" not in server.output


def test_limits_are_of_the_listener_at_which_they_stand(tmp_path, serve):
    """Limits and access apply to their own listener, not to that of the command line."""
    write(
        tmp_path,
        f"""
        {ECHO}
        [listener.limits]
        max_connections = 1
        overload = "reset"
        [[listener]]
        tcp = "127.0.0.1:0"
        service = "echo"
        [listener.access]
        no_access = ["127.0.0.1"]
        """,
    )
    server = serve("-c", "netsrv.toml", "--tcp", "echo=0")
    limited, closed, free = (server.port("tcp", number) for number in (1, 2, 3))
    with tcp(limited) as first, tcp(free) as second, tcp(free) as third:
        assert exchange(first, b"hello") == b"hello"
        with pytest.raises(ConnectionResetError):
            tcp(limited).recv(1)
        server.wait_for(r"rejected 127\.0\.0\.1:\d+ \(--max-connections\)")
        assert read_all(tcp(closed)) == b""
        assert exchange(second, b"hello") == exchange(third, b"hello") == b"hello"
    assert server.stop() == 0


def test_limits_of_the_command_line_are_not_those_of_the_file(tmp_path, serve):
    """An option for limits does not apply to the file's listeners."""
    write(tmp_path, ECHO)
    options = ["--tcp", "echo=127.0.0.1:0", "--idle-timeout", "0.2"]
    server = serve("-c", "netsrv.toml", *options)
    with tcp(server.port("tcp", 1)) as of_file:
        assert read_all(tcp(server.port("tcp", 2))) == b""
        server.wait_for(r"closed 127\.0\.0\.1:\d+ \(--idle-timeout\)")
        assert exchange(of_file, b"hello") == b"hello"
    assert server.stop() == 0


@pytest.mark.parametrize(("options", "seconds"), [([], "40"), (["--shutdown-timeout", "30"], "30")])
def test_the_command_line_overrides_what_concerns_the_whole_server(
    options, seconds, tmp_path, serve
):
    """The shutdown timeout is the file's, unless an option overrides it."""
    write(tmp_path, f"shutdown_timeout = 40\n{ECHO}")
    server = serve("-c", "netsrv.toml", *options)
    with tcp(server.port("tcp")) as client:
        assert exchange(client, b"hello") == b"hello"
        server.process.terminate()
        server.wait_for(f"Draining: 1 connection, at most {seconds} s;")
    assert server.wait() == 0


def test_the_mode_of_a_socket_file_stays_when_root_is_given_up(tmp_path):
    """Under twistd --uid the socket file has the configured mode, and its server answers."""
    needs.root()
    tmp_path.chmod(0o755)
    write(tmp_path, '[[listener]]\nservice = "echo"\nunix = "echo.sock"\nmode = 0o640\n')
    twistd = [TWISTD.command[0], "--umask=077", "--uid=65534", "--gid=65534"]
    command = [*twistd, *TWISTD.command[1:], "-c", "netsrv.toml"]
    with Running(command, tmp_path) as server:
        server.wait_for("Waiting for connections on unix ")
        assert stat.S_IMODE((tmp_path / "echo.sock").stat().st_mode) == 0o640
        assert talk(unix(tmp_path / "echo.sock"), b"hello") == b"hello"


def test_a_third_partys_settings(tmp_path, serve):
    """A third-party service gets its settings from the file, checked by its own class."""
    body = """
    from attrs import field, frozen, validators

    @frozen
    class Words:
        word: str
        times: int = field(default=1, validator=validators.ge(1))

    class Saying(Service):
        settings = Words
        def stream(self, settings):
            class Say(Protocol):
                def connectionMade(self):
                    self.transport.write(settings.word.encode() * settings.times)
                    self.transport.loseConnection()
            return Factory.forProtocol(Say)

    say = Saying("say")
    """
    thirdparty.services(tmp_path, body)
    env = thirdparty.on_path(tmp_path)
    listener = "[[listener]]\nservice = 'say'\ntcp = '127.0.0.1:0'\n[listener.settings]\n"
    write(tmp_path, f"{listener}word = 'hey'\ntimes = 2\n")
    with serve("-c", "netsrv.toml", env=env) as server:
        assert read_all(tcp(server.port("tcp"))) == b"heyhey"
        assert server.stop() == 0
    write(tmp_path, f"{listener}times = 0\n")
    done = finish([*SERVE.command, "-c", "netsrv.toml"], tmp_path, env)
    assert only_line(done) == "netsrv: netsrv.toml: listener[0].settings.word: is missing"
    done = finish([*SERVE.command, "--tcp", "say=0"], tmp_path, env)
    assert done.returncode == SERVE.misconfigured
    assert "'say' needs the settings word: give --setting say.word=VALUE" in only_line(done)


def test_f107_quotes_of_a_file(tmp_path, serve):
    """F107: quotes are read from a file; a bad one prevents the start, a later one is logged."""
    write(tmp_path, ECHO.replace("echo", "qotd") + 'settings.file = "quotes"\n')
    [line] = refused(SERVE, tmp_path)
    place = f"netsrv.toml: listener[0].settings.file: {tmp_path}/quotes"
    assert line == f"{place}: No such file or directory"
    os.mkfifo(tmp_path / "quotes")
    assert refused(SERVE, tmp_path) == [f"{place}: is not a regular file"]
    (tmp_path / "quotes").unlink()
    (tmp_path / "quotes").write_text("to be\n")
    server = serve("-c", "netsrv.toml")
    port = server.port("tcp")
    assert read_all(tcp(port)) == b"to be\r\n"
    (tmp_path / "quotes").unlink()
    while "No such file" not in server.output:
        assert read_all(tcp(port)) == b"to be\r\n"
    server.wait_for(r"qotd: .*/quotes: No such file or directory; serving the previous quotes")
    assert server.stop() == 0


# Mistakes


@each_start
def test_f99_all_mistakes_are_named_and_nothing_is_started(start, tmp_path):
    """F99: each error is a line on standard error, and no socket is opened."""
    write(
        tmp_path,
        """
        [[listener]]
        unix = "echo.sock"
        servce = "echo"
        [[listener]]
        tcp = 65536
        limits.per_source = "a\\u001b[31mb"
        """,
    )
    assert refused(start, tmp_path, "--unix", "other.sock") == [
        "netsrv.toml: listener[0].servce: there is no such key; did you mean service?",
        "netsrv.toml: listener[1].tcp: '65536': a port is a number from 0 to 65535",
        r"netsrv.toml: listener[1].limits.per_source: 'a\x1b[31mb': a whole number from 1 to "
        "1000000000",
    ]
    assert [each.name for each in tmp_path.iterdir()] == ["netsrv.toml"]


def make_huge(path: Path) -> None:
    """Create a sparse file of 100 MiB."""
    with path.open("wb") as file:
        file.truncate(100 * 2**20)


FILES = {
    "missing": (lambda path: None, "No such file or directory"),
    "directory": (Path.mkdir, "is a directory, not a file"),
    "fifo": (os.mkfifo, "is not a regular file"),
    "binary": (lambda path: path.write_bytes(b"\x7fELF\x80"), "is not text in UTF-8: see the byte"),
    "huge": (make_huge, "is too long: a file of at most 1048576 bytes"),
    "empty": (Path.touch, "nothing to serve: it has no [[listener]], and there is no --tcp"),
    "syntax": (lambda path: path.write_text("a = 1\nb ="), "Invalid value (at "),
}


@pytest.mark.parametrize("kind", FILES)
def test_f99_a_file_that_is_none(kind, tmp_path):
    """F99: anything but a configuration file is reported in one line, without delay."""
    make, words = FILES[kind]
    make(tmp_path / "netsrv.toml")
    [line] = refused(SERVE, tmp_path)
    assert line.startswith(f"netsrv.toml: {words}")


def test_f99_an_unreadable_file(tmp_path):
    """F99: a file without read permission is reported in one line."""
    write(tmp_path, ECHO).chmod(0)
    done = finish([*needs.powerless(), *SERVE.located, "-c", "netsrv.toml"], tmp_path)
    assert only_line(done) == "netsrv: netsrv.toml: Permission denied"


def test_f99_an_empty_file_is_enough_beside_listeners(tmp_path, serve):
    """A file may have only settings of the server if the command line has a listener."""
    write(tmp_path, "log_rate = 0")
    server = serve("-c", "netsrv.toml", "--tcp", "echo=127.0.0.1:0")
    assert talk(tcp(server.port("tcp")), b"hello") == b"hello"
    assert server.stop() == 0
    assert "Got connection" not in server.output


def test_f99_a_listener_that_stands_in_both(tmp_path):
    """F99: an address in both the file and the command line is reported with both places."""
    write(tmp_path, "[[listener]]\ntcp = '127.0.0.1:9'\n")
    [line] = refused(SERVE, tmp_path, "--tcp", "127.0.0.1:9")
    assert line == "--tcp 127.0.0.1:9: duplicate listener, first in netsrv.toml: listener[0]"


def test_an_address_in_use(tmp_path):
    """A file's address in use has the status and the line of one on the command line."""
    with taken(("127.0.0.1", 0), socket.SOCK_STREAM) as port:
        write(tmp_path, f"[[listener]]\ntcp = '127.0.0.1:{port}'\n")
        done = finish([*SERVE.command, "--config", "netsrv.toml"], tmp_path)
    assert done.returncode == SERVE.unavailable
    assert only_line(done) == f"netsrv: tcp 127.0.0.1:{port}: Address already in use"


# --check


@pytest.mark.parametrize("start", [SERVE, TWISTD], ids=str)
def test_check_checks_the_file(start, tmp_path):
    """--check opens the file's sockets and prints their options, or its errors."""
    write(tmp_path, ECHO + "socket_options = { IP_TOS = 16 }\n")
    done = finish([*start.command, "-c", "netsrv.toml", "--check"], tmp_path)
    assert done.returncode == 0
    assert re.search(r"^tcp 127\.0\.0\.1:\d+ \(echo\)$", done.stdout, re.MULTILINE)
    assert re.search(r"^  IP_TOS +16 +16$", done.stdout, re.MULTILINE)
    write(tmp_path, ECHO + "socket_options = { IP_TOS = 16, IPV6_V6ONLY = 1 }\n")
    assert refused(start, tmp_path, "--check") == [
        "netsrv.toml: listener[0].socket_options.IPV6_V6ONLY: fits none of the sockets that are "
        "asked for"
    ]
    write(tmp_path, ECHO + "bcklog = 5\n")
    assert refused(start, tmp_path, "--check") == [
        "netsrv.toml: listener[0].bcklog: there is no such key; did you mean backlog?"
    ]


def test_only_a_start_that_needs_them_imports_tomllib_and_cattrs(tmp_path):
    """tomllib is imported with -c only, and cattrs only if a service has settings."""
    env = {"PYTHONPROFILEIMPORTTIME": "1"}
    options = ["--tcp", "127.0.0.1:0", "--check"]
    done = finish([*SERVE.command, *options], tmp_path, env)
    assert not re.search(r"cattrs|tomllib", done.stderr)
    write(tmp_path, ECHO)
    done = finish([*SERVE.command, *options, "-c", "netsrv.toml"], tmp_path, env)
    assert re.search(r"tomllib", done.stderr)
    assert not re.search(r"cattrs", done.stderr)
    write(tmp_path, ECHO.replace("echo", "qotd"))
    done = finish([*SERVE.command, *options, "-c", "netsrv.toml"], tmp_path, env)
    assert re.search(r"cattrs", done.stderr)
