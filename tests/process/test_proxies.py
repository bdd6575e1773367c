"""HAProxy, nginx, stunnel and curl in front of the running server, and the vectors."""

import json
import re
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from netsrv.proxy_protocol import make_v1
from tests.clients import free_port, read_all, tcp
from tests.process import needs
from tests.process.running import Running, killed_at_end
from tests.process.starts import EPOLL, SERVE
from tests.proxy_protocol.vectors import OUR_CHOICES, VECTORS
from tests.timeouts import TIMEOUT
from tests.tls.authority import Authority

pytestmark = pytest.mark.version_independent


CONFIGURATION = """
[status]
address = "127.0.0.1:0"

[[listener]]
service = "info"
tcp = "127.0.0.1:0"
[listener.proxy_protocol]
from = ["127.0.0.1"]

[[listener]]
service = "echo"
tcp = "127.0.0.1:0"
[listener.proxy_protocol]
from = ["127.0.0.1"]

[[listener]]
service = "info"
tcp = "127.0.0.1:0"
[listener.proxy_protocol]
from = ["127.0.0.1"]
[listener.tls]
certificate = "alice.pem"
key = "alice.key"
"""


@dataclass(frozen=True)
class Served:
    """The ports of a server that trusts the proxies of this machine."""

    status: int
    info: int
    echo: int
    tls: int


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority with a certificate."""
    authority = Authority(tmp_path_factory.mktemp("authority"))
    authority.issue("alice")
    (authority.folder / "netsrv.toml").write_text(CONFIGURATION)
    return authority


@pytest.fixture(scope="module", params=[SERVE, EPOLL], ids=["uvloop", "epoll"])
def served(request: pytest.FixtureRequest, authority: Authority) -> Iterator[Served]:
    """One server for all proxies, on each reactor."""
    command = [*request.param.command, "--config", "netsrv.toml", "--log-rate", "0"]
    with Running(command, authority.folder) as running:
        status = running.wait_for(r"Serving status on http://127\.0\.0\.1:(\d+)")[1]
        yield Served(int(status), *(running.port("tcp", number) for number in (1, 2, 3)))


@contextmanager
def haproxy(tmp_path: Path, port: int, server: str, bind: str = "") -> Iterator[int]:
    """Run HAProxy with the options *server* towards the server; yield its port."""
    front = free_port()
    (tmp_path / "haproxy.cfg").write_text(f"""
defaults
    mode tcp
    timeout connect 10s
    timeout client 30s
    timeout server 30s
listen front
    bind 127.0.0.1:{front} {bind}
    unique-id-format one-two-three
    server one 127.0.0.1:{port} {server}
""")
    with running(front, needs.tool("haproxy"), "-db", "-f", str(tmp_path / "haproxy.cfg")):
        yield front


@contextmanager
def running(front: int, *command: str) -> Iterator[None]:
    """Run a proxy in the foreground until it listens on *front*, and end it afterwards."""
    with killed_at_end(command, stderr=subprocess.PIPE, text=True) as proxy:
        while True:
            try:
                socket.create_connection(("127.0.0.1", front), 1).close()
                break
            except ConnectionRefusedError:
                assert proxy.poll() is None, proxy.stderr and proxy.stderr.read()
        yield
        proxy.terminate()
        proxy.wait(TIMEOUT)


def ask(port: int) -> tuple[dict[str, Any], str]:
    """Return the answer of ``info`` by way of a proxy, and our own address."""
    with tcp(port) as sock:
        host, own = sock.getsockname()
        return json.loads(read_all(sock)), f"{host}:{own}"


def ask_with_tls(port: int, authority: Authority, *options: str) -> dict[str, Any]:
    """Return the answer of ``info`` to openssl's client, which has a certificate."""
    pair = [
        "-cert",
        str(authority.folder / "alice.pem"),
        "-key",
        str(authority.folder / "alice.key"),
    ]
    done = subprocess.run(
        [
            *(needs.tool("openssl"), "s_client", "-quiet", "-connect", f"127.0.0.1:{port}"),
            *(*pair, *options),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    return dict(json.loads(done.stdout))


def certificate_of(authority: Authority) -> Path:
    """Return a file with the certificate and its key."""
    both = authority.folder / "both.pem"
    texts = [(authority.folder / f"alice.{kind}").read_text() for kind in ("pem", "key")]
    both.write_text("".join(texts))
    return both


@pytest.mark.parametrize("option", ["send-proxy", "send-proxy-v2"])
def test_haproxy_tells_the_client(tmp_path, served, option):
    """By a header of either version."""
    with haproxy(tmp_path, served.info, option) as front:
        answer, own = ask(front)
    assert answer["peer"] == own
    assert answer["local"] == f"127.0.0.1:{front}"
    assert answer["proxy"]["version"] == (1 if option == "send-proxy" else 2)


def test_haproxy_tells_of_tls(tmp_path, served, authority):
    """Version, cipher, the client's common name, the name asked for, and a checksum."""
    options = "send-proxy-v2-ssl-cn proxy-v2-options crc32c,authority,unique-id,ssl-cipher"
    bind = f"ssl crt {certificate_of(authority)} alpn netsrv/1 verify optional"
    with haproxy(tmp_path, served.info, options, f"{bind} ca-file {authority.file}") as front:
        answer = ask_with_tls(front, authority, "-servername", "a.example", "-alpn", "netsrv/1")
    header = answer["proxy"]
    assert header["ssl_version"].startswith("TLSv1.")
    assert (header["ssl_cn"], header["ssl_verify"], header["ssl_client"] & 3) == ("alice", 0, 3)
    assert (header["authority"], header["unique_id"]) == ("a.example", "one-two-three")
    assert (header["alpn"], bool(header["ssl_cipher"])) == ("netsrv/1", True)


def test_haproxy_passes_tls_on(tmp_path, served, authority):
    """Its header comes before the ClientHello of the client: netsrv knows address and session."""
    with haproxy(tmp_path, served.tls, "send-proxy-v2 proxy-v2-options crc32c") as front:
        answer = ask_with_tls(front, authority)
    assert answer["tls"]["version"] == "TLSv1.3"
    assert answer["local"] == f"127.0.0.1:{front}"


def test_haproxy_checks_the_health(tmp_path, served):
    """By LOCAL, with ``check-send-proxy``: the server is up, and nothing is rejected."""
    rejected = proxy_headers(served, "proxy_header")
    local = proxy_headers(served, "local")
    options = "send-proxy-v2 check inter 50ms check-send-proxy"
    with haproxy(tmp_path, served.echo, options):
        deadline = time.monotonic() + TIMEOUT
        while proxy_headers(served, "local") == local:
            assert time.monotonic() < deadline
    assert proxy_headers(served, "proxy_header") == rejected


def test_nginx_tells_the_client(tmp_path, served):
    """By a header of version 1, from its module for streams."""
    module = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
    front = free_port()
    load = f"load_module {module};" if module.exists() else ""
    (tmp_path / "nginx.conf").write_text(f"""
{load}
daemon off;
pid {tmp_path}/nginx.pid;
error_log stderr;
events {{ }}
stream {{
    server {{
        listen 127.0.0.1:{front};
        proxy_pass 127.0.0.1:{served.info};
        proxy_protocol on;
    }}
}}
""")
    program = needs.tool("nginx")
    if not module.exists() and b"--with-stream" not in version_of(program):
        pytest.skip("nginx has no module for streams (libnginx-mod-stream)")
    with running(front, program, "-e", "stderr", "-c", str(tmp_path / "nginx.conf")):
        answer, own = ask(front)
    assert (answer["peer"], answer["proxy"]["version"]) == (own, 1)


def version_of(program: str) -> bytes:
    """Return what nginx says about how it was built."""
    done = subprocess.run([program, "-V"], capture_output=True, timeout=TIMEOUT, check=True)
    return done.stderr


def test_stunnel_tells_the_client(tmp_path, served, authority):
    """By a header of version 1, after it has ended TLS."""
    front = free_port()
    (tmp_path / "stunnel.conf").write_text(f"""
foreground = quiet
pid =
[front]
accept = 127.0.0.1:{front}
connect = 127.0.0.1:{served.info}
cert = {certificate_of(authority)}
protocol = proxy
""")
    with running(front, needs.tool("stunnel"), str(tmp_path / "stunnel.conf")):
        answer = ask_with_tls(front, authority)
    assert (answer["local"], answer["proxy"]["version"]) == (f"127.0.0.1:{front}", 1)


def test_curl_tells_its_own_address(served):
    """curl sends a header of version 1 before its request, which ``info`` does not read."""
    curl = [needs.tool("curl"), "--silent", "--haproxy-protocol", "--http0.9"]
    done = subprocess.run(
        [*curl, "--local-port", "40000-60000", f"http://127.0.0.1:{served.info}/"],
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    answer = json.loads(done.stdout)
    assert answer["peer"].startswith("127.0.0.1:")
    assert answer["proxy"]["version"] == 1


def metrics(served: Served) -> str:
    """Return the metrics of the server."""
    with urlopen(f"http://127.0.0.1:{served.status}/metrics", timeout=TIMEOUT) as answer:
        return str(answer.read().decode())


def proxy_headers(served: Served, result: str) -> float:
    """Return how many headers the echo listener has had with a result."""
    pattern = (
        rf'netsrv_proxy_headers_total{{[^}}]*:{served.echo}[^}}]*result="{result}"[^}}]*}} (\S+)'
    )
    return sum(map(float, re.findall(pattern, metrics(served))))


def test_a_connection_without_its_header_is_pending(served):
    """The metrics count it by stage, until the header comes."""
    pending = (
        rf'netsrv_connections_pending{{[^}}]*:{served.echo}[^}}]*stage="proxy"[^}}]*}} 1(\.0)?$'
    )
    deadline = time.monotonic() + TIMEOUT
    with tcp(served.echo) as sock:
        while not re.search(pending, metrics(served), re.MULTILINE):
            assert time.monotonic() < deadline
        sock.sendall(make_v1(("203.0.113.7", 1), ("192.0.2.9", 7)) + b"hello")
        assert sock.recv(100) == b"hello"
        assert not re.search(pending, metrics(served), re.MULTILINE)


def exchange(port: int, vector: dict[str, Any], segments: Iterable[bytes]) -> bytes:
    """Send a vector and FIN, and return the answer."""
    host = "127.0.0.1" if vector.get("trusted", True) else "127.0.0.2"
    with socket.create_connection(("127.0.0.1", port), TIMEOUT, (host, 0)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError):  # the server has closed meanwhile
            for segment in segments:
                sock.sendall(segment)
            sock.shutdown(socket.SHUT_WR)
        received = b""
        with suppress(ConnectionResetError):  # of bytes that came after the close
            while data := sock.recv(1 << 16):
                received += data
        return received


@pytest.mark.parametrize("way", ["whole", "byte by byte"])
def test_f48_the_vectors(served, way):
    """In one segment and byte by byte: the payload comes back, the metrics count each header."""
    accepted, wrong = 0, []
    results = ("accepted", "local")
    served_before = sum(proxy_headers(served, result) for result in results)
    for vector in VECTORS:
        data = vector["bytes"]
        if way == "whole":
            segments = [data]
        elif len(data) > 70:
            continue
        else:
            segments = [data[index : index + 1] for index in range(len(data))]
        answer = exchange(served.echo, vector, segments)
        leftover = vector.get("leftover", 0) if vector["verdict"] == "accept" else 0
        accepted += vector["verdict"] == "accept"
        if answer != data[len(data) - leftover :] and vector["name"] not in OUR_CHOICES:
            wrong.append(vector["name"])
    assert wrong == []
    served_now = sum(proxy_headers(served, result) for result in results)
    assert served_now - served_before == accepted
