"""Measure what idle connections cost: CPU time, the longest turn of the loop, and memory.

Usage: python -m bench.idle [--connections N] [--seconds S] [--rounds N] [-- OPTIONS]

Idle connections are made to ``echo``, each of which has exchanged a message.  *OPTIONS* are those
of ``netsrv serve``, such as ``--idle-timeout 30``.
"""

import argparse
import socket
import time
from contextlib import ExitStack
from statistics import median

from bench.measure import cpu_seconds, machine, memory_bytes
from bench.processes import raise_descriptors, serving
from tests.timeouts import TIMEOUT

HOST = "127.0.0.1"

SPARE_DESCRIPTORS = 128
"""Descriptors that client and server need besides the connections; netsrv keeps 64 of them."""

MESSAGE = b"hello"


def connect(port: int, count: int) -> list[socket.socket]:
    """Return connections to ``echo``, each of which has exchanged a message."""
    connections = []
    for _ in range(count):
        sock = socket.create_connection((HOST, port), TIMEOUT)
        sock.sendall(MESSAGE)
        assert sock.recv(len(MESSAGE)) == MESSAGE
        connections.append(sock)
    return connections


def longest_turn(port: int, seconds: float) -> float:
    """Return the most CPU seconds of the server's loop between two ticks of the probe."""
    with socket.create_connection((HOST, port), TIMEOUT) as sock:
        sock.sendall(b"%f\n" % seconds)
        sock.settimeout(seconds + TIMEOUT)
        return float(sock.recv(100))


def measure(count: int, seconds: float, rounds: int, options: list[str]) -> None:
    """Measure a server without connections, and with *count*; print the figures."""
    command = ["netsrv", "serve", "--tcp", f"echo={HOST}:0", "--tcp", f"bench-probe={HOST}:0"]
    with ExitStack() as stack:
        server = stack.enter_context(serving([*command, "--log-rate", "0", *options]))
        pid, echo, probe = server.process.pid, server.port("tcp", 1), server.port("tcp", 2)
        with socket.create_connection((HOST, echo), TIMEOUT):
            longest_turn(probe, 0.1)  # everything is imported
        empty = memory_bytes(pid)["pss"]
        for number in (0, count):
            for sock in connect(echo, number):
                stack.enter_context(sock)
            costs, turns = [], []
            for _ in range(rounds):
                before = cpu_seconds(pid)
                time.sleep(seconds)
                costs.append((cpu_seconds(pid) - before) / seconds)
                turns.append(longest_turn(probe, seconds))
            print(
                f"{number} connections: {median(costs) * 1000:.1f} ms of CPU time a second "
                f"({min(costs) * 1000:.1f} to {max(costs) * 1000:.1f}), longest turn "
                f"{median(turns) * 1000:.2f} ms ({min(turns) * 1000:.2f} to "
                f"{max(turns) * 1000:.2f})",
                flush=True,
            )
        used = memory_bytes(pid)["pss"] - empty
        print(f"{used / count:.0f} bytes for each connection")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="bench.idle", description=__doc__.partition("\n")[0])
    parser.add_argument("--connections", type=int, default=18_000, help="default 18,000")
    parser.add_argument("--seconds", type=float, default=10.0, help="of one round, default 10")
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument("options", nargs="*", help="options of netsrv serve")
    options = parser.parse_args()
    most = raise_descriptors() - SPARE_DESCRIPTORS
    if options.connections > most:
        parser.error(f"there are descriptors for {most} connections only (ulimit -n)")
    print(machine())
    measure(options.connections, options.seconds, options.rounds, options.options)


if __name__ == "__main__":
    main()
