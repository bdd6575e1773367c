"""HAProxy, nginx and curl in front of the running server."""

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.clients import free_port, read_all, tcp
from tests.process import needs
from tests.process.running import Running, killed_at_end
from tests.process.starts import SERVE
from tests.timeouts import TIMEOUT

pytestmark = pytest.mark.version_independent


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a server with ``info`` that trusts the proxies of this machine."""
    options = ["--tcp=info=127.0.0.1:0", "--proxy-protocol=127.0.0.1"]
    cwd = tmp_path_factory.mktemp("proxies")
    with Running([*SERVE.command, *options], cwd) as running:
        yield int(running.wait_for(r"Waiting for connections on tcp \S+:(\d+)")[1])


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


@pytest.mark.parametrize("option", ["send-proxy", "send-proxy-v2"])
def test_haproxy_tells_the_client(tmp_path, port, option):
    """By a header of either version."""
    with haproxy(tmp_path, port, option) as front:
        answer, own = ask(front)
    assert answer["peer"] == own
    assert answer["local"] == f"127.0.0.1:{front}"
    assert answer["proxy"]["version"] == (1 if option == "send-proxy" else 2)


def test_haproxy_tells_of_tls(tmp_path, port):
    """Version, cipher, the client's common name, the name asked for, and a checksum."""
    openssl = needs.tool("openssl")
    pem = tmp_path / "both.pem"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-subj", "/CN=alice", "-keyout", str(pem), "-out", str(tmp_path / "c.pem")),
        ],
        check=True,
        capture_output=True,
        timeout=TIMEOUT,
    )
    certificate = (tmp_path / "c.pem").read_text()
    pem.write_text(pem.read_text() + certificate)
    options = "send-proxy-v2-ssl-cn proxy-v2-options crc32c,authority,unique-id,ssl-cipher"
    bind = f"ssl crt {pem} verify optional ca-file {tmp_path / 'c.pem'}"
    with haproxy(tmp_path, port, options, bind) as front:
        done = subprocess.run(
            [
                *(openssl, "s_client", "-quiet", "-connect", f"127.0.0.1:{front}"),
                *("-servername", "a.example", "-cert", str(pem), "-key", str(pem)),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
    header = json.loads(done.stdout)["proxy"]
    assert header["ssl_version"].startswith("TLSv1.")
    assert (header["ssl_cn"], header["ssl_verify"], header["ssl_client"] & 3) == ("alice", 0, 3)
    assert (header["authority"], header["unique_id"]) == ("a.example", "one-two-three")
    assert header["ssl_cipher"]


def test_nginx_tells_the_client(tmp_path, port):
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
        proxy_pass 127.0.0.1:{port};
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


def test_curl_tells_its_own_address(port):
    """curl sends a header of version 1 before its request, which ``info`` does not read."""
    curl = [needs.tool("curl"), "--silent", "--haproxy-protocol", "--http0.9"]
    done = subprocess.run(
        [*curl, "--local-port", "40000-60000", f"http://127.0.0.1:{port}/"],
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    answer = json.loads(done.stdout)
    assert answer["peer"].startswith("127.0.0.1:")
    assert answer["proxy"]["version"] == 1
