"""Clocks that jump, and other locales and time zones."""

import calendar
import re
import socket
import time
from pathlib import Path

import pytest

from tests.clients import exchange, talk, tcp, udp
from tests.process import needs, thirdparty
from tests.process.running import Running
from tests.process.starts import TWISTD

pytestmark = pytest.mark.version_independent

DAY = 86_400
SINCE_1900 = 2_208_988_800

REACTORS = ["epoll", "asyncio"]


class Clock:
    """The wall clock of a server."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "offset"
        self.environ = needs.faketime(self.file)
        self.offset = 0

    def jump(self, seconds: int) -> None:
        """Change the clock by *seconds*."""
        self.offset += seconds
        new = self.file.with_suffix(".new")
        new.write_text(f"{self.offset:+}")
        new.replace(self.file)

    def told_right(self, line: bytes, number: bytes) -> bool:
        """Return whether these answers of daytime and time are what the clock shows."""
        real = time.time()
        shown = calendar.timegm(time.strptime(line.decode(), "%A, %B %d, %Y %H:%M:%S-UTC\r\n"))
        since_1900 = int.from_bytes(number, "big") - SINCE_1900
        return all(-30 < told - self.offset - real < 30 for told in (shown, since_1900))


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    """A clock that shows the right time."""
    return Clock(tmp_path)


def serving(clock: Clock, reactor: str, *options: str) -> Running:
    """Start a server with this clock."""
    command = [TWISTD.command[0], f"--reactor={reactor}", *TWISTD.command[1:]]
    return Running([*command, *options], clock.file.parent, clock.environ)


def stays_open(sock: socket.socket, seconds: float) -> bool:
    """Return whether *seconds* pass without data or an end, and echo then still answers."""
    sock.settimeout(seconds)
    with pytest.raises(TimeoutError):
        sock.recv(1)
    return exchange(sock, b"hello") == b"hello"


@pytest.mark.parametrize("jump", [DAY, -DAY], ids=["forward", "back"])
@pytest.mark.parametrize("reactor", REACTORS)
def test_f104_daytime_and_time_follow_a_clock_that_jumps(reactor, jump, clock):
    """After a jump of a day, daytime and time return the new time, on TCP and UDP."""
    listeners = "--tcp daytime=0 --tcp time=0 --udp daytime=0 --udp time=0".split()
    with serving(clock, reactor, *listeners) as server:
        ports = [server.port("tcp", 1), server.port("tcp", 2)]
        assert clock.told_right(*(talk(tcp(port), b"") for port in ports))
        clock.jump(jump)
        assert clock.told_right(*(talk(tcp(port), b"") for port in ports))
        with udp(server.port("udp", 1)) as daytime, udp(server.port("udp", 2)) as seconds:
            assert clock.told_right(exchange(daytime, b"?" * 20), exchange(seconds, b"?"))


@pytest.mark.parametrize("jump", [DAY, -DAY], ids=["forward", "back"])
@pytest.mark.parametrize("reactor", REACTORS)
def test_f104_no_time_limit_comes_early(reactor, jump, clock):
    """A jump of the wall clock counts neither as idle time nor lifetime, and adds no tokens."""
    limits = "--idle-timeout 3600 --lifetime 3600 --connection-rate 0.0001:2".split()
    with serving(clock, reactor, "--tcp", "echo=127.0.0.1:0", *limits) as server:
        port = server.port("tcp")
        with tcp(port) as first, tcp(port) as second:
            assert [exchange(each, b"hello") for each in (first, second)] == [b"hello"] * 2
            clock.jump(jump)
            with tcp(port) as third:  # there is no token for it
                third.send(b"hello")
                assert stays_open(first, 1.5)  # a timer that follows the wall clock fires early
                third.setblocking(False)
                with pytest.raises(BlockingIOError):
                    third.recv(1)
            assert stays_open(second, 0.1)


def test_f104_limits_go_on_after_a_jump_forward(clock):
    """After a jump forward a connection still ends at its idle timeout, on the monotonic clock."""
    options = ["--tcp", "echo=0", "--idle-timeout", "1"]
    with serving(clock, "epoll", *options) as server, tcp(server.port("tcp")) as client:
        assert exchange(client, b"hello") == b"hello"
        began = time.monotonic()
        clock.jump(DAY)
        assert client.recv(1) == b""
        assert time.monotonic() - began > 0.9


ODD_PLACES = [
    {"TZ": "Asia/Kathmandu", "LC_ALL": "ne_NP.UTF-8"},
    {"TZ": "XYZ-23:59:59", "LC_ALL": "tr_TR.ISO-8859-9", "LANG": "tr_TR"},
    {"TZ": "no/such/zone", "LC_ALL": "no_such.LOCALE", "LANGUAGE": "\x1b[31m"},
    {"TZ": "", "LC_ALL": ""},
]


@pytest.mark.parametrize("place", ODD_PLACES, ids=lambda place: place["TZ"] or "none")
def test_f106_daytime_is_one_line_of_ascii_anywhere(place, tmp_path, serve):
    """The line does not depend on the locale or the time zone."""
    thirdparty.module(tmp_path, "acme_locale", SET_LOCALE)
    env = {**thirdparty.on_path(tmp_path), **place}
    server = serve("--tcp", "daytime=0", start=TWISTD, env=env)
    number = server.port("tcp")
    line = talk(tcp(number), b"").decode("ascii")
    assert re.fullmatch(r"[A-Z][a-z]+day, [A-Z][a-z]+ \d+, \d{4} \d\d:\d\d:\d\d-UTC\r\n", line)
    shown = calendar.timegm(time.strptime(line, "%A, %B %d, %Y %H:%M:%S-UTC\r\n"))
    assert abs(shown - time.time()) < 30


SET_LOCALE = """
import contextlib
import locale

with contextlib.suppress(locale.Error):
    locale.setlocale(locale.LC_ALL, "")
"""
"""A plugin that has the process follow the locale of its environment."""
