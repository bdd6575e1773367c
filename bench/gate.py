"""The price of the gate: processor time of a server without limits, with all, and without netsrv.

Usage: python -m bench.gate [--rounds N] [--times N] [--host ADDRESS]

Three servers run side by side.  Each round puts the same work on each of them, beginning
with another one each time.  Only the servers' own processor time is counted.
"""

import argparse
import socket
import sys
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

from bench.measure import cpu_seconds, machine, ratios, spread
from tests.process.running import PATIENCE, Running

TOP = Path(__file__).resolve().parent.parent

PEERS = 16
"""Sockets that are busy at the same time."""

MESSAGE = bytes(64)

QUIET = ["--log-rate", "0"]
"""A line of the log costs more than all that is measured here."""

NO_LIMITS = "--write-timeout none --datagram-rate none --refuse-source-ports none".split()

NETWORKS = [f"10.{number // 256}.{number % 256}.0/24" for number in range(1000)]

ALL_LIMITS = [
    *"--max-connections 10000 --per-source 10000 --connection-rate 10000000:10000000".split(),
    *"--idle-timeout 3600 --lifetime 3600 --write-timeout 60".split(),
    *"--datagram-rate 10000000:10000000 --refuse-source-ports 0-1023,2049".split(),
    *("--only-from", ",".join(["127.0.0.0/8", "192.0.2.0/24", *NETWORKS])),
    *("--no-access", "198.51.100.0/24,203.0.113.0/24,2001:db8::/32"),
]

PLAIN, LIMITED, BARE = "no limits", "all limits", "bare Twisted"


def commands(host: str) -> dict[str, list[str]]:
    """Give the commands of the servers: accept, echo, and echo on UDP."""
    listeners = ["--tcp", f"{host}:0", "--tcp", f"echo={host}:0", "--udp", f"{host}:0"]
    netsrv = ["netsrv", "serve", *listeners, *QUIET]
    return {
        PLAIN: [*netsrv, *NO_LIMITS],
        LIMITED: [*netsrv, *ALL_LIMITS],
        BARE: [sys.executable, "-m", "bench.bare", host],
    }


class Accepts:
    """Connections, from the first to the last packet; *server* has the listener first."""

    transport, listener = "tcp", 1

    def __init__(self, host: str, server: Running) -> None:
        self.address = (host, server.port(self.transport, self.listener))
        self.pid = server.process.pid

    def microseconds(self, times: int) -> float:
        """Have it done so many times; give the server's processor time for one."""
        turns = max(1, times // PEERS)
        before = cpu_seconds(self.pid)
        for _ in range(turns):
            self.turn()
        return (cpu_seconds(self.pid) - before) / (turns * PEERS) * 1e6

    def turn(self) -> None:
        """Have it done by `PEERS` sockets at the same time."""
        socks = [socket.create_connection(self.address, PATIENCE) for _ in range(PEERS)]
        for sock in socks:
            with sock:
                assert sock.recv(1) == b""

    def close(self) -> None:
        """Leave the server alone."""


class Messages(Accepts):
    """Messages on connections that are there, each sent back."""

    listener = 2
    kind = socket.SOCK_STREAM

    def __init__(self, host: str, server: Running) -> None:
        super().__init__(host, server)
        self.socks = [socket.socket(socket.AF_INET, self.kind) for _ in range(PEERS)]
        for sock in self.socks:
            sock.settimeout(PATIENCE)
            sock.connect(self.address)
        self.turn()  # so that all are accepted before it counts

    def turn(self) -> None:
        for sock in self.socks:
            sock.send(MESSAGE)
        for sock in self.socks:
            assert sock.recv(len(MESSAGE)) == MESSAGE

    def close(self) -> None:
        for sock in self.socks:
            sock.close()


class Datagrams(Messages):
    """Datagrams, each sent back."""

    transport, listener = "udp", 1
    kind = socket.SOCK_DGRAM


WORKS = {
    "TCP message echoed": (Messages, 1.0, 1.10),
    "TCP connection accepted and closed": (Accepts, 0.25, 1.15),
    "UDP datagram echoed": (Datagrams, 1.0, None),
}
"""What is measured: how, how much of ``--times`` of it, and the goal of limited to plain."""


def measure(
    kind: type[Accepts], host: str, rounds: int, times: int, running: dict[str, Running]
) -> dict[str, list[float]]:
    """Have each server do the same work in each round; give microseconds, by server."""
    measured: dict[str, list[float]] = defaultdict(list)
    works = {name: kind(host, server) for name, server in running.items()}
    names = list(works)
    for number in range(rounds):
        for turn in range(len(names)):
            name = names[(number + turn) % len(names)]
            measured[name].append(works[name].microseconds(times))
    for work in works.values():
        work.close()
    return measured


def report(title: str, measured: dict[str, list[float]], goal: float | None) -> None:
    """Print the time of each server, and how they compare."""
    print(f"\n{title}: processor time of the server in microseconds")
    print(f"  {'':26} {'median (quartiles)':20} fastest round")
    for name, numbers in measured.items():
        print(f"  {name:26} {spread(numbers, 1):20} {min(numbers):.1f}")
    for one, other, wanted in ((LIMITED, PLAIN, goal), (PLAIN, BARE, None)):
        rounds = ratios(measured[one], measured[other])
        fastest = min(measured[one]) / min(measured[other])
        target = "" if wanted is None else f"   goal: at most {wanted:.2f}"
        print(f"  {f'{one} / {other}':26} {spread(rounds):20} {fastest:.2f}{target}")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="bench.gate", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=25, help="how often each server has a turn")
    parser.add_argument("--times", type=int, default=6000, help="messages in a turn")
    parser.add_argument("--host", default="127.0.0.1", help="an address of this machine")
    options = parser.parse_args()
    print(machine())
    with ExitStack() as stack:
        running = {
            name: stack.enter_context(Running(command, TOP))
            for name, command in commands(options.host).items()
        }
        for title, (kind, share, goal) in WORKS.items():
            times = max(PEERS, int(options.times * share))
            report(title, measure(kind, options.host, options.rounds, times, running), goal)


if __name__ == "__main__":
    main()
