"""Independent clients of TLS, openssl, gnutls-cli, curl and stunnel, against running servers."""

import ctypes
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator

import pytest

from tests.process import needs
from tests.process.running import Running, interruptible
from tests.process.starts import EPOLL, SERVE
from tests.timeouts import CLIENT_TIMEOUT, TIMEOUT
from tests.tls.authority import Authority
from tests.tls.clients import client_context

pytestmark = pytest.mark.version_independent

PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1

CONFIGURATION = """
[[listener]]
service = "info"
tcp = "127.0.0.1:0"
[listener.tls]
certificate = ["server.pem", "other.pem"]
key = ["server.key", "other.key"]
alpn = ["netsrv/1", "http/1.1"]

[[listener]]
service = "echo"
tcp = "127.0.0.1:0"
[listener.tls]
certificate = "server.pem"
key = "server.key"

[[listener]]
service = "daytime"
tcp = "127.0.0.1:0"
[listener.tls]
certificate = "server.pem"
key = "server.key"
client_ca = "ca.pem"
crl = "crl.pem"
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority with certificates for servers and clients."""
    made = Authority(tmp_path_factory.mktemp("authority"))
    made.issue("server", "localhost", "127.0.0.1")
    made.issue("other", "other.test")
    made.issue("alice")
    made.issue("expired", days=0)
    made.revoke(made.issue("revoked")[0])
    Authority(made.folder, "stranger").issue("mallory")
    (made.folder / "netsrv.toml").write_text(CONFIGURATION)
    return made


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[Running]:
    """One server for all clients, on its own reactor."""
    command = [*SERVE.command, "--config", "netsrv.toml", "--log-rate", "1000"]
    with Running(command, authority.folder) as running:
        running.port("tcp", 3)
        yield running


def s_client(server: Running, number: int, authority: Authority, *options: str) -> str:
    """Connect with openssl to the *number*th listener, and return all that it prints."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port('tcp', number)}"]
    command += ["-CAfile", str(authority.file), *options]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        stdin=subprocess.DEVNULL,
        cwd=authority.folder,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("version", ["1_2", "1_3"])
def test_openssl_gets_the_whole_line(version, server, authority):
    """With its own version, name and protocol in it."""
    options = f"-tls{version} -ign_eof -servername other.test -alpn http/1.1".split()
    output = s_client(server, 1, authority, *options)
    assert "Verify return code: 0 (ok)" in output
    assert "subject=CN = other" in output
    session = json.loads(re.search(r'^\{"peer".*\}$', output, re.MULTILINE)[0])["tls"]
    assert session["version"] == f"TLSv{version.replace('_', '.')}"
    assert (session["server_name"], session["alpn"]) == ("other.test", "http/1.1")


@pytest.mark.parametrize("version", ["1", "1_1"])
def test_f73_openssl_is_refused_with_an_old_version(version, server, authority):
    """With the alert for it."""
    output = s_client(server, 1, authority, f"-tls{version}", "-cipher", "ALL:@SECLEVEL=0")
    assert "alert protocol version" in output


def test_openssl_without_a_common_protocol_is_served(server, authority):
    """ALPN without overlap: the connection goes on without a protocol."""
    output = s_client(server, 1, authority, "-alpn", "x", "-ign_eof")
    assert "No ALPN negotiated" in output
    assert '"alpn": null' in output


def test_f76_openssl_cannot_renegotiate(server, authority):
    """In TLS 1.2, where a client may ask for it."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port('tcp', 2)}", "-tls1_2"]
    done = subprocess.run(
        command, input="R\n", capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert "RENEGOTIATING" in done.stdout + done.stderr
    assert "no renegotiation" in done.stderr


@pytest.mark.parametrize(
    ("name", "alert"),
    [
        (None, "alert certificate required"),
        ("mallory", "alert unknown ca"),
        ("expired", "alert certificate expired"),
        ("revoked", "alert certificate revoked"),
        ("alice", ""),
    ],
)
def test_openssl_with_client_certificates(name, alert, server, authority):
    """Each that is refused gets the alert that says why."""
    options = [] if name is None else ["-cert", f"{name}.pem", "-key", f"{name}.key"]
    output = s_client(server, 3, authority, "-ign_eof", *options)
    assert ("-UTC" in output) is not bool(alert)
    assert alert in output


def test_gnutls_echoes(server, authority):
    """GnuTLS, another implementation; it ends with close_notify."""
    program = needs.tool("gnutls-cli")
    port = server.port("tcp", 2)
    done = subprocess.run(
        [program, "--x509cafile", authority.file, "-p", str(port), "localhost"],
        input="hello\n",
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert "Status: The certificate is trusted." in done.stdout
    assert "\nhello\n" in done.stdout


def test_curl_gets_the_line(server, authority):
    """As a client of HTTP 0.9 would."""
    url = f"https://localhost:{server.port('tcp', 1)}/"
    command = [needs.tool("curl"), "-s", "--http0.9", "--cacert", authority.file, url]
    line = subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=False).stdout
    assert json.loads(line)["tls"]["server_name"] == "localhost"


def test_stunnel_encrypts_for_a_plain_client(server, authority, tmp_path):
    """1 MiB of echo through stunnel as the client's side, up to the half-close."""
    program = needs.tool("stunnel")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "stunnel.conf").write_text(
        f"foreground = yes\npid =\n[echo]\nclient = yes\naccept = 127.0.0.1:{port}\n"
        f"connect = 127.0.0.1:{server.port('tcp', 2)}\nCAfile = {authority.file}\n"
        "verifyChain = yes\n"
    )
    with Running([program, str(tmp_path / "stunnel.conf")], tmp_path) as stunnel:
        stunnel.wait_for("Configuration successful")
        data = os.urandom(1 << 20)
        with socket.create_connection(("127.0.0.1", port), CLIENT_TIMEOUT) as client:
            received = b""
            for start in range(0, len(data), 1 << 15):
                client.sendall(data[start : start + (1 << 15)])
                received += client.recv(1 << 15)
            client.shutdown(socket.SHUT_WR)
            while piece := client.recv(1 << 16):
                received += piece
        assert received == data


def echo(port: int, authority: Authority) -> bytes:
    """Connect, and have five bytes echoed."""
    context = client_context(authority)
    with (
        socket.create_connection(("127.0.0.1", port), CLIENT_TIMEOUT) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as client,
    ):
        client.sendall(b"hello")
        return client.recv(5)


def refuse_executable_memory() -> None:
    """Be as under MemoryDenyWriteExecute=yes of systemd."""
    interruptible()
    ctypes.CDLL(None).prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)


def test_tls_works_without_executable_memory(authority, serve):
    """As the systemd unit has it: SNI, client certificates and the rest need no such memory."""
    tried = subprocess.run(
        [
            shutil.which("python3"),
            "-c",
            "import ctypes; print(ctypes.CDLL(None).prctl(66,0,0,0,0))",
        ],
        preexec_fn=refuse_executable_memory,
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.stdout.strip() != "1":
        pytest.skip("the kernel has no PR_SET_MDWE (Linux 6.3)")
    folder = authority.folder
    options = f"--tcp echo=127.0.0.1:0 --tls-certificate {folder}/server.pem"
    running = serve(
        *options.split(), f"--tls-key={folder}/server.key", preexec_fn=refuse_executable_memory
    )
    assert echo(running.port("tcp"), authority) == b"hello"
    assert running.stop() == 0


def test_a_daemon_renews_at_sighup(authority, serve, tmp_path):
    """Under twistd, on Twisted's reactor; and a bad renewal is told."""
    for name in ("server.pem", "server.key"):
        shutil.copy(authority.folder / name, tmp_path)
    (tmp_path / "netsrv.toml").write_text(
        "[[listener]]\nservice = 'echo'\ntcp = '127.0.0.1:0'\n[listener.tls]\n"
        "certificate = 'server.pem'\nkey = 'server.key'\n"
    )
    running = serve("--config", "netsrv.toml", start=EPOLL)
    port = running.port("tcp")
    assert echo(port, authority) == b"hello"
    shutil.copy(authority.folder / "other.pem", tmp_path / "server.pem")
    running.process.send_signal(1)
    running.wait_for("server.key: does not fit the certificate")
    running.wait_for("The certificates are not renewed")
    assert echo(port, authority) == b"hello"
    shutil.copy(authority.folder / "other.key", tmp_path / "server.key")
    running.process.send_signal(1)
    running.wait_for("Renewed 1 certificate")
    with pytest.raises(ssl.SSLCertVerificationError):
        echo(port, authority)


def test_f78_the_start_fails_with_one_line(authority, tmp_path):
    """For each file that cannot be used; nothing is opened."""
    folder = authority.folder
    options = ["--tcp=127.0.0.1:0", f"--tls-certificate={folder}/server.pem"]
    command = [*SERVE.command, *options, f"--tls-key={folder}/other.key"]
    with Running(command, tmp_path) as running:
        assert running.wait() != 0
    assert running.lines == [
        f"netsrv: tcp 127.0.0.1:0: key {folder}/other.key: does not fit the certificate"
    ]


def test_f80_a_readable_key_is_in_the_log(authority, serve, tmp_path):
    """At the start, as a warning."""
    key = tmp_path / "open.key"
    shutil.copy(authority.folder / "server.key", key)
    key.chmod(0o644)
    running = serve(
        "--tcp=127.0.0.1:0", f"--tls-certificate={authority.folder}/server.pem", f"--tls-key={key}"
    )
    running.wait_for(r"warn: key .*/open\.key: every user can read it \(mode 0644\)")


def test_the_access_log_has_the_session(authority, serve, tmp_path):
    """With those facts that are known."""
    folder = authority.folder
    options = (
        f"--tcp echo=127.0.0.1:0 --access-log access.log --tls-certificate {folder}/server.pem"
    )
    running = serve(*options.split(), f"--tls-key={folder}/server.key")
    assert echo(running.port("tcp"), authority) == b"hello"
    running.stop()
    [line] = (tmp_path / "access.log").read_text().splitlines()
    session = json.loads(line)["tls"]
    assert session.pop("cipher")
    assert session == {"version": "TLSv1.3", "server_name": "localhost", "resumed": False}


def test_a_server_of_the_fixture_speaks_tls(authority, netsrv_server):
    """With the table of a file, or with its keys; the records have the plain bytes."""
    certificate, key = (str(authority.folder / f"server.{kind}") for kind in ("pem", "key"))
    for options in (
        {"tls": {"certificate": certificate, "key": key}},
        {"tls_certificate": certificate, "tls_key": key},
    ):
        server = netsrv_server("echo", **options)
        assert echo(server.port, authority) == b"hello"
        assert server.received == [b"hello"]
