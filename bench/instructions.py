"""Count the instructions that a server executes in user space for one operation.

Usage: python -m bench.instructions [--only WORK,...] [--ours] [--figures FILE] [--accept]

A count hardly depends on how busy the machine is, unlike a time.  Each server runs under
callgrind, which counts only after a warm-up.  The result is compared with the figures in FILE;
more than 5 % above them is a failure (status 1), and ``--accept`` replaces them.
"""

import argparse
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path

from bench.measure import versions
from bench.processes import COMPILER, PLUGINS, TOP, bound_to, cores
from bench.rows import OURS, ROWS, UVLOOP, Row, absent, command
from tests.process.running import Running, located
from tests.timeouts import TIMEOUT

FIGURES = TOP / "bench" / "instructions.json"
TOLERANCE = 0.05
TURNS = 3
"""The least count of these is the result: what disturbs a turn adds instructions."""
DOUBTFUL_TURNS = 20
"""Turns of a work that seems worse: on a busy machine, the load may disturb most of them."""

LOCALHOST = "127.0.0.1"
PROGRAMS = ("valgrind", "callgrind_control")
CALLGRIND = "valgrind --tool=callgrind --instr-atstart=no"

CONNECTIONS = 50
SOCKETS, WINDOW = 8, 32
MESSAGE = bytes(range(64))

_ROWS = {row.name: row for row in ROWS}
WORKS = {
    "echo": _ROWS["echo"],
    "echo-protocol": _ROWS["echo-protocol"],
    "accept": _ROWS["accept"],
    "accept-one": _ROWS["accept"],
    "daytime": _ROWS["daytime"],
    "udp": _ROWS["udp"],
    "udp-any": _ROWS["udp-any"],
}

Figures = dict[str, dict[str, int]]
"""Instructions per operation, by work and contender."""

Stopped = Callable[[], AbstractContextManager[None]]
"""Stops the server meanwhile, so that its batches do not depend on the scheduler."""

Round = Callable[..., int]
"""Runs some operations, which begin while the server is `Stopped`; returns their number."""


class Counted:
    """A server under callgrind; a context manager.  Raises AssertionError if it fails to start."""

    def __init__(self, name: str, row: Row, folder: Path, core: int) -> None:
        self._dumps = folder / f"{row.name}-{name}.out"
        program, *words = located(command(name, row, row.host or LOCALHOST, folder))
        python = [] if program == sys.executable else [sys.executable]
        environ = {"PYTHONPATH": f"{PLUGINS}:{TOP}", "PYTHONHASHSEED": "0"}
        callgrind = [*CALLGRIND.split(), f"--callgrind-out-file={self._dumps}"]
        callgrind[0] = str(shutil.which(callgrind[0]))
        self._server = Running(
            [*callgrind, *python, program, *words], TOP, environ, preexec_fn=bound_to(core)
        )
        self._count = 0

    def __enter__(self) -> "Counted":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.__exit__(*exc_info)

    def port(self, transport: str) -> int:
        """Wait for the listener, and return its port."""
        return self._server.port(transport)

    def begin(self) -> None:
        """Count from now on."""
        self._control("--instr=on")

    def count(self) -> int:
        """Return the instructions since `begin` or the last call."""
        self._control("--dump")
        self._count += 1
        dump = self._dumps.with_name(f"{self._dumps.name}.{self._count}").read_text()
        totals = [line for line in dump.splitlines() if line.startswith("totals:")]
        return int(totals[0].split()[1])

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the server meanwhile, so that a round is one batch to it."""
        self._server.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._server.process.send_signal(signal.SIGCONT)

    def _control(self, word: str) -> None:
        subprocess.run(
            ["callgrind_control", word, str(self._server.process.pid)],
            check=True,
            capture_output=True,
            timeout=TIMEOUT,
        )


@contextmanager
def exchanges(port: int) -> Iterator[Round]:
    """Yield a round of one message on each of `CONNECTIONS` connections."""
    with ExitStack() as stack:
        socks = [
            stack.enter_context(socket.create_connection((LOCALHOST, port), TIMEOUT))
            for _ in range(CONNECTIONS)
        ]

        def run(while_stopped: Stopped = nullcontext) -> int:
            with while_stopped():
                for sock in socks:
                    sock.sendall(MESSAGE)
            for sock in socks:
                size = 0
                while size < len(MESSAGE):
                    size += len(sock.recv(4096))
            return len(socks)

        yield run


@contextmanager
def connections(port: int, together: int = CONNECTIONS) -> Iterator[Round]:
    """Yield a round of so many connections, which the server closes."""

    def run(while_stopped: Stopped = nullcontext) -> int:
        address = LOCALHOST, port
        with while_stopped():
            socks = [socket.create_connection(address, TIMEOUT) for _ in range(together)]
        for sock in socks:
            with sock:
                while sock.recv(4096):
                    pass
        return together

    yield run


def one_connection(port: int) -> AbstractContextManager[Round]:
    """Yield a round of a connection that the server finds alone, as at half load."""
    return connections(port, 1)


@contextmanager
def datagrams(port: int) -> Iterator[Round]:
    """Yield a round of `WINDOW` datagrams on each of `SOCKETS` sockets."""
    with ExitStack() as stack:
        socks = [
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            for _ in range(SOCKETS)
        ]
        for sock in socks:
            sock.settimeout(TIMEOUT)
            sock.connect((LOCALHOST, port))

        def run(while_stopped: Stopped = nullcontext) -> int:
            with while_stopped():
                for _ in range(WINDOW):
                    for sock in socks:
                        sock.send(MESSAGE)
            for sock in socks:
                for _ in range(WINDOW):
                    sock.recv(4096)
            return SOCKETS * WINDOW

        yield run


LOADS = {
    "exchange": (exchanges, 20),
    "accept": (connections, 10),
    "accept-one": (one_connection, 200),
    "datagrams": (datagrams, 8),
}
"""For a work, or for the mode of its row: the load, and the rounds of a turn."""


def measure(name: str, work: str, folder: Path, core: int, turns: int) -> int:
    """Return the instructions of an operation: the least of some turns."""
    row = WORKS[work]
    load, rounds = LOADS.get(work) or LOADS[row.mode]
    results = []
    with (
        Counted(name, row, folder, core) as server,
        load(server.port("udp" if row.datagrams else "tcp")) as run,
    ):
        run()  # on connections that the server has accepted by then
        server.begin()
        for turn in range(turns + 1):
            operations = sum(run(server.stopped) for _ in range(rounds))
            instructions = server.count()
            if turn:  # the first one warms up
                results.append(instructions / operations)
    return round(min(results))


def measure_all(
    works: Iterable[str], names: Sequence[str] = (OURS, UVLOOP), turns: int = TURNS
) -> Figures:
    """Measure some works of one or two contenders, on a core each."""
    with tempfile.TemporaryDirectory(prefix="netsrv-bench-") as folder:

        def contender(name: str, core: int) -> dict[str, int]:
            if absent(name):
                return {}
            return {work: measure(name, work, Path(folder), core, turns) for work in works}

        with ThreadPoolExecutor() as both:
            results = dict(zip(names, both.map(contender, names, cores()), strict=True))
    return {
        work: {name: figures[work] for name, figures in results.items() if figures}
        for work in works
    }


def worse(figures: Figures, accepted: Figures) -> list[str]:
    """Return a line for each figure of netsrv that is too far above the accepted one."""
    lines = []
    for work, by_name in figures.items():
        before, now = accepted.get(work, {}).get(OURS), by_name[OURS]
        if before is not None and now > before * (1 + TOLERANCE):
            lines.append(
                f"{work}: {now:,} instructions, {now / before - 1:+.1%} of the accepted {before:,}"
            )
    return lines


def table(figures: Figures, accepted: Figures) -> str:
    """Return the figures as text, beside those that were accepted."""
    lines = [f"{'instructions per operation':28}{OURS:>12}{'accepted':>12}{UVLOOP:>12}{'ratio':>8}"]
    for work, by_name in figures.items():
        before, theirs = accepted.get(work, {}).get(OURS), by_name.get(UVLOOP)
        cells = [f"{by_name[OURS]:,}", f"{before:,}" if before else "-"]
        cells.append(f"{theirs:,}" if theirs else "-")
        ratio = f"{by_name[OURS] / theirs:.2f}" if theirs else "-"
        lines.append(f"{work:28}" + "".join(f"{cell:>12}" for cell in cells) + f"{ratio:>8}")
    return "\n".join(lines)


def environment() -> dict[str, str]:
    """Return the versions on which the counts depend."""
    numbers = versions(COMPILER)
    return {"python": sys.version.split()[0], "uvloop": numbers.get("uvloop", "none")}


def compare(figures: Figures, file: Path) -> int:
    """Print the figures beside the accepted ones; return the exit status.

    What seems worse is measured once more, since all that disturbs a count adds to it.
    """
    record = json.loads(file.read_text()) if file.exists() else {}
    same = record.get("environment") == environment()
    accepted: Figures = record.get("instructions", {}) if same else {}
    if doubtful := [line.partition(":")[0] for line in worse(figures, accepted)]:
        for work, by_name in measure_all(doubtful, [OURS], DOUBTFUL_TURNS).items():
            figures[work][OURS] = min(figures[work][OURS], by_name[OURS])
    print(table(figures, accepted))
    if not same:
        print(f"Not compared: the figures in {file} are of {record.get('environment')}")
        return 0
    lines = worse(figures, accepted)
    if not lines:
        return 0
    print(f"More than {TOLERANCE:.0%} worse than {file}:", *lines, sep="\n  ")
    words = f"--only {','.join(figures)} --accept"
    print(f"If that is the price of a change: python -m bench.instructions {words}")
    return 1


def accept(figures: Figures, file: Path) -> None:
    """Write the figures; those of other works and contenders stay if of the same versions."""
    record = json.loads(file.read_text()) if file.exists() else {}
    before = record.get("instructions", {}) if record.get("environment") == environment() else {}
    merged = before | {work: before.get(work, {}) | figures[work] for work in figures}
    ordered = {work: merged[work] for work in WORKS if work in merged}
    record = {"environment": environment(), "instructions": ordered}
    file.write_text(json.dumps(record, indent=2) + "\n")
    print(table(figures, before))


def main() -> int:
    """Measure, and compare or accept."""
    parser = argparse.ArgumentParser(
        prog="bench.instructions", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--only", metavar="WORK,...", help=f"of {', '.join(WORKS)}; default all")
    parser.add_argument("--ours", action="store_true", help=f"measure {OURS} alone: half the time")
    parser.add_argument("--figures", metavar="FILE", type=Path, default=FIGURES)
    parser.add_argument("--accept", action="store_true", help="replace the figures in FILE")
    options = parser.parse_args()
    works = options.only.split(",") if options.only else list(WORKS)
    if unknown := [work for work in works if work not in WORKS]:
        parser.error(f"--only {unknown[0]}: there is no such work; there are {', '.join(WORKS)}")
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        print(f"Not measured: {missing[0]} is not installed")
        return 0
    figures = measure_all(works, [OURS] if options.ours else (OURS, UVLOOP))
    if not options.accept:
        return compare(figures, options.figures)
    accept(figures, options.figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
