"""Measure what a PROXY header costs: CPU time of a connection to ``echo`` with one message.

Usage: python -m bench.proxied [--connections N] [--rounds N]

Two servers take turns: one awaits a header of version 2 before the message, in the same segment,
and one does not.
"""

import argparse
import socket
from statistics import median

from bench.measure import cpu_seconds, machine
from bench.processes import serving
from netsrv.proxy_protocol import make_v2
from tests.timeouts import TIMEOUT

HOST = "127.0.0.1"
MESSAGE = bytes(64)
HEADER = make_v2(("192.0.2.7", 56324), ("198.51.100.9", 7))
BATCH_SIZE = 50
"""Connections that are open at once."""


def exchange(port: int, first: bytes, count: int) -> None:
    """Open connections, each of which sends *first*, reads the message, and closes."""
    for _ in range(count // BATCH_SIZE):
        socks = [socket.create_connection((HOST, port), TIMEOUT) for _ in range(BATCH_SIZE)]
        for sock in socks:
            sock.sendall(first)
        for sock in socks:
            with sock:
                assert sock.recv(len(MESSAGE)) == MESSAGE


def measure(count: int, rounds: int) -> None:
    """Print the microseconds of CPU time of a connection without and with a header."""
    command = ["netsrv", "serve", "--tcp", f"echo={HOST}:0", "--log-rate", "0"]
    with serving(command) as plain, serving([*command, "--proxy-protocol", HOST]) as proxied:
        servers = {plain: MESSAGE, proxied: HEADER + MESSAGE}
        costs: dict[object, list[float]] = {server: [] for server in servers}
        for turn in range(rounds + 1):
            for server, first in servers.items():
                pid, port = server.process.pid, server.port("tcp")
                before = cpu_seconds(pid)
                exchange(port, first, count)
                if turn:  # the first one warms up
                    costs[server].append((cpu_seconds(pid) - before) / count * 1e6)
    for name, server in (("without a header", plain), ("PROXY, version 2", proxied)):
        figures = costs[server]
        shown = f"{median(figures):.1f} µs ({min(figures):.1f} to {max(figures):.1f})"
        ratio = median(figures) / median(costs[plain])
        print(f"  {name:20} {shown:30} {ratio:.2f}")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="bench.proxied", description=__doc__.partition("\n")[0])
    parser.add_argument("--connections", type=int, default=5000, help="of one turn; default 5,000")
    parser.add_argument("--rounds", type=int, default=9, help="default 9")
    options = parser.parse_args()
    print(machine())
    measure(options.connections, options.rounds)


if __name__ == "__main__":
    main()
