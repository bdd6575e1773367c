"""Bad input on the command line: one line that names the option and the value."""

import re
from pathlib import Path

import pytest

from tests.process.starts import SERVE, Start, each_start, finish, only_line

PORT = "a port is a number from 0 to 65535"
WHAT_A_PORT_IS = "has no port number; write PORT, HOST:PORT or [IPV6]:PORT"

ADDRESSES = {
    "65536": PORT,
    "99999999999999999999": PORT,
    "-1": WHAT_A_PORT_IS,
    "abc": WHAT_A_PORT_IS,
    "\N{ARABIC-INDIC DIGIT SEVEN}": WHAT_A_PORT_IS,
    ":7": "has no host before ':'",
    "::1:7": "an IPv6 address stands in brackets, as in [::1]:7",
    "[::1": "an IPv6 address stands in brackets, as in [::1]:7",
    "[127.0.0.1]:7": "only an IPv6 address stands in brackets",
}

OPTIONS = {
    "SO_RCVBUF": "has no value; write NAME=VALUE",
    "SO_RCVBUF=abc": "the value is a whole number",
    "SO_RCVBUF=1.5": "the value is a whole number",
    "SO_RCVBUF=99999999999": "the value does not fit in 32 bits",
    "SO_LINGER=5:5": "takes 0:0 (off) or 1:0 (reset at close)",
    "SO_NO_SUCH=1": "is not a socket option that",
    "RCVBUF=1": "is not the name of a socket option",
    "IPV6_V6ONLY=1": "fits none of the sockets",
    "TCP_CONGESTION=no-such": "No such file or directory",
    "SO_BINDTODEVICE=no-such": "No such device",
    "SO_TYPE=1": "Protocol not available",
}

NUMBERS = ["x", "-1", "9" * 30]


def complaint(options: list[str], cwd: Path, start: Start = SERVE) -> str:
    """Give the one line of a start that fails for its configuration."""
    done = finish([*start.command, *options], cwd)
    assert done.returncode == start.misconfigured
    assert list(cwd.iterdir()) == []
    line = only_line(done)
    assert line.startswith("netsrv: ")
    assert line.isprintable()
    return line


@each_start
@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--tcp", "65536"], f"--tcp '65536': {PORT}"),
        (["--tcp", "nosuch=0"], "tcp 0.0.0.0:0: there is no service 'nosuch'; there are accept, "),
    ],
)
def test_each_command_is_as_brief(
    options: list[str], problem: str, start: Start, tmp_path: Path
) -> None:
    """Whatever the command, bad input is the same one line, with no usage and no traceback."""
    assert complaint(options, tmp_path, start).startswith(f"netsrv: {problem}")


@pytest.mark.parametrize("address", ADDRESSES)
def test_bad_address(address: str, tmp_path: Path) -> None:
    """An address that is none is quoted, and the line says what would be right."""
    line = complaint(["--tcp", address], tmp_path)
    assert line.startswith(f"netsrv: --tcp {address!r}")
    assert ADDRESSES[address] in line


@pytest.mark.parametrize("option", OPTIONS)
def test_bad_socket_option(option: str, tmp_path: Path) -> None:
    """A socket option that is none, or a value that it cannot have, is named."""
    line = complaint(["--tcp", "127.0.0.1:0", "--socket-option", option], tmp_path)
    assert option.partition("=")[0] in line
    assert OPTIONS[option] in line


@pytest.mark.parametrize("name", ["--backlog", "--log-rate"])
@pytest.mark.parametrize("number", NUMBERS)
def test_bad_number(number: str, name: str, tmp_path: Path) -> None:
    """What is not a whole number in its range is shown beside the range."""
    line = complaint(["--tcp", "0", name, number], tmp_path)
    assert re.match(rf"netsrv: {name} '?{re.escape(number)}'?: a whole number from 0 to \d+$", line)


@pytest.mark.parametrize(
    "options",
    [
        ["--tcp", "7000", "--tcp", "7000"],
        ["--tcp", "7000", "--tcp", "echo=7000"],
        ["--unix", "a.sock", "--unix", "echo=a.sock"],
        ["--tcp", "0", "--udp", "same", "--udp", "same"],
    ],
    ids=" ".join,
)
def test_the_same_listener_twice(options: list[str], tmp_path: Path) -> None:
    """Two listeners with one address are a mistake that is found before a socket is opened."""
    line = complaint(options, tmp_path)
    assert line.startswith(f"netsrv: {options[-2]} ")
    assert "twice" in line


@pytest.mark.parametrize(
    "options",
    [
        ["--udp", "same"],
        ["--tcp", "same"],
    ],
    ids=" ".join,
)
def test_same_as_what(options: list[str], tmp_path: Path) -> None:
    """``same`` without a TCP listener that it could follow is refused."""
    line = complaint(options, tmp_path)
    assert "'same' is the port of the first TCP listener" in line


@pytest.mark.parametrize(
    "options",
    [
        ["--tcp", "no\x1b[31mhost:7"],
        ["--tcp", "no\x1bservice=7"],
        ["--unix", "no\x1b[31msuch/path"],
        ["--tcp", "0", "--backlog", "a\nb"],
        ["--tcp", "0", "--log-rate", "\x1b[31m"],
        ["--tcp", "0", "--socket-option", "SO_RCVBUF=a\nb"],
        ["--tcp", "0", "--socket-option", "SO_LINGER=\x1b[31m"],
        ["--tcp", "0", "--socket-option", "TCP_CONGESTION=a\nb"],
        ["--tcp", "no\N{LINE SEPARATOR}host:7"],
        ["--tcp", "no\udcff:7"],
    ],
    ids=ascii,
)
def test_control_characters_are_escaped(options: list[str], tmp_path: Path) -> None:
    """Nothing on the command line breaks the one line or reaches the terminal raw."""
    done = finish([*SERVE.command, *options], tmp_path)
    assert done.returncode in (SERVE.misconfigured, SERVE.unavailable)
    assert only_line(done).isprintable()


@pytest.mark.parametrize(
    "options",
    [
        ["--tcp", f"{'h' * 100_000}:7"],
        ["--tcp", f"{'h.' * 40_000}:7"],
        ["--tcp", f"[{'1:' * 40_000}]:7"],
        ["--tcp", f"{'s' * 100_000}=7"],
        ["--unix", f"/tmp/{'p' * 100_000}"],
        ["--tcp", "0", "--backlog", "9" * 100_000],
        ["--tcp", "0", "--socket-option", f"SO_{'X' * 100_000}=1"],
        ["--tcp", "0", "--socket-option", f"SO_RCVBUF={'9' * 100_000}"],
    ],
    ids=[
        *("host", "labels", "ipv6", "service", "path"),
        *("backlog", "option", "number"),
    ],
)
def test_long_input(options: list[str], tmp_path: Path) -> None:
    """However long a value is, the answer is one line without a word of Python's."""
    done = finish([*SERVE.command, *options], tmp_path)
    assert done.returncode in (SERVE.misconfigured, SERVE.unavailable)
    line = only_line(done)
    assert "codec" not in line
    assert "UnicodeError" not in line
