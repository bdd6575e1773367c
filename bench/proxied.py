"""Measure what a PROXY header costs: CPU time of a connection to ``echo`` with one message.

Usage: python -m bench.proxied [--connections N] [--rounds N]

Two servers take turns: one awaits a header of version 2 before the message, in the same segment,
and one does not.  Bytes come before the server accepts the connection, as from a proxy that sends
at once, or after it.
"""

import argparse
import signal
import socket
import time
from statistics import median

from bench.measure import cpu_seconds, machine
from bench.processes import serving
from netsrv.proxy_protocol import make_v2
from tests.process.running import Running
from tests.timeouts import TIMEOUT

HOST = "127.0.0.1"
MESSAGE = bytes(64)
HEADER = make_v2(("192.0.2.7", 56324), ("198.51.100.9", 7))
BATCH_SIZE = 50
"""Connections that are open at once."""

ACCEPT_TIME = 0.01
"""Seconds in which the server accepts these."""


def exchange(server: Running, port: int, first: bytes, count: int, before: bool) -> None:
    """Open connections, each of which sends *first*, reads the message, and closes.

    The server does not run until *first* is sent, if that comes before the accept.
    """
    for _ in range(count // BATCH_SIZE):
        if before:
            server.process.send_signal(signal.SIGSTOP)
        socks = [socket.create_connection((HOST, port), TIMEOUT) for _ in range(BATCH_SIZE)]
        if not before:
            time.sleep(ACCEPT_TIME)
        for sock in socks:
            sock.sendall(first)
        if before:
            server.process.send_signal(signal.SIGCONT)
        for sock in socks:
            with sock:
                assert sock.recv(len(MESSAGE)) == MESSAGE


def measure(count: int, rounds: int, before: bool) -> None:
    """Print the microseconds of CPU time of a connection without and with a header."""
    command = ["netsrv", "serve", "--tcp", f"echo={HOST}:0", "--log-rate", "0"]
    with serving(command) as plain, serving([*command, "--proxy-protocol", HOST]) as proxied:
        servers = {plain: MESSAGE, proxied: HEADER + MESSAGE}
        costs: dict[object, list[float]] = {server: [] for server in servers}
        for turn in range(rounds + 1):
            for server, first in servers.items():
                pid, port = server.process.pid, server.port("tcp")
                started = cpu_seconds(pid)
                exchange(server, port, first, count, before)
                if turn:  # the first one warms up
                    costs[server].append((cpu_seconds(pid) - started) / count * 1e6)
    print("  bytes that come before the accept" if before else "  bytes that come after it")
    for name, server in (("without a header", plain), ("PROXY, version 2", proxied)):
        figures = costs[server]
        shown = f"{median(figures):.1f} µs ({min(figures):.1f} to {max(figures):.1f})"
        ratio = median(figures) / median(costs[plain])
        print(f"    {name:20} {shown:30} {ratio:.2f}")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="bench.proxied", description=__doc__.partition("\n")[0])
    parser.add_argument("--connections", type=int, default=5000, help="of one turn; default 5,000")
    parser.add_argument("--rounds", type=int, default=9, help="default 9")
    options = parser.parse_args()
    print(machine())
    for before in (True, False):
        measure(options.connections, options.rounds, before)


if __name__ == "__main__":
    main()
