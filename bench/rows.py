"""The rows of the comparison: work, contenders and goals."""

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.servers import RECEIVE_BUFFER

OURS = "netsrv"
UNLIMITED = "netsrv without limits"
PLAIN = "netsrv, DatagramProtocol"
STOCK = "Twisted on epoll"
ASYNCIO = "asyncio"
UVLOOP = "uvloop"
GEVENT = "gevent"
THREADS = "socketserver"
C = "C"
C_BATCH = "C, recvmmsg"
WEB_OURS = "twistd --reactor=uvloop web"
WEB_STOCK = "twistd --reactor=epoll web"
START_OURS = "netsrv serve"
START_TWISTD = "twistd netsrv"
START_EMPTY = "twistd, an empty service"

NETWORKS = [f"10.{number // 256}.{number % 256}.0/24" for number in range(1000)]

ALL_LIMITS = [
    *"--max-connections 10000 --per-source 10000 --connection-rate 10000000:10000000".split(),
    *"--idle-timeout 3600 --lifetime 3600 --write-timeout 600".split(),
    *"--datagram-rate 10000000:10000000 --refuse-source-ports 0-1023,2049".split(),
    *("--only-from", ",".join(["127.0.0.0/8", "192.0.2.0/24", *NETWORKS])),
    *("--no-access", "198.51.100.0/24,203.0.113.0/24,2001:db8::/32"),
]
"""Every limit; none is reached."""

NO_LIMITS = "--write-timeout none --datagram-rate none --refuse-source-ports none".split()

MODULES = {
    STOCK: ["stock"],
    ASYNCIO: ["loops", "asyncio"],
    UVLOOP: ["loops", "uvloop"],
    GEVENT: ["greenlets"],
    THREADS: ["threads"],
}
"""The programs in ``bench/servers``, by contender."""


@dataclass(frozen=True)
class Goal:
    """The bound of a contender's figure as a ratio to another's, or by itself if *against* is None.

    A goal to *chase* is not promised.  With *more* the ratio is at least *limit*.
    """

    of: str
    against: str | None
    limit: float
    chase: bool = False
    more: bool = False
    figure: str = "value"


@dataclass(frozen=True)
class Row:
    """One kind of work and its contenders.

    *words* are the load generator's arguments after the port: peers, bytes, messages in flight
    per peer, bytes of an answer. *service* is netsrv's, if it is not that of the work. *kind*
    is a key of ``bench.turns.KINDS``. *options* are for netsrv, and so is *log_rate*, None for
    its default; *afterwards* are the seconds in which it finishes work that it has deferred.
    Servers listen on *host*, by default on the address to which the load connects.
    """

    name: str
    title: str
    unit: str
    work: str
    mode: str
    words: tuple[int, ...]
    contenders: tuple[str, ...]
    goals: tuple[Goal, ...]
    kind: str = "load"
    more: bool = False
    digits: int = 2
    service: str | None = None
    options: tuple[str, ...] = ()
    log_rate: int | None = 0
    afterwards: float = 0.0
    host: str | None = None

    @property
    def datagrams(self) -> bool:
        """True if the work is UDP."""
        return self.work.startswith(("udp", "plain"))


def command(name: str, row: Row, host: str, folder: Path) -> list[str]:
    """Return the command of a contender; *folder* has the compiled programs and the logs."""
    if name == C:
        return [str(folder / "server"), "udp" if row.datagrams else row.work, host]
    if name == C_BATCH:
        return [str(folder / "server"), "udpbatch", host]
    if name in MODULES:
        module, *words = MODULES[name]
        work = "udp" if row.datagrams else row.work
        return [sys.executable, "-m", f"bench.servers.{module}", *words, work, host]
    return _netsrv(name, row, host, folder)


def _netsrv(name: str, row: Row, host: str, folder: Path) -> list[str]:
    service = row.service or {"udp": "echo", "plain": "bench-plain"}.get(row.work, row.work)
    service = "echo" if name == OURS and row.datagrams else service
    limits = NO_LIMITS if name == UNLIMITED else ALL_LIMITS
    listener = ["--udp" if row.datagrams else "--tcp", f"{service}={host}:0"]
    options = [
        option.format(log=folder / f"{row.name}-{name.replace(' ', '-')}.jsonl")
        for option in row.options
    ]
    rate = [] if row.log_rate is None else ["--log-rate", str(row.log_rate)]
    return ["netsrv", "serve", *listener, *rate, *limits, *options]


def absent(name: str) -> str | None:
    """Return the reason why a contender cannot take part, or None."""
    package = {UVLOOP: "uvloop", GEVENT: "gevent"}.get(name)
    if package and importlib.util.find_spec(package) is None:
        return f"{package} is not installed; the extra bench has it"
    return None


_EVERYONE = (OURS, UNLIMITED, STOCK, ASYNCIO, UVLOOP, GEVENT, THREADS, C)
_MANY = (OURS, STOCK, ASYNCIO, UVLOOP, GEVENT, C)
_LOG = ("--access-log", "{log}")
_BUFFER = ("--socket-option", f"SO_RCVBUF={RECEIVE_BUFFER}")
_ECHO = (Goal(OURS, UVLOOP, 1.08), Goal(OURS, UVLOOP, 1.04, chase=True))
_DATAGRAMS = (
    Goal(OURS, C, 1.2),
    Goal(OURS, UVLOOP, 0.7),
    Goal(OURS, STOCK, 0.5),
    Goal(OURS, C, 1.0, chase=True),
)
_STREAM = (Goal(OURS, C, 0.9, more=True), Goal(OURS, C, 0.97, chase=True, more=True))

ROWS: Sequence[Row] = (
    Row(
        "echo",
        "TCP echo, 50 connections, 64 bytes",
        "µs of CPU per round trip",
        "echo",
        "exchange",
        (50, 64, 1, 64),
        _EVERYONE,
        (
            Goal(OURS, UVLOOP, 1.08),
            Goal(OURS, STOCK, 0.4),
            Goal(OURS, UNLIMITED, 1.10),
            Goal(OURS, UVLOOP, 1.04, chase=True),
            Goal(OURS, C, 1.15, chase=True),
        ),
    ),
    Row(
        "echo-protocol",
        "TCP echo through an ordinary Protocol, 50 connections, 64 bytes",
        "µs of CPU per round trip",
        "echo",
        "exchange",
        (50, 64, 1, 64),
        (OURS, STOCK, UVLOOP, C),
        (Goal(OURS, UVLOOP, 1.25), Goal(OURS, UVLOOP, 1.15, chase=True)),
        service="bench-echo",
    ),
    Row(
        "echo-16k",
        "TCP echo, 50 connections, 16 KiB",
        "µs of CPU per round trip",
        "echo",
        "exchange",
        (50, 16384, 1, 16384),
        (*_MANY[:-1], THREADS, C),
        _ECHO,
    ),
    Row(
        "echo-1000",
        "TCP echo, 1,000 connections, 64 bytes",
        "µs of CPU per round trip",
        "echo",
        "exchange",
        (1000, 64, 1, 64),
        _MANY,
        _ECHO,
    ),
    Row(
        "echo-9000",
        "TCP echo, 9,000 connections, 64 bytes",
        "µs of CPU per round trip",
        "echo",
        "exchange",
        (9000, 64, 1, 64),
        _MANY,
        _ECHO,
    ),
    Row(
        "latency",
        "TCP echo at half load, 50 connections, 64 bytes",
        "µs from the planned time of a message to its answer, 99.9th percentile",
        "echo",
        "exchange",
        (50, 64, 1, 64),
        (OURS, UVLOOP),
        (Goal(OURS, UVLOOP, 1.25), Goal(OURS, UVLOOP, 1.1, chase=True)),
        kind="paced",
        digits=0,
    ),
    Row(
        "accept",
        "TCP connections accepted and closed, each in the access log",
        "µs of CPU per connection",
        "accept",
        "accept",
        (50, 1, 1, 1),
        _EVERYONE,
        (
            Goal(OURS, UVLOOP, 1.15),
            Goal(OURS, STOCK, 0.5),
            Goal(OURS, UNLIMITED, 1.15),
            Goal(OURS, C, 1.8),
            Goal(OURS, UVLOOP, 1.0, chase=True),
            Goal(OURS, C, 1.5, chase=True),
        ),
        options=_LOG,
        afterwards=1.1,  # the lines of the access log are written after a second
    ),
    Row(
        "accept-log",
        "TCP connections accepted and closed, with access log and log",
        "µs of CPU per connection",
        "accept",
        "accept",
        (50, 1, 1, 1),
        (OURS, STOCK, UVLOOP, C),
        (
            Goal(OURS, UVLOOP, 1.15),
            Goal(OURS, STOCK, 0.5),
            Goal(OURS, C, 1.8),
            Goal(OURS, UVLOOP, 1.0, chase=True),
        ),
        options=_LOG,
        log_rate=None,
        afterwards=1.1,
    ),
    Row(
        "daytime",
        "TCP connections that get a line and are closed, with access log and log",
        "µs of CPU per connection",
        "daytime",
        "accept",
        (50, 1, 1, 1),
        (OURS, STOCK, UVLOOP, C),
        (Goal(OURS, UVLOOP, 1.25), Goal(OURS, UVLOOP, 1.0, chase=True)),
        options=_LOG,
        log_rate=None,
        afterwards=1.1,
    ),
    Row(
        "udp",
        "UDP echo, 8 sockets with 32 in flight, 64 bytes",
        "µs of CPU per datagram",
        "udp",
        "datagrams",
        (8, 64, 32, 64),
        (*_EVERYONE, C_BATCH),
        _DATAGRAMS,
        options=_BUFFER,
    ),
    Row(
        "udp-any",
        "UDP echo on 0.0.0.0, 8 sockets with 32 in flight, 64 bytes",
        "µs of CPU per datagram",
        "udp",
        "datagrams",
        (8, 64, 32, 64),
        (OURS, STOCK, UVLOOP, C),
        (
            Goal(OURS, C, 1.25),
            Goal(OURS, STOCK, 0.45),
            Goal(OURS, C, 1.05, chase=True),
            Goal(OURS, STOCK, 0.4, chase=True),
        ),
        options=_BUFFER,
        host="0.0.0.0",
    ),
    Row(
        "udp-1400",
        "UDP echo, 8 sockets with 32 in flight, 1,400 bytes",
        "µs of CPU per datagram",
        "udp",
        "datagrams",
        (8, 1400, 32, 1400),
        (OURS, STOCK, ASYNCIO, UVLOOP, GEVENT, THREADS, C, C_BATCH),
        _DATAGRAMS,
        options=_BUFFER,
    ),
    Row(
        "udp-plain",
        "UDP echo through an ordinary DatagramProtocol, 8 sockets with 32 in flight, 64 bytes",
        "µs of CPU per datagram",
        "plain",
        "datagrams",
        (8, 64, 32, 64),
        (PLAIN, OURS, STOCK, UVLOOP, C),
        (Goal(PLAIN, STOCK, 0.7), Goal(PLAIN, UVLOOP, 0.9, chase=True)),
        options=_BUFFER,
    ),
    Row(
        "udp-one",
        "UDP echo, one datagram in flight, 64 bytes",
        "µs of CPU per datagram",
        "udp",
        "datagrams",
        (1, 64, 1, 64),
        (OURS, STOCK, ASYNCIO, UVLOOP, GEVENT, THREADS, C),
        (Goal(OURS, STOCK, 1.05), Goal(OURS, STOCK, 0.9, chase=True)),
        options=_BUFFER,
    ),
    Row(
        "chargen",
        "chargen, 4 streams",
        "MB per CPU second",
        "chargen",
        "read",
        (4, 1, 1, 1),
        (*_MANY[:-1], THREADS, C),
        _STREAM,
        more=True,
        digits=0,
    ),
    Row(
        "discard",
        "discard, 4 streams",
        "MB per CPU second",
        "discard",
        "write",
        (4, 1, 1, 1),
        (*_MANY[:-1], THREADS, C),
        _STREAM,
        more=True,
        digits=0,
    ),
    Row(
        "memory",
        "Memory per idle connection, 9,000 of them, each after one echo of 64 bytes",
        "KiB",
        "echo",
        "exchange",
        (9000, 64, 1, 64),
        _MANY,
        (Goal(OURS, None, 1.8), Goal(OURS, None, 1.5, chase=True)),
        kind="memory",
    ),
    Row(
        "web",
        "twistd web, a file of 1 KiB, 50 connections",
        "requests per CPU second",
        "web",
        "exchange",
        (50,),
        (WEB_OURS, WEB_STOCK),
        (
            Goal(WEB_OURS, WEB_STOCK, 1.0, more=True),
            Goal(WEB_OURS, WEB_STOCK, 1.5, chase=True, more=True),
        ),
        kind="web",
        more=True,
        digits=0,
    ),
    Row(
        "start",
        'From exec to "Waiting for connections"',
        "ms",
        "start",
        "",
        (),
        (START_OURS, START_TWISTD, START_EMPTY),
        (
            Goal(START_OURS, START_EMPTY, 1.3),
            Goal(START_TWISTD, START_EMPTY, 1.3),
            Goal(START_OURS, START_EMPTY, 1.3, figure="cpu"),
            Goal(START_OURS, START_EMPTY, 1.1, chase=True),
        ),
        kind="start",
        digits=0,
    ),
)
