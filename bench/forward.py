"""Measure the service forward beside HAProxy, nginx and socat, and what faults cost.

Usage: python -m bench.forward [--rounds N] [--seconds S] [--only ROW,...]

All contenders of a row run at the same time, each before the same upstream, a server in C, and take
turns under the same load.  The servers run on one core, the load and the upstream on another.  A
figure is the CPU time of a contender alone; its ratio is that to the first other program, round by
round, with the 95 % interval of its median.
"""

import argparse
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.measure import busy_seconds, cpu_seconds, interval, machine, memory_bytes, ratios
from bench.processes import (
    TOP,
    Load,
    LoadError,
    bound_to,
    compile_programs,
    cores,
    raise_descriptors,
)
from bench.servers import RECEIVE_BUFFER
from tests.process.children import all_children
from tests.process.running import Running, free_port

HOST = "127.0.0.1"

HAPROXY = """
global
    nbthread 1
    maxconn 9000
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen forward
    bind {host}:{port}
    server upstream {upstream}
"""

NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 9000; }}
stream {{
    server {{
        listen {host}:{port}{udp};
        proxy_pass {upstream};
        proxy_timeout 1h;
    }}
}}
"""
DEBIAN_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"

FORWARD = """
log_rate = 0
[[listener]]
service = "forward"
{transport} = "{host}:{port}"
settings = {{ upstream = "{upstream}" }}
socket_options = {{ {options} }}
{faults}
"""

LATENCY = '[[listener.fault]]\ntype = "latency"\nlatency = 10\n'
NOOP = '[[listener.fault]]\ntype = "noop"\nstream = "both"\n'


@dataclass(frozen=True)
class Place:
    """Where a contender listens, and to whom it forwards; *folder* has its files."""

    folder: Path
    port: int
    upstream: str
    udp: bool

    def write(self, name: str, text: str, **values: str) -> str:
        """Write a configuration, and return its path."""
        path = self.folder / f"{name}-{self.port}"
        known = {"host": HOST, "port": self.port, "upstream": self.upstream}
        path.write_text(text.format(folder=self.folder, **known, **values))
        return str(path)


def netsrv(place: Place, faults: str = "") -> list[str]:
    """Return the command of netsrv."""
    transport = "udp" if place.udp else "tcp"
    options = f"SO_RCVBUF = {RECEIVE_BUFFER}" if place.udp else ""
    values = {"transport": transport, "faults": faults, "options": options}
    return ["netsrv", "serve", "--config", place.write("netsrv.toml", FORWARD, **values)]


def with_noop(place: Place) -> list[str]:
    """Return the command of netsrv with a fault that does nothing on each connection."""
    return netsrv(place, NOOP)


def haproxy(place: Place) -> list[str]:
    """Return the command of HAProxy in TCP mode."""
    return ["/usr/sbin/haproxy", "-db", "-f", place.write("haproxy.cfg", HAPROXY)]


def nginx(place: Place) -> list[str]:
    """Return the command of nginx with its module stream."""
    text = f"load_module {DEBIAN_MODULE};\n{NGINX}" if Path(DEBIAN_MODULE).exists() else NGINX
    path = place.write("nginx.conf", text, udp=" udp" if place.udp else "")
    return ["/usr/sbin/nginx", "-p", str(place.folder), "-c", path]


def socat(place: Place) -> list[str]:
    """Return the command of socat, which has a process for each client."""
    if place.udp:
        listen = f"UDP4-RECVFROM:{place.port},bind={HOST},fork"
        return ["/usr/bin/socat", listen, f"UDP4-SENDTO:{place.upstream}"]
    listen = f"TCP4-LISTEN:{place.port},bind={HOST},fork,reuseaddr,nodelay,backlog=1024"
    return ["/usr/bin/socat", listen, f"TCP4:{place.upstream},nodelay"]


def slow(place: Place) -> list[str]:
    """Return the command of netsrv with a latency of 10 ms."""
    return netsrv(place, LATENCY)


OURS, NOOP_FAULT, SLOW = "netsrv", "netsrv, a noop fault", "netsrv, 10 ms of latency"
CONTENDERS: dict[str, Callable[[Place], list[str]]] = {
    OURS: netsrv,
    NOOP_FAULT: with_noop,
    SLOW: slow,
    "HAProxy": haproxy,
    "nginx": nginx,
    "socat": socat,
}


@dataclass(frozen=True)
class Row:
    """One kind of load; *words* are the load generator's after the port."""

    name: str
    title: str
    words: tuple[int, ...]
    reference: str
    contenders: Sequence[str]
    udp: bool = False


ROWS = (
    Row(
        "streams",
        "50 connections, 64 bytes: µs of CPU per round trip",
        (50, 64, 1, 64),
        "HAProxy",
        (OURS, NOOP_FAULT, "HAProxy", "nginx", "socat"),
    ),
    Row(
        "streams-16k",
        "50 connections, 16 KiB: µs of CPU per round trip",
        (50, 16384, 1, 16384),
        "HAProxy",
        (OURS, "HAProxy", "nginx"),
    ),
    Row(
        "datagrams",
        "UDP, 8 clients with 8 in flight, 64 bytes: µs of CPU per round trip",
        (8, 64, 8, 64),
        "nginx",
        (OURS, "nginx"),
        udp=True,
    ),
    Row(
        "datagrams-one",
        "UDP, 10 clients with 1 in flight, 64 bytes: µs of CPU per round trip",
        (10, 64, 1, 64),
        "nginx",
        (OURS, "nginx", "socat"),
        udp=True,
    ),
)


class Contender:
    """A running contender, with the load connected to it."""

    def __init__(self, name: str, row: Row, folder: Path, upstream: str, stack: ExitStack) -> None:
        self.name = name
        self.figures: list[float] = []
        place = Place(folder, free_port(), upstream, row.udp)
        command = CONTENDERS[name](place)
        self.server = stack.enter_context(Running(command, TOP, preexec_fn=bound_to(cores()[0])))
        self.address = ["datagrams" if row.udp else "exchange", HOST, str(place.port)]
        words = [*self.address, *map(str, row.words)]
        self.load = stack.enter_context(self._connect(folder / "load", words))

    def _connect(self, program: Path, words: list[str]) -> Load:
        for attempt in range(50):
            try:
                load = Load(program, words)
                load.run(0)
                return load
            except LoadError:
                if attempt == 49 or self.server.process.poll() is not None:
                    raise LoadError(f"{self.name}: {self.server.output}") from None
                self._wait()
        raise AssertionError

    def _wait(self) -> None:
        with suppress(subprocess.TimeoutExpired):
            self.server.process.wait(0.1)

    def turn(self, seconds: float) -> None:
        """Put the contender under load."""
        before = self._cpu()
        try:
            done = self.load.run(seconds)
        except LoadError as error:
            raise LoadError(f"{self.name}: {error}") from None
        if not done["operations"]:
            raise LoadError(f"{self.name}: nothing came back")
        self.figures.append((self._cpu() - before) / done["operations"] * 1e6)

    def _cpu(self) -> float:
        """Return the CPU seconds of the process and of its children."""
        pids = [self.server.process.pid, *all_children(self.server.process.pid)]
        return sum(map(_cpu_of, pids)) if len(pids) < 100 else busy_seconds(pids[0])


def _cpu_of(pid: int) -> float:
    try:
        return cpu_seconds(pid)
    except OSError:
        return 0.0


@contextmanager
def upstream_of(folder: Path, udp: bool, core: int | None = None) -> Iterator[str]:
    """Run an echo server in C, by default beside the load, and yield its address."""
    core = cores()[1] if core is None else core
    command = [str(folder / "server"), "udp" if udp else "echo", HOST]
    with Running(command, TOP, preexec_fn=bound_to(core)) as server:
        yield f"{HOST}:{server.port('udp' if udp else 'tcp')}"


def measure(row: Row, folder: Path, rounds: int, seconds: float) -> Iterator[str]:
    """Measure a row, and yield its lines."""
    yield f"\n{row.name}: {row.title}"
    with ExitStack() as stack:
        upstream = stack.enter_context(upstream_of(folder, row.udp))
        contenders = []
        for name in row.contenders:
            if shutil.which(CONTENDERS[name](Place(folder, 1, upstream, row.udp))[0]) is None:
                yield f"  {name:<24} is not installed"
                continue
            contenders.append(Contender(name, row, folder, upstream, stack))
        for number in range(rounds + 1):
            turns = contenders[number % len(contenders) :] + contenders[: number % len(contenders)]
            for contender in turns:
                contender.turn(seconds)
        reference = next(one for one in contenders if one.name == row.reference)
        for contender in contenders:
            figures, base = contender.figures[1:], reference.figures[1:]
            low, high, _ = interval(ratios(figures, base))
            ratio = median(ratios(figures, base))
            yield (
                f"  {contender.name:<24} {median(figures):8.1f}  x {row.reference} "
                f"{ratio:.2f} ({low:.2f} to {high:.2f})"
            )


def memory(folder: Path, count: int = 2000) -> Iterator[str]:
    """Measure the memory of idle connections, each after one message."""
    yield f"\nmemory: KiB of an idle connection, {count} of them, each after one message"
    row = Row("memory", "", (count, 64, 1, 64), "HAProxy", (OURS, "HAProxy", "nginx"))
    for name in row.contenders:
        with ExitStack() as stack:
            upstream = stack.enter_context(upstream_of(folder, False))
            few = Row("", "", (1, 64, 1, 64), "", ())
            one = Contender(name, few, folder, upstream, stack)
            before = memory_bytes(one.server.process.pid)["rss"]
            many = [*one.address, *map(str, row.words)]
            stack.enter_context(Load(folder / "load", many)).run(0)
            used = memory_bytes(one.server.process.pid)["rss"] - before
            yield f"  {name:<24} {used / count / 1024:8.1f}"


def latency(folder: Path, seconds: float = 3.0, rate: float = 1000) -> Iterator[str]:
    """Measure the median time of messages that come at planned times, with a latency fault."""
    yield f"\nlatency: median µs from planned time to answer, {rate:.0f} messages a second"
    row = Row("latency", "", (50, 64, 1, 64), OURS, ())
    with ExitStack() as stack:
        core = cores()[0]  # the load does not sleep while it waits for a planned time
        upstream = stack.enter_context(upstream_of(folder, False, core))
        for name in (OURS, SLOW):
            done = Contender(name, row, folder, upstream, stack).load.run(seconds, rate)
            yield f"  {name:<24} {done['p50']:8.0f}"


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="bench.forward", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument(
        "--only", default=",".join([*(row.name for row in ROWS), "memory", "latency"])
    )
    options = parser.parse_args()
    raise_descriptors()
    print(machine())
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        problem = compile_programs(folder)
        if problem is not None:
            raise SystemExit(problem)
        for row in ROWS:
            if row.name in options.only.split(","):
                for line in measure(row, folder, options.rounds, options.seconds):
                    print(line, flush=True)
        for name, work in (("memory", memory), ("latency", latency)):
            if name in options.only.split(","):
                for line in work(folder):
                    print(line, flush=True)


if __name__ == "__main__":
    main()
