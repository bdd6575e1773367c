"""Independent clients, rdate, ncat and socat, against the running server."""

import calendar
import json
import re
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.process import needs
from tests.process.running import Running, killed_at_end
from tests.process.starts import SERVE
from tests.timeouts import TIMEOUT

pytestmark = pytest.mark.version_independent

SERVICES = "time echo daytime qotd discard chargen info".split()

MEBIBYTE = bytes(range(256)) * 4096

LONGEST_DATAGRAM = 65_507


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One server with every service on TCP and UDP, and echo on a unix socket."""
    streams = [f"--tcp={name}=127.0.0.1:0" for name in SERVICES]
    datagrams = [f"--udp={name}=127.0.0.1:0" for name in SERVICES]
    command = [*SERVE.command, *streams, *datagrams, "--unix", "echo=echo.sock"]
    cwd = tmp_path_factory.mktemp("clients")
    with Running(command, cwd) as running:
        running.wait_for("Waiting for connections on unix ")
        yield running


def port(server: Running, transport: str, service: str) -> str:
    """Return the port of a service, as an argument."""
    return server.wait_for(rf"Waiting for \w+ on {transport} \S+:(\d+) \({service}\)$")[1]


def ask(*command: str, data: bytes = b"") -> bytes:
    """Run a client that sends *data* and ends, and return its output."""
    done = subprocess.run(command, input=data, capture_output=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ask_for(size: int, *command: str, data: bytes) -> bytes:
    """Run an endless client that sends *data*, until it has printed *size* bytes."""
    with killed_at_end(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        client.stdin.write(data)
        client.stdin.flush()
        return client.stdout.read(size)


# rdate: the time, RFC 868


@pytest.mark.parametrize(("transport", "option"), [("tcp", "-4"), ("udp", "-u")])
def test_rdate(transport, option, server):
    """Rdate prints the current time, over TCP and over UDP."""
    rdate = needs.tool("rdate")
    before = int(time.time())
    command = [rdate, "-p", option, "-o", port(server, transport, "time"), "127.0.0.1"]
    printed = ask("env", "TZ=UTC", "LC_ALL=C", *command).decode("ascii")
    shown = time.strptime(printed.strip(), "%a %b %d %H:%M:%S UTC %Y")
    assert before <= calendar.timegm(shown) <= time.time()


# Streams


def clients(server: Running, service: str) -> dict[str, list[str]]:
    """Return the commands that connect to a service over TCP."""
    number = port(server, "tcp", service)
    return {
        "ncat": ["ncat", "127.0.0.1", number],
        "socat": ["socat", "-t", str(TIMEOUT), "-", f"TCP:127.0.0.1:{number}"],
    }


each_client = pytest.mark.parametrize("client", ["ncat", "socat"])


@each_client
@pytest.mark.parametrize("data", [b"", b"hello\n", MEBIBYTE], ids=len)
def test_echo(data, client, server):
    """Everything that a client sends comes back, and then the connection ends."""
    needs.tool(client)
    assert ask(*clients(server, "echo")[client], data=data) == data


@each_client
@pytest.mark.parametrize("data", [b"", b"hello\n"], ids=["silent", "talking"])
def test_daytime(data, client, server):
    """A client gets one line with the time and the end, even if it has sent data."""
    needs.tool(client)
    line = ask(*clients(server, "daytime")[client], data=data)
    day, date, year = line.decode("ascii").split(", ")
    assert line.endswith(b"-UTC\r\n")
    assert day.endswith("day")
    assert re.fullmatch(r"[A-Z][a-z]+ \d+", date)
    assert re.fullmatch(r"\d{4} \d\d:\d\d:\d\d-UTC\r\n", year)


@each_client
def test_qotd(client, server):
    """A client gets one quote of fewer than 512 characters and ends."""
    needs.tool(client)
    quote = ask(*clients(server, "qotd")[client])
    assert 2 < len(quote) < 512
    assert quote.endswith(b"\r\n")
    assert quote[:-2].decode("ascii").isprintable()


@each_client
def test_discard(client, server):
    """A client that sends a mebibyte gets nothing, and ends when it has sent all."""
    needs.tool(client)
    assert ask(*clients(server, "discard")[client], data=MEBIBYTE) == b""


@each_client
def test_chargen(client, server):
    """A client gets the lines of the RFC's example for as long as it reads."""
    needs.tool(client)
    printable = bytes(range(32, 127)) * 2
    lines = [printable[i % 95 : i % 95 + 72] + b"\r\n" for i in range(1000)]
    expected = b"".join(lines)
    printed = ask_for(len(expected), *clients(server, "chargen")[client], data=b"")
    assert printed == expected


@each_client
def test_info(client, server):
    """A client gets one line of JSON with its own address, and the end."""
    needs.tool(client)
    line = ask(*clients(server, "info")[client])
    assert line.count(b"\n") == 1
    told = json.loads(line)
    assert told["local"] == f"127.0.0.1:{port(server, 'tcp', 'info')}"
    assert told["family"] == "AF_INET"
    assert told["options"]["TCP_NODELAY"] == 1
    assert told["tcp_info"]["rtt"] > 0
    server.wait_for(rf"Got connection from {re.escape(told['peer'])} on tcp \S+ \(info\)$")


# Unix sockets


def test_socat_on_a_unix_socket(server):
    """Socat gets its echo from a unix socket."""
    needs.tool("socat")
    path = server.wait_for(r"Waiting for connections on unix (\S+) \(echo\)$")[1]
    command = ["socat", "-t", str(TIMEOUT), "-", f"UNIX-CONNECT:{path}"]
    assert ask(*command, data=MEBIBYTE) == MEBIBYTE


def test_ncat_on_a_unix_socket(server):
    """Ncat gets its echo from a unix socket."""
    needs.tool("ncat")
    path = server.wait_for(r"Waiting for connections on unix (\S+) \(echo\)$")[1]
    assert ask("ncat", "--unixsock", path, data=b"hello\n") == b"hello\n"


# Datagrams


def datagram_client(server: Running, client: str, service: str) -> list[str]:
    """Return the command that exchanges datagrams with a service."""
    number = port(server, "udp", service)
    return {
        "ncat": ["ncat", "--udp", "127.0.0.1", number],
        "socat": ["socat", "-b", str(LONGEST_DATAGRAM), "-", f"UDP:127.0.0.1:{number}"],
    }[client]


@each_client
def test_datagram_echo(client, server):
    """A client gets its datagram back."""
    needs.tool(client)
    command = datagram_client(server, client, "echo")
    assert ask_for(6, *command, data=b"hello\n") == b"hello\n"


def test_longest_datagram(server):
    """Socat gets the longest IPv4 datagram back in one piece."""
    needs.tool("socat")
    data = MEBIBYTE[:LONGEST_DATAGRAM]
    command = datagram_client(server, "socat", "echo")
    assert ask_for(LONGEST_DATAGRAM, *command, data=data) == data
    server.wait_for(rf"Got data from \S+ \({LONGEST_DATAGRAM} bytes\) on udp \S+ \(echo\)$")


@each_client
def test_datagram_daytime(client, server):
    """A datagram of one byte is answered with the time."""
    needs.tool(client)
    command = datagram_client(server, client, "daytime")
    assert re.fullmatch(rb"[A-Z][a-z]+day, [A-Z].*", ask_for(20, *command, data=b"?"))


@each_client
def test_datagram_info(client, server):
    """A datagram that is long enough is answered with one line of JSON with its size."""
    needs.tool(client)
    told = ask_for(40, *datagram_client(server, client, "info"), data=b"x" * 200)
    assert told.startswith(b'{"peer": "127.0.0.1:')
