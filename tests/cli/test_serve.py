"""netsrv serve with bad input: one line with option and value."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from netsrv.cli import command
from netsrv.cli.printing import ExitStatus
from netsrv.cli.start import Start

Refused = Callable[..., str]


PORT = "a port is a number from 0 to 65535"
WHAT_A_PORT_IS = "has no port number; write PORT, HOST:PORT or [IPV6]:PORT"

ADDRESSES = {
    "65536": PORT,
    "99999999999999999999": PORT,
    "-1": WHAT_A_PORT_IS,
    "abc": WHAT_A_PORT_IS,
    "\N{ARABIC-INDIC DIGIT SEVEN}": WHAT_A_PORT_IS,
    ":7": "has no host before ':'",
    "::1:7": "an IPv6 address is written in brackets, as in [::1]:7",
    "[::1": "an IPv6 address is written in brackets, as in [::1]:7",
    "[127.0.0.1]:7": "only an IPv6 address is written in brackets",
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

EITHER = (ExitStatus.CONFIGURATION, ExitStatus.UNAVAILABLE)


@pytest.fixture
def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Refused:
    """Run a command that fails before it serves, and return the one line that it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "serve", Start.prepare)  # what serve() begins with

    def run(*options: str, statuses: tuple[ExitStatus, ...] = (ExitStatus.CONFIGURATION,)) -> str:
        assert command.main(["serve", *options]) in statuses
        shown = capsys.readouterr()
        assert shown.out == ""
        assert re.fullmatch("netsrv: .+\n", shown.err), shown.err
        assert list(tmp_path.iterdir()) == []
        assert shown.err[:-1].isprintable()
        return shown.err[:-1]

    return run


@pytest.mark.parametrize("address", ADDRESSES)
def test_f99_bad_address(address, refused):
    """A bad address is quoted, and the line has the form that it should have."""
    line = refused("--tcp", address)
    assert line.startswith(f"netsrv: --tcp {address!r}")
    assert ADDRESSES[address] in line


@pytest.mark.parametrize("option", OPTIONS)
def test_f99_bad_socket_option(option, refused):
    """An unknown socket option, or one with a bad value, is named."""
    line = refused("--tcp", "127.0.0.1:0", "--socket-option", option)
    assert option.partition("=")[0] in line
    assert OPTIONS[option] in line


@pytest.mark.parametrize("name", ["--backlog", "--log-rate"])
@pytest.mark.parametrize("number", NUMBERS)
def test_f99_bad_number(number, name, refused):
    """A value that is not a whole number in its range is quoted with the range."""
    line = refused("--tcp", "0", name, number)
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
def test_f99_the_same_listener_twice(options, refused):
    """Two listeners with one address are an error before any socket is opened."""
    line = refused(*options)
    assert line.startswith(f"netsrv: {options[-2]} ")
    assert "duplicate listener" in line


@pytest.mark.parametrize(
    "options",
    [
        ["--udp", "same"],
        ["--tcp", "same"],
    ],
    ids=" ".join,
)
def test_same_without_a_tcp_listener(options, refused):
    """``same`` without a TCP listener that it could follow is refused."""
    line = refused(*options)
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
def test_control_characters_are_escaped(options, refused):
    """No control character of the command line reaches the terminal."""
    assert refused(*options, statuses=EITHER).isprintable()


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
def test_f99_long_input(options, refused):
    """A value of any length gives one line without an error text of Python."""
    line = refused(*options, statuses=EITHER)
    assert "codec" not in line
    assert "UnicodeError" not in line
