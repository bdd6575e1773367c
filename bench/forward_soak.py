"""Pass much through the service forward, and compare every byte.

Usage: python -m bench.forward_soak

100 MB both ways on one connection, 1,000 connections at once, and 10,000 UDP clients, each of which
has a flow of its own.  It takes about a minute, and fails at the first byte that is wrong.
"""

import hashlib
import random
import socket
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.measure import memory_bytes
from bench.processes import TOP, raise_descriptors
from tests.process.running import Running

HOST = "127.0.0.1"
MUCH = 100_000_000
CONNECTIONS = 1000
FLOWS = 10_000
BATCH = 200
"""UDP clients that wait for an answer at once."""
TIMEOUT = 60


def start(stack: ExitStack, transport: str) -> tuple[Running, int]:
    """Start an echo server and netsrv before it; return that, and its port."""
    options = ["--log-rate", "0", f"--{transport}", f"echo={HOST}:0"]
    echo = stack.enter_context(Running(["netsrv", "serve", *options], TOP))
    upstream = f"{HOST}:{echo.port(transport)}"
    path = Path(stack.enter_context(TemporaryDirectory())) / "forward.toml"
    settings = f'settings = {{ upstream = "{upstream}", flow_timeout = 600, max_flows = {FLOWS} }}'
    path.write_text(
        f'log_rate = 0\n[[listener]]\nservice = "forward"\n{transport} = "{HOST}:0"\n{settings}\n'
        '[listener.limits]\ndatagram_rate = "none"\n'
    )
    server = stack.enter_context(Running(["netsrv", "serve", "--config", str(path)], TOP))
    return server, server.port(transport)


def both_ways(port: int) -> None:
    """Send much, and compare what comes back meanwhile."""
    chunk = random.Random(1).randbytes(1_000_000)
    sent, received = hashlib.sha256(), hashlib.sha256()
    with socket.create_connection((HOST, port), TIMEOUT) as sock:

        def send() -> None:
            for _ in range(MUCH // len(chunk)):
                sock.sendall(chunk)
                sent.update(chunk)
            sock.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        size = 0
        while data := sock.recv(1 << 20):
            received.update(data)
            size += len(data)
        sender.join()
    assert (size, received.digest()) == (MUCH, sent.digest())


def many(port: int) -> None:
    """Have many connections at once, and a message of its own on each."""
    socks = [socket.create_connection((HOST, port), TIMEOUT) for _ in range(CONNECTIONS)]
    for turn in range(3):
        for number, sock in enumerate(socks):
            sock.sendall(b"%d:%d" % (turn, number))
        for number, sock in enumerate(socks):
            assert sock.recv(100) == b"%d:%d" % (turn, number)
    for sock in socks:
        sock.close()


def flows(port: int) -> None:
    """Have many UDP clients; each gets its own answers, in two rounds."""
    socks = []
    for _ in range(FLOWS):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.settimeout(TIMEOUT)
        sock.connect((HOST, port))
        socks.append(sock)
    for turn in range(2):
        for first in range(0, FLOWS, BATCH):
            batch = range(first, min(first + BATCH, FLOWS))
            for number in batch:
                socks[number].send(b"%d:%d" % (turn, number))
            for number in batch:
                assert socks[number].recv(100) == b"%d:%d" % (turn, number)
    for sock in socks:
        sock.close()


def main() -> int:
    """Run all, and print what each has taken."""
    raise_descriptors()
    with ExitStack() as stack:
        for name, transport, work in (
            ("100 MB both ways", "tcp", both_ways),
            ("1,000 connections", "tcp", many),
            ("10,000 UDP clients", "udp", flows),
        ):
            server, port = start(stack, transport)
            began = time.monotonic()
            work(port)
            rss = memory_bytes(server.process.pid)["rss"] / 2**20
            seconds = time.monotonic() - began
            print(f"{name}: {seconds:.1f} s, {rss:.0f} MiB in memory", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
