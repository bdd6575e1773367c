"""echo over TLS: CPU time and memory of netsrv, uvloop's own TLS, and Twisted's on epoll.

Where they are installed, stunnel and nginx are measured too, each before a netsrv without TLS,
with the CPU time and the memory of both.  CPU time is that of the scheduler, in nanoseconds, and
the servers take turns.  The client ends each connection with close_notify.
"""

import argparse
import os
import shutil
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from tests.process.running import Running, free_port
from tests.process.starts import EPOLL, SERVE
from tests.tls.authority import Authority
from tests.tls.clients import client_context

SERVER = Path(__file__).with_name("servers") / "tls_echo.py"

SMALL, LARGE = 64, 16_384
MESSAGES = {SMALL: 6000, LARGE: 2500}
HANDSHAKES = 300
CONNECTIONS = 500

MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"
"""Debian's nginx needs it for TCP, from libnginx-mod-stream."""

STUNNEL = """
foreground = yes
pid =
debug = err
[echo]
accept = 127.0.0.1:{port}
connect = {backend}
cert = {certificate}
key = {key}
TIMEOUTclose = 1
"""

NGINX = """
load_module {module};
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ worker_connections 4096; }}
stream {{
    server {{
        listen 127.0.0.1:{port} ssl backlog=1024;
        proxy_pass unix:{backend};
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.2 TLSv1.3;
        tcp_nodelay on;
    }}
}}
"""

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


PROXIES = {"stunnel": (STUNNEL, ["stunnel"]), "nginx": (NGINX, ["nginx", "-c"])}
"""The configuration and the command of each program that ends TLS before netsrv."""

PORT = r"(?:^|Waiting for .*:)(\d+)(?:$| \(echo\))"


@contextmanager
def proxied(
    name: str, folder: Path, certificate: str, key: str
) -> Iterator[tuple[list[Running], int]]:
    """Run a program that ends TLS before a netsrv without; yield both, and the port."""
    template, command = PROXIES[name]
    backend, file, port = folder / "echo.sock", folder / f"{name}.conf", free_port()
    file.write_text(
        template.format(
            port=port,
            backend=backend,
            certificate=certificate,
            key=key,
            folder=folder,
            module=MODULE,
        )
    )
    with ExitStack() as stack:
        plain = [*SERVE.command, f"--unix=echo={backend}", "--log-rate=0"]
        server = stack.enter_context(Running(plain, folder))
        server.wait_for("Waiting for connections")
        proxy = stack.enter_context(
            Running([shutil.which(name) or name, *command[1:], str(file)], folder)
        )
        wait_for_port(port)
        yield [server, proxy], port


def wait_for_port(port: int) -> None:
    """Return when a program listens on a port."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise TimeoutError(f"nothing listens on port {port}")


class Load:
    """A client of one server."""

    def __init__(self, servers: list[Running], port: int, context: ssl.SSLContext) -> None:
        self._pids = [server.process.pid for server in servers]
        self._port = port
        self._context = context

    @contextmanager
    def connected(self) -> Iterator[ssl.SSLSocket]:
        """Connect, and close with close_notify."""
        with self.connect() as sock:
            yield sock
            with suppress(ssl.SSLEOFError):  # nginx answers with FIN alone
                sock.unwrap()

    def connect(self) -> ssl.SSLSocket:
        """Connect, and have a byte echoed."""
        plain = socket.create_connection(("127.0.0.1", self._port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock = self._context.wrap_socket(plain, server_hostname="localhost")
        exchange(sock, b"a" * SMALL)
        return sock

    def cpu(self) -> float:
        """Return the microseconds that the server has run."""
        tasks = (task for pid in self._pids for task in Path(f"/proc/{pid}/task").iterdir())
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1000

    def memory(self) -> float:
        """Return the KiB that the server has in memory."""
        files = (Path(f"/proc/{pid}/statm") for pid in self._pids)
        pages = sum(int(file.read_text().split()[1]) for file in files)
        return pages * os.sysconf("SC_PAGE_SIZE") / 1024

    def measure(self) -> Figures:
        """Return CPU time of a message and of a handshake, and memory of a connection."""
        figures: Figures = {}
        with self.connected() as sock:  # the allocator adapts to the buffers of uvloop's TLS
            for _ in range(100):
                exchange(sock, b"x" * LARGE)
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
                    port = int(server.wait_for(PORT)[1])
                    figures = Load([server], port, context).measure()
                    results.setdefault(name, []).append(figures)
            for name in PROXIES:
                if shutil.which(name):
                    with proxied(name, Path(folder), certificate, key) as (servers, port):
                        figures = Load(servers, port, context).measure()
                        results.setdefault(f"{name}, netsrv", []).append(figures)
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
