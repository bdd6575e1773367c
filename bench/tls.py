"""echo over TLS: CPU time and memory of netsrv, uvloop's own TLS, and Twisted's on epoll.

The server's CPU time is that of the scheduler, in nanoseconds, and the servers take turns.  The
client ends each connection with close_notify.
"""

import argparse
import os
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from tests.process.running import Running
from tests.process.starts import EPOLL, SERVE
from tests.tls.authority import Authority
from tests.tls.clients import client_context

SERVER = Path(__file__).with_name("servers") / "tls_echo.py"

SMALL, LARGE = 64, 16_384
MESSAGES = {SMALL: 6000, LARGE: 2500}
HANDSHAKES = 300
CONNECTIONS = 500

Figures = dict[str, float]


def contenders(certificate: str, key: str) -> dict[str, list[str]]:
    """Return the command of each server."""
    options = ["--tcp=echo=127.0.0.1:0", f"--tls-certificate={certificate}", f"--tls-key={key}"]
    own = [sys.executable, str(SERVER)]
    return {
        "netsrv": [*SERVE.command, *options, "--log-rate=0"],
        "uvloop": [*own, "uvloop", certificate, key],
        "netsrv on epoll": [*EPOLL.command, *options, "--log-rate=0"],
        "Twisted on epoll": [*own, "twisted", certificate, key],
    }


class Load:
    """A client of one server."""

    def __init__(self, server: Running, context: ssl.SSLContext) -> None:
        self._pid = server.process.pid
        self._port = int(server.wait_for(r"(?:^|Waiting for .*:)(\d+)(?:$| \(echo\))")[1])
        self._context = context

    @contextmanager
    def connected(self) -> Iterator[ssl.SSLSocket]:
        """Connect, and close with close_notify."""
        sock = self.connect()
        yield sock
        sock.unwrap().close()

    def connect(self) -> ssl.SSLSocket:
        """Connect, and have a byte echoed."""
        plain = socket.create_connection(("127.0.0.1", self._port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock = self._context.wrap_socket(plain, server_hostname="localhost")
        exchange(sock, b"a" * SMALL)
        return sock

    def cpu(self) -> float:
        """Return the microseconds that the server has run."""
        tasks = Path(f"/proc/{self._pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1000

    def memory(self) -> float:
        """Return the KiB that the server has in memory."""
        pages = int(Path(f"/proc/{self._pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1024

    def measure(self) -> Figures:
        """Return CPU time of a message and of a handshake, and memory of a connection."""
        figures: Figures = {}
        for size, count in MESSAGES.items():
            with self.connected() as sock:
                data = b"x" * size
                for _ in range(count // 20):
                    exchange(sock, data)
                before = self.cpu()
                for _ in range(count):
                    exchange(sock, data)
                figures[f"{size} B, us"] = (self.cpu() - before) / count
        before = self.cpu()
        for _ in range(HANDSHAKES):
            with self.connected():
                pass
        figures["connection, us"] = (self.cpu() - before) / HANDSHAKES
        time.sleep(0.5)  # the ends of the last connections
        before, open_sockets = self.memory(), []
        for _ in range(CONNECTIONS):
            open_sockets.append(self.connect())
        figures["memory, KiB"] = (self.memory() - before) / CONNECTIONS
        for sock in open_sockets:
            sock.close()
        return figures


def exchange(sock: ssl.SSLSocket, data: bytes) -> None:
    """Send *data*, and read as much."""
    sock.sendall(data)
    left = len(data)
    while left:
        left -= len(sock.recv(left))


def main() -> None:
    """Measure, and print the medians with their ratios to uvloop's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with TemporaryDirectory() as folder:
        authority = Authority(folder)
        certificate, key = map(str, authority.issue("server", "localhost"))
        context = client_context(authority)
        results: dict[str, list[Figures]] = {}
        for _ in range(rounds):
            for name, command in contenders(certificate, key).items():
                with Running(command, Path(folder)) as server:
                    results.setdefault(name, []).append(Load(server, context).measure())
    names = list(results["uvloop"][0])
    print(f"{'':<18}" + "".join(f"{name:>20}" for name in names))
    for contender, runs in results.items():
        row = ""
        for name in names:
            value = median(run[name] for run in runs)
            ratio = value / median(run[name] for run in results["uvloop"])
            row += f"{value:>12.1f} {ratio:>6.2f}x"
        print(f"{contender:<18}{row}")


if __name__ == "__main__":
    main()
